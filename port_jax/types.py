"""Types of the trees that optimizers, models and training share. To type checkers a `PyTree` is `Any`: the names are for readers."""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Array, PyTree

from port_jax.manifolds.base import Manifold

__all__ = ["ManifoldTree", "Manifolds", "OptState", "Params", "Updates"]

Params = PyTree[Array]
"""A tree of parameters, or a part of one: the dictionaries that linen's `init` returns under "params", for instance."""

Updates = PyTree[Array]
"""Gradients or updates, with the structure of the parameters; None where a parameter has none."""

OptState = PyTree[Array]
"""The state of an optimizer, usually a NamedTuple with trees of the parameters' structure."""

ManifoldTree = PyTree[Manifold]
"""A tree of manifolds, whose paths are those of the parameters or prefixes of them."""

Manifolds = ManifoldTree | Callable[[Params], ManifoldTree]
"""A tree of manifolds, or a function that makes one from the parameters, so that a curvature can itself be a parameter."""
