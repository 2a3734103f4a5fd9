"""What clients see: types, inputs, payloads, scalars, and the schema object."""
