"""Optimizers on manifolds as optax transformations; schedules, clipping, averaging; and torch's optimizers, in both directions."""

from port_jax.optim import schedules
from port_jax.optim.clip import clip_grad_norm, clip_grad_value
from port_jax.optim.confined import confined
from port_jax.optim.from_torch import from_torch, to_torch
from port_jax.optim.guard import guard
from port_jax.optim.optimistic import riemannian_ogd
from port_jax.optim.precision import compute_copy
from port_jax.optim.reduce_on_plateau import ReduceOnPlateau
from port_jax.optim.riemannian_adam import RiemannianAdamState, riemannian_adam
from port_jax.optim.riemannian_adamw import riemannian_adamw
from port_jax.optim.riemannian_line_search import RiemannianLineSearchState, riemannian_line_search
from port_jax.optim.riemannian_sgd import RiemannianSGDState, riemannian_sgd
from port_jax.optim.sharpness_aware import sharpness_aware
from port_jax.optim.sparse_riemannian_adam import sparse_riemannian_adam
from port_jax.optim.sparse_riemannian_sgd import sparse_riemannian_sgd
from port_jax.optim.sparse_rows import RowGradients, SparseTransformation
from port_jax.optim.weight_average import weight_average

__all__ = [
    "ReduceOnPlateau",
    "RiemannianAdamState",
    "RiemannianLineSearchState",
    "RiemannianSGDState",
    "RowGradients",
    "SparseTransformation",
    "clip_grad_norm",
    "clip_grad_value",
    "compute_copy",
    "confined",
    "from_torch",
    "guard",
    "riemannian_adam",
    "riemannian_adamw",
    "riemannian_line_search",
    "riemannian_ogd",
    "riemannian_sgd",
    "schedules",
    "sharpness_aware",
    "sparse_riemannian_adam",
    "sparse_riemannian_sgd",
    "to_torch",
    "weight_average",
]
