// Mercurius with loaders: a loader is called once a level of the answer, with every object of the level.
import { rows, serve } from "./mercurius.mjs";

const COLUMNS = `id, name, "quantityInStock", status, "locationId"`;
const PAGE = `SELECT ${COLUMNS} FROM public.items WHERE (name, id) > ($1, $2) ORDER BY name, id LIMIT $3`;
const ITEM = `SELECT ${COLUMNS} FROM public.items WHERE id = $1`;
const COPIED = "SELECT item_id FROM stockshift.copy_ledger WHERE item_id = ANY ($1)";
const BATCHES = `
  SELECT id, quantity, status, "itemId", "locationId" FROM public.stock_batches
  WHERE "itemId" = ANY ($1) ORDER BY "createdAt", id`;
const LOCATIONS = "SELECT id, name FROM public.locations WHERE id = ANY ($1)";
const STATUSES = ["ToOrder", "Ordered", "Arrived", "Sold"];

async function batchesOf(ids) {
  const own = new Map(ids.map((id) => [id, []]));
  for (const batch of await rows("batches", BATCHES, [ids])) own.get(batch.itemId).push(batch);
  return own;
}

// An item's batches, or one line of its legacy columns when it has none and was never copied.
async function linesOf(items) {
  const own = await batchesOf(items.map(({ id }) => id));
  const without = items.filter(({ id }) => own.get(id).length === 0);
  if (without.length > 0) {
    const found = await rows("copied", COPIED, [without.map(({ id }) => id)]);
    const copied = new Set(found.map((row) => row.item_id));
    for (const item of without) {
      if (!copied.has(item.id)) own.set(item.id, [{ ...item, quantity: item.quantityInStock ?? 0 }]);
    }
  }
  return own;
}

// Three loaders of one request want the same lines: whichever comes first fetches them.
const requests = new WeakMap();

function lines(queries, { reply }) {
  if (!requests.has(reply)) requests.set(reply, linesOf(queries.map(({ obj }) => obj)));
  return requests.get(reply);
}

async function locationsOf(rowsWithLocation) {
  const ids = [...new Set(rowsWithLocation.map(({ locationId }) => locationId))].filter(Boolean);
  return new Map((await rows("locations", LOCATIONS, [ids])).map((location) => [location.id, location]));
}

const before = (one, other) => (one < other ? -1 : one > other ? 1 : 0);

const loader = (load) => ({ loader: load, opts: { cache: false } }); // no object comes twice

const loaders = {
  Item: {
    totalQuantity: loader(async (queries, context) => {
      const own = await lines(queries, context);
      return queries.map(({ obj }) => own.get(obj.id).reduce((sum, line) => sum + line.quantity, 0));
    }),
    statuses: loader(async (queries, context) => {
      const own = await lines(queries, context);
      return queries.map(({ obj }) => {
        const held = new Set(own.get(obj.id).map(({ status }) => status));
        return STATUSES.filter((status) => held.has(status));
      });
    }),
    locations: loader(async (queries, context) => {
      const own = await lines(queries, context);
      const known = await locationsOf([...own.values()].flat());
      return queries.map(({ obj }) =>
        [...new Set(own.get(obj.id).map(({ locationId }) => locationId))]
          .filter((id) => known.has(id))
          .map((id) => known.get(id))
          .sort((one, other) => before(one.name, other.name) || before(one.id, other.id)),
      );
    }),
    batches: loader(async (queries) => {
      const own = await batchesOf(queries.map(({ obj }) => obj.id));
      return queries.map(({ obj }) => ({ edges: own.get(obj.id).slice(0, 50).map((node) => ({ node })) }));
    }),
  },
  Batch: {
    location: loader(async (queries) => {
      const known = await locationsOf(queries.map(({ obj }) => obj));
      return queries.map(({ obj }) => known.get(obj.locationId) ?? null);
    }),
  },
};

await serve(
  {
    Query: {
      items: async (_, { first, afterName, afterId }) => ({
        edges: (await rows("page", PAGE, [afterName, afterId, first])).map((node) => ({ node })),
      }),
      item: async (_, { id }) => (await rows("item", ITEM, [id]))[0],
    },
  },
  loaders,
);
