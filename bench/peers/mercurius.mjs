// What both ways of Mercurius share: the schema, the pool, and the server with its compiler (JIT) on.
import Fastify from "fastify";
import mercurius from "mercurius";
import pg from "pg";

pg.types.setTypeParser(pg.types.builtins.INT8, Number);
const pool = new pg.Pool({ max: Number(process.env.POOL_SIZE) }); // PGHOST and the like say where the database is

// A name makes it a prepared statement.
export const rows = async (name, text, values) => (await pool.query({ name, text, values })).rows;

const schema = `
  scalar BigInt
  enum Status { ToOrder Ordered Arrived Sold }
  type Query {
    items(first: Int!, afterName: String!, afterId: ID!): ItemConnection!
    item(id: ID!): Item
  }
  type ItemConnection { edges: [ItemEdge!]! }
  type ItemEdge { node: Item! }
  type Item {
    id: ID! name: String! totalQuantity: BigInt! statuses: [Status!]! locations: [Location!]!
    batches: BatchConnection!
  }
  type BatchConnection { edges: [BatchEdge!]! }
  type BatchEdge { node: Batch! }
  type Batch { id: ID! quantity: Int! status: Status! location: Location }
  type Location { id: ID name: String! }
`;

export async function serve(resolvers, loaders) {
  const app = Fastify();
  app.register(mercurius, { schema, resolvers, loaders, jit: 1 });
  await app.listen({ port: Number(process.env.PORT), host: "127.0.0.1" });
}
