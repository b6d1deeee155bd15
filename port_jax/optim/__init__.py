"""Optimizers on manifolds as optax transformations."""

from port_jax.optim.riemannian_adam import RiemannianAdamState, riemannian_adam
from port_jax.optim.riemannian_sgd import RiemannianSGDState, riemannian_sgd

__all__ = [
    "RiemannianAdamState",
    "RiemannianSGDState",
    "riemannian_adam",
    "riemannian_sgd",
]
