"""Models of one's own on torch and geoopt, with their ports: a network (`original`, `port`) and a VAE (`vae_original`, `vae_port`)."""
