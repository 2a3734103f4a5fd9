-- A shop that has been selling for a while: one row in five was written anew, so that pages have room for the next one.
UPDATE public.items SET "updatedAt" = "updatedAt" WHERE abs(hashtext(id)) % 5 = 0;

-- Items by number, for pgbench to draw from.
CREATE SCHEMA bench;

CREATE TABLE bench.id AS SELECT row_number() OVER (ORDER BY md5(id))::int AS number, id FROM public.items;

ALTER TABLE bench.id ADD PRIMARY KEY (number);
