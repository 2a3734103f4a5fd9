-- What the migration's recipe asks: every item with its quantity, its batches' sum, and whether they agree.
SELECT result, count(*) AS items, sum(difference) AS difference
FROM (
    SELECT i.id, i.name, i."quantityInStock", coalesce(sum(b.quantity), 0) AS "batchTotal",
           coalesce(sum(b.quantity), 0) - i."quantityInStock" AS difference,
           CASE WHEN coalesce(sum(b.quantity), 0) = i."quantityInStock" THEN 'MATCH' ELSE 'MISMATCH' END AS result
    FROM public.items i LEFT JOIN public.stock_batches b ON b."itemId" = i.id
    GROUP BY i.id, i.name, i."quantityInStock"
) AS compared
GROUP BY result;
