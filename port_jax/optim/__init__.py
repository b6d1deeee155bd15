"""Optimizers on manifolds as optax transformations."""

from port_jax.optim.riemannian_adam import RiemannianAdamState, riemannian_adam
from port_jax.optim.riemannian_sgd import RiemannianSGDState, riemannian_sgd
from port_jax.optim.sparse_riemannian_adam import sparse_riemannian_adam
from port_jax.optim.sparse_riemannian_sgd import sparse_riemannian_sgd
from port_jax.optim.sparse_rows import RowGradients, SparseTransformation

__all__ = [
    "RiemannianAdamState",
    "RiemannianSGDState",
    "RowGradients",
    "SparseTransformation",
    "riemannian_adam",
    "riemannian_sgd",
    "sparse_riemannian_adam",
    "sparse_riemannian_sgd",
]
