-- An item of three batches: one of more would cost more, in a shop of any size.
SELECT "itemId" FROM public.stock_batches GROUP BY "itemId" HAVING count(*) = 3 ORDER BY md5("itemId") LIMIT 1;
