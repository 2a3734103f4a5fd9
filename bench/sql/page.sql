-- A page of items in the order of names behind ($1, $2), :size of them: the edges of a connection as JSON.
--
-- The size is written into the statement, one for each size: with a parameter in its place PostgreSQL would expect
-- so much of a generic plan that it planned every execution anew, for twice the work.
--
-- The legacy columns answer for an item that has no batch and was never copied (R1). The ledger is asked only for
-- items without batches: CASE and AND leave the subquery alone for all others.
SELECT coalesce(json_agg(edge), '[]') AS edges
FROM (
    SELECT item AS node
    FROM (
        SELECT id, name,
               CASE WHEN legacy THEN coalesce("quantityInStock", 0) ELSE coalesce(quantity, 0) END AS "totalQuantity",
               CASE WHEN legacy THEN array_remove(ARRAY[status], NULL) ELSE coalesce(statuses, '{}') END AS statuses,
               CASE WHEN legacy THEN (
                   SELECT coalesce(json_agg(place), '[]')
                   FROM (SELECT name, id FROM public.locations WHERE id = "locationId") AS place
               ) ELSE coalesce(locations, '[]') END AS locations
        FROM (
            SELECT page.*, own.quantity, own.statuses, own.locations,
                   own.batches = 0 AND NOT EXISTS (
                       SELECT FROM stockshift.copy_ledger WHERE item_id = page.id
                   ) AS legacy
            FROM (
                SELECT id, name, "quantityInStock", status, "locationId" FROM public.items
                WHERE (name, id) > ($1::text, $2::text) ORDER BY name, id LIMIT :size
            ) AS page
            CROSS JOIN LATERAL (
                SELECT count(*) AS batches, sum(batch.quantity) AS quantity,
                       array_agg(DISTINCT batch.status) AS statuses,
                       json_agg(DISTINCT place) FILTER (WHERE place.id IS NOT NULL) AS locations
                FROM public.stock_batches AS batch
                LEFT JOIN (SELECT name, id FROM public.locations) AS place ON place.id = batch."locationId"
                WHERE batch."itemId" = page.id
            ) AS own
            OFFSET 0
        ) AS line
    ) AS item
) AS edge;
