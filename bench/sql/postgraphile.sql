-- What PostGraphile is given: functions as computed columns, as its manual advises, and hand-tuned ones beside them.

CREATE FUNCTION public.items_on_batches(item public.items) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM public.stock_batches WHERE "itemId" = item.id)
        OR EXISTS (SELECT FROM stockshift.copy_ledger WHERE item_id = item.id)
$$;

CREATE FUNCTION public.items_total_quantity(item public.items) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT coalesce(CASE WHEN public.items_on_batches(item)
        THEN (SELECT sum(quantity) FROM public.stock_batches WHERE "itemId" = item.id)
        ELSE item."quantityInStock" END, 0)
$$;

CREATE FUNCTION public.items_statuses(item public.items) RETURNS public."Status"[] LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN public.items_on_batches(item)
        THEN ARRAY(SELECT DISTINCT status FROM public.stock_batches WHERE "itemId" = item.id ORDER BY status)
        ELSE array_remove(ARRAY[item.status], NULL) END
$$;

CREATE FUNCTION public.items_locations(item public.items) RETURNS SETOF public.locations LANGUAGE sql STABLE AS $$
    SELECT * FROM public.locations
    WHERE id IN (SELECT "locationId" FROM public.stock_batches WHERE "itemId" = item.id)
       OR (id = item."locationId" AND NOT public.items_on_batches(item))
    ORDER BY name, id
$$;

COMMENT ON FUNCTION public.items_locations IS
    '@behavior -typeField:resource:connection +typeField:resource:list';

CREATE FUNCTION public.items_batches(item public.items) RETURNS SETOF public.stock_batches LANGUAGE sql STABLE AS $$
    SELECT * FROM public.stock_batches WHERE "itemId" = item.id ORDER BY "createdAt", id
$$;

CREATE FUNCTION public.items_behind(after_name text, after_id text) RETURNS SETOF public.items LANGUAGE sql STABLE AS $$
    SELECT * FROM public.items WHERE (name, id) > (after_name, after_id) ORDER BY name, id
$$;

CREATE TYPE public.tuned_place AS (id text, name text);

CREATE TYPE public.tuned_item AS (
    id text, name text, total_quantity bigint, statuses public."Status"[], locations public.tuned_place[]);

CREATE TYPE public.tuned_batch AS (id text, quantity int, status public."Status", location public.tuned_place);

CREATE TYPE public.tuned_stock AS (id text, name text, batches public.tuned_batch[]);

CREATE FUNCTION public.tuned_items_behind(after_name text, after_id text, size int)
RETURNS SETOF public.tuned_item LANGUAGE sql STABLE AS $$
    SELECT id, name,
           CASE WHEN legacy THEN coalesce("quantityInStock", 0) ELSE coalesce(quantity, 0) END,
           CASE WHEN legacy THEN array_remove(ARRAY[status], NULL) ELSE coalesce(statuses, '{}') END,
           CASE WHEN legacy THEN ARRAY(
               SELECT (place.id, place.name)::public.tuned_place FROM public.locations AS place
               WHERE place.id = "locationId"
           ) ELSE ARRAY(
               SELECT (place.id, place.name)::public.tuned_place FROM public.locations AS place
               WHERE place.id = ANY (places) ORDER BY place.name, place.id
           ) END
    FROM (
        SELECT page.*, own.quantity, own.statuses, own.places,
               own.batches = 0 AND NOT EXISTS (
                   SELECT FROM stockshift.copy_ledger WHERE item_id = page.id
               ) AS legacy
        FROM (
            SELECT id, name, "quantityInStock", status, "locationId" FROM public.items
            WHERE (name, id) > (after_name, after_id) ORDER BY name, id LIMIT size
        ) AS page
        CROSS JOIN LATERAL (
            SELECT count(*) AS batches, sum(batch.quantity) AS quantity, array_agg(DISTINCT batch.status) AS statuses,
                   array_agg(DISTINCT batch."locationId") AS places
            FROM public.stock_batches AS batch WHERE batch."itemId" = page.id
        ) AS own
        OFFSET 0
    ) AS line
$$;

COMMENT ON FUNCTION public.tuned_items_behind IS
    '@behavior -queryField:resource:connection +queryField:resource:list';

CREATE FUNCTION public.tuned_item_with_batches(item_id text) RETURNS public.tuned_stock LANGUAGE sql STABLE AS $$
    SELECT item.id, item.name, ARRAY(
        SELECT (own.id, own.quantity, own.status, CASE WHEN place.id IS NOT NULL
                   THEN (place.id, place.name)::public.tuned_place END)::public.tuned_batch
        FROM public.stock_batches AS own
        LEFT JOIN public.locations AS place ON place.id = own."locationId"
        WHERE own."itemId" = item.id
        ORDER BY own."createdAt", own.id LIMIT 50
    )
    FROM public.items AS item WHERE item.id = item_id
$$;
