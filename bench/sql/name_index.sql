-- Whether some index serves the order of names and then ids, for all rows.
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_index
    WHERE indrelid = 'public.items'::regclass AND indisvalid AND indpred IS NULL
      AND pg_catalog.pg_get_indexdef(indexrelid) ~ ' USING btree \(name, id[,)]'
);
