"""A small network of one's own, on torch and geoopt (`original`), and its port to JAX (`port`)."""
