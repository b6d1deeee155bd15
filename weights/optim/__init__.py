"""Optimizer state across, both ways: `engine.load`, `engine.build` and `engine.save`. The optimizers themselves are port_jax's."""
