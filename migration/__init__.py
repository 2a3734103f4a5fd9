"""The way from legacy columns to batches, one module a stage. Knows nothing of GraphQL."""
