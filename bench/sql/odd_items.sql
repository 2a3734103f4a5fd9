-- Items that answer otherwise than most: never copied, and sold out with their batches deleted; a few of each.
(SELECT id FROM public.items AS item
WHERE NOT EXISTS (SELECT FROM stockshift.copy_ledger WHERE item_id = item.id)
ORDER BY md5(id) LIMIT 5)
UNION ALL
(SELECT id FROM public.items AS item
WHERE EXISTS (SELECT FROM stockshift.copy_ledger WHERE item_id = item.id)
  AND NOT EXISTS (SELECT FROM public.stock_batches WHERE "itemId" = item.id)
ORDER BY md5(id) LIMIT 5);
