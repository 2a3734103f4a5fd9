export default {
  worker: { format: "es" },
  build: {
    // Names below /graphiql-assets/ carry a hash of their content, so that they can be cached for ever.
    assetsDir: "graphiql-assets",
    license: true,
    // Monaco, the editor, is one chunk of some megabytes; it is not ours to split.
    chunkSizeWarningLimit: 4000,
    // The "use client" of React packages means nothing in a bundle.
    rolldownOptions: { checks: { moduleLevelDirective: false } },
  },
};
