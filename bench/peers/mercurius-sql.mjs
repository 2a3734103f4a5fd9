// Mercurius over the floor's hand-written statements: their JSON is read and completed.
import { readFileSync } from "node:fs";
import { rows, serve } from "./mercurius.mjs";

const statement = (file) => readFileSync(new URL(`../sql/${file}`, import.meta.url), "utf8");
const PAGE = statement("page.sql");
const ITEM = statement("item.sql");

await serve({
  Query: {
    items: async (_, { first, afterName, afterId }) => (await rows("page", PAGE, [afterName, afterId, first]))[0],
    item: async (_, { id }) => (await rows("item", ITEM, [id]))[0]?.item,
  },
});
