-- What the shop has beside the rows that the migration made. Every die is a hash: the same rows in every run.

-- Twenty locations in all.
INSERT INTO public.locations (id, name, "isActive", "createdAt", "updatedAt", "companyId")
SELECT 'bench-location-' || n, 'Rack Hall ' || n, true, '2026-01-01', '2026-01-01', 'demo-company-' || 1 + n % 3
FROM generate_series(1, 8) AS n;

-- Batches that arrived after the migration: none to four for each item, two on average.
INSERT INTO public.stock_batches (
    id, quantity, status, "costPerUnitUSD", "freightCostUSD", "orderDate", "createdAt", "updatedAt", "itemId",
    "locationId")
WITH place AS (
    SELECT "companyId", array_agg(id ORDER BY id) AS ids FROM public.locations GROUP BY "companyId"
), die AS (
    SELECT item.*, number, abs(hashtextextended(item.id || number, 0)) AS die
    FROM public.items AS item
    CROSS JOIN LATERAL generate_series(1, abs(hashtext(item.id)) % 5) AS number
)
SELECT md5('batch ' || die.id || number), 1 + die % 90,
       (enum_range(NULL::public."Status"))[1 + die / 128 % 4], "costPerUnitUSD", "freightCostUSD" / 2,
       "orderDate" + number * INTERVAL '9 days', "createdAt" + number * INTERVAL '10 days', "updatedAt", die.id,
       CASE WHEN die / 1024 % 16 > 0 THEN place.ids[1 + die / 16384 % cardinality(place.ids)] END
FROM die JOIN place USING ("companyId");

-- Items that were sold out, and their batches deleted.
DELETE FROM public.stock_batches AS batch USING public.items AS item
WHERE batch."itemId" = item.id AND abs(hashtext('gone ' || item.id)) % 200 = 0;

-- Items that came after the copy, of the shop's old application: same names, so that ids have ties to break.
INSERT INTO public.items (
    id, name, status, "quantityInStock", "costPerUnitUSD", "freightCostUSD", "sellingPriceSRD", "createdAt",
    "updatedAt", "companyId", "locationId")
SELECT md5('legacy ' || id), name, status, "quantityInStock", "costPerUnitUSD", "freightCostUSD", "sellingPriceSRD",
       "createdAt", "updatedAt", "companyId", "locationId"
FROM public.items ORDER BY md5(id) LIMIT :legacy;
