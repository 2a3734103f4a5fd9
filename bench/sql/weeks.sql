-- The shop sells one unit of one item in twenty, which its opening batch follows.
UPDATE public.items SET "quantityInStock" = "quantityInStock" - 1
WHERE hashtext(id) % 20 = 0 AND "quantityInStock" > 0;

-- One item in ten has received a batch since.
INSERT INTO public.stock_batches (id, quantity, status, "costPerUnitUSD", "updatedAt", "itemId", "locationId")
SELECT gen_random_uuid()::text, 5, 'Arrived', coalesce(i."costPerUnitUSD", 1), now(), i.id, i."locationId"
FROM public.items i JOIN stockshift.copy_ledger l ON l.item_id = i.id WHERE hashtext(i.id) % 10 = 1;
