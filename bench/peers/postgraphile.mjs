// PostGraphile 5 on one port: what it makes of the tables, and of the functions in sql/postgraphile.sql.
import { createServer } from "node:http";
import pg from "pg";
import { grafserv } from "postgraphile/grafserv/node";
import { postgraphile } from "postgraphile";
import { makePgService } from "postgraphile/adaptors/pg";
import { PostGraphileAmberPreset } from "postgraphile/presets/amber";

const preset = {
  extends: [PostGraphileAmberPreset],
  pgServices: [
    // PGHOST and the like say where the database is.
    makePgService({ pool: new pg.Pool({ max: Number(process.env.POOL_SIZE) }), schemas: ["public"] }),
  ],
  grafserv: { graphqlPath: "/graphql", graphiql: false, watch: false },
};

const server = createServer();
const instance = postgraphile(preset).createServ(grafserv);
await instance.addTo(server);
server.listen(Number(process.env.PORT), "127.0.0.1");
