-- The item with id $1 and its first 50 batches, oldest first, as JSON.
SELECT row_to_json(shown) AS item
FROM (
    SELECT id, name, json_build_object('edges', (
        SELECT coalesce(json_agg(edge), '[]')
        FROM (
            SELECT batch AS node
            FROM (
                SELECT own.id, own.quantity, own.status,
                       CASE WHEN place.id IS NOT NULL THEN json_build_object('name', place.name) END AS location
                FROM public.stock_batches AS own
                LEFT JOIN public.locations AS place ON place.id = own."locationId"
                WHERE own."itemId" = item.id
                ORDER BY own."createdAt", own.id LIMIT 50
            ) AS batch
        ) AS edge
    )) AS batches
    FROM public.items AS item WHERE id = $1::text
) AS shown;
