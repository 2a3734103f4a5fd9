-- NAME: the item at position $1, counted from 0, of an order.
SELECT id, name FROM public.items ORDER BY name, id OFFSET $1::bigint LIMIT 1;

-- CREATED_AT
SELECT id, name FROM public.items ORDER BY "createdAt", id OFFSET $1::bigint LIMIT 1;

-- TOTAL_QUANTITY
SELECT id, name
FROM (
    SELECT item.id, item.name,
           coalesce(CASE WHEN own.batches > 0 OR EXISTS (
               SELECT FROM stockshift.copy_ledger WHERE item_id = item.id
           ) THEN own.quantity ELSE item."quantityInStock" END, 0) AS total
    FROM public.items AS item
    CROSS JOIN LATERAL (
        SELECT count(*) AS batches, sum(quantity) AS quantity FROM public.stock_batches WHERE "itemId" = item.id
    ) AS own
) AS reckoned
ORDER BY total, id OFFSET $1::bigint LIMIT 1;
