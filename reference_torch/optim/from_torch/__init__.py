"""On torch, what `port_jax.optim.from_torch` goes on with: repositories' optimizers, and schedulers made again from their states."""
