// Mercurius over the floor's hand-written statements: their JSON is read and completed. Like the floor it has a
// statement for each size of page, and is started with PGOPTIONS that make a session plan each of them once.
import { readFileSync } from "node:fs";
import { rows, serve } from "./mercurius.mjs";

const statement = (file) => readFileSync(new URL(`../sql/${file}`, import.meta.url), "utf8");
const PAGE = statement("page.sql");
const ITEM = statement("item.sql");

const pages = new Map();

function pageOf(size) {
  if (!pages.has(size)) pages.set(size, PAGE.replaceAll(":size", String(size)));
  return pages.get(size);
}

await serve({
  Query: {
    items: async (_, { first, afterName, afterId }) =>
      (await rows(`page of ${first}`, pageOf(first), [afterName, afterId]))[0],
    item: async (_, { id }) => (await rows("item", ITEM, [id]))[0]?.item,
  },
});
