-- Whether some index serves the order of names.
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_index AS index
    JOIN pg_catalog.pg_attribute AS attribute ON attribute.attrelid = index.indrelid
    WHERE index.indrelid = 'public.items'::regclass AND index.indisvalid
      AND attribute.attname = 'name' AND attribute.attnum = index.indkey[0]
);
