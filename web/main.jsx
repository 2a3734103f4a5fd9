import "graphiql/setup-workers/vite";
import "graphiql/style.css";
import "./page.css";

import { createGraphiQLFetcher } from "@graphiql/toolkit";
import { GraphiQL } from "graphiql";
import { createClient } from "graphql-ws";
import { createRoot } from "react-dom/client";

import { examplesPlugin } from "./examples.jsx";

const { endpoint, headers, examples } = JSON.parse(document.getElementById("settings").textContent);

// The headers editor allows comments: nothing is sent until the slashes are removed.
const HOW_TO_SEND_A_TOKEN = `{
  // Your token, and then the schema again with Shift-Ctrl-R:
  // "Authorization": "Bearer <token>"
}`;
const defaultHeaders = headers ? JSON.stringify(headers, null, 2) : HOW_TO_SEND_A_TOKEN;

const subscriptionUrl = new URL(endpoint, location.href);
subscriptionUrl.protocol = location.protocol === "https:" ? "wss:" : "ws:";

const fetcher = (operation, options) => {
  // GraphiQL asks for the schema before there is a headers editor to read.
  const sent = options?.headers ?? headers ?? {};
  // Connects only to subscribe. A browser sends no headers with a WebSocket, so they are its first message.
  const wsClient = createClient({ url: subscriptionUrl.href, connectionParams: sent, retryAttempts: 0 });
  return createGraphiQLFetcher({ url: endpoint, wsClient, enableIncrementalDelivery: false })(operation, {
    ...options,
    headers: sent,
  });
};

const plugin = examplesPlugin(examples);

// The history plugin is left out and headers are not persisted: both would keep tokens in localStorage.
createRoot(document.getElementById("root")).render(
  <GraphiQL
    fetcher={fetcher}
    defaultHeaders={defaultHeaders}
    defaultTabs={[{ query: examples[0].query, headers: defaultHeaders }]}
    defaultEditorToolsVisibility="headers"
    shouldPersistHeaders={false}
    plugins={[plugin]}
    visiblePlugin={plugin}
  />,
);
