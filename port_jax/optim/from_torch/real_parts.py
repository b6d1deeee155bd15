"""Complex parameters as torch's optimizers step them: real and imaginary part as two numbers of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from port_jax.optim import trees
from port_jax.types import OptState, Params, Updates

__all__ = ["by_real_parts"]


def by_real_parts(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """`inner` over real arrays [..., 2] in the place of complex ones, as torch's `view_as_real` has them; real ones as they are.

    The state is complex where the parameter is, as torch's is: the second moment of z in Adam is v_re + i v_im, the means of the squares of
    the two parts. Gradients are df/dRe + i df/dIm, as in torch: the conjugate of what `jax.grad` returns.
    """

    def init(params: Params) -> OptState:
        return _like_parameters(_joined, inner.init(jax.tree.map(_parted, params)), params)

    def update(updates: Updates, state: Any, params: Params = None) -> tuple[Updates, OptState]:
        if params is None or not any(map(_complex, jax.tree.leaves(params))):
            return inner.update(updates, state, params)
        grads = [None if g is None else _parted(g) for g in trees.match_gradients(updates, params)]
        parted = jax.tree.map(_parted, params)
        changes, state = inner.update(
            jax.tree.structure(params).unflatten(grads), _like_parameters(lambda p, x: _parted(x), state, params), parted
        )
        return jax.tree.map(lambda p, u: _joined(p, u), params, changes), _like_parameters(_joined, state, params)

    return optax.GradientTransformation(init, update)


def _like_parameters(change: Callable[[Array, Array], Array], state: Any, params: Params) -> Any:
    """The state with the buffers beside complex parameters changed; its counts are integers and stay."""
    structure = jax.tree.structure(params)

    def changed(tree: Any) -> Any:
        if jax.tree.structure(tree) != structure:
            return tree
        return jax.tree.map(lambda p, x: change(p, x) if _complex(p) and jnp.issubdtype(x.dtype, jnp.inexact) else x, params, tree)

    return jax.tree.map(changed, state, is_leaf=lambda tree: jax.tree.structure(tree) == structure)


def _parted(x: Array) -> Array:
    return jnp.stack([jnp.real(x), jnp.imag(x)], -1) if _complex(x) else x


def _joined(like: Array, x: Array) -> Array:
    return jax.lax.complex(x[..., 0], x[..., 1]) if _complex(like) else x


def _complex(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jnp.complexfloating)
