"""The state that a training run carries from step to step, and the step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from port_jax.arguments import KEY, MAPPING, Kind, instance, optional, said, takes
from port_jax.optim.sparse_rows import SparseTransformation
from port_jax.types import Params

__all__ = ["Metrics", "Step", "TrainState", "TrainingError", "gradient_step", "is_key", "loss_parts", "named", "train_state"]

Metrics = Mapping[str, Float[Array, ""]]
Loss = Callable[..., Any]
"""(params, batch, key) -> a number, or (a number, more numbers); with collections see `gradient_step`."""


class TrainingError(RuntimeError):
    """A run that cannot continue as asked; the message names what was found and the remedy."""


class TrainState(NamedTuple):
    """A pytree: parameters, the optimizer's state, the number of steps made, and the key from which all randomness comes."""

    params: Params
    opt_state: PyTree[Array]
    step: Int[Array, ""]
    key: PRNGKeyArray
    collections: Mapping[str, PyTree[Array]] = {}
    """Flax's mutable collections: variables that steps change and no gradient does, such as {"batch_stats": ...}."""

    @property
    def extra(self) -> tuple[Mapping[str, PyTree[Array]], ...]:
        """The last arguments of losses and evaluations: the collections, if there are any."""
        return (self.collections,) if self.collections else ()


Step = Callable[[TrainState, Any], tuple[TrainState, Metrics]]
"""(state, batch) -> the next state and the numbers to record, "loss" among them. It increases `step` by one."""


STATE = instance("a TrainState, as train_state makes it", TrainState)
STEP = Kind(callable, "a function from a state and a batch to the next state and numbers, as gradient_step makes it")
ARRAYS = Kind(lambda tree: all(map(_numeric, jax.tree.leaves(tree))), "arrays of numbers, in dictionaries, lists or tuples")


@takes(params=ARRAYS, key=KEY, opt_state=optional(ARRAYS), collections=optional(MAPPING))
def train_state(
    params: Params, optimizer: Any, key: PRNGKeyArray, opt_state: Any = None, collections: Mapping[str, Any] | None = None
) -> TrainState:
    """The state before the first step.

    `opt_state` is an existing optimizer state, such as that of a converted checkpoint. `collections` are the mutable collections
    of a flax model, for example {"batch_stats": variables["batch_stats"]}.
    """
    if opt_state is None and not isinstance(optimizer, SparseTransformation):
        _require_optimizer(optimizer)
    state = optimizer.init(params) if opt_state is None else opt_state
    return TrainState(params, state, jnp.zeros((), jnp.int32), key, {} if collections is None else dict(collections))


@takes(loss=Kind(callable, "a function from parameters, batch and key to a number"))
def gradient_step(loss: Loss, optimizer: optax.GradientTransformation) -> Step:
    """One step down the gradient of `loss(params, batch, key)`.

    The loss is a number, or (a number, more numbers to record). Its key is the state's, folded with the number of the step, so that a
    step draws the same dropout masks whether or not the run was interrupted before it. The loss is passed to the optimizer as
    `value`, for transformations that need it.

    If the state has collections, the loss is `loss(params, batch, key, collections)` and returns (a number, more numbers, the new
    collections):

        def loss(params, batch, key, collections):
            out, new = model.apply({"params": params, **collections}, batch.x, mutable=["batch_stats"])
            return jnp.mean((out - batch.y) ** 2), {}, new

    Errors: ValueError if the optimizer is None, or the loss returns something else or records a number under the name `loss`.
    """
    _require_optimizer(optimizer)
    update = optax.with_extra_args_support(optimizer).update

    def step(state: TrainState, batch: Any) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(state.key, state.step)

        def value(params: Params) -> tuple[Array, tuple[Metrics, Any]]:
            found, more, collections = loss_parts(loss(params, batch, key, *state.extra), state.collections)
            return found, (more, collections)

        (found, (more, collections)), grads = jax.value_and_grad(value, has_aux=True)(state.params)
        updates, opt_state = update(grads, state.opt_state, state.params, value=found)
        params = optax.apply_updates(state.params, updates)
        return TrainState(params, opt_state, state.step + 1, state.key, collections), {"loss": found, **more}

    return step


def _require_optimizer(optimizer: Any) -> None:
    """ValueError for None, which a checkpoint without an optimizer's state has."""
    if optimizer is None:
        raise ValueError(
            "optimizer is None: a checkpoint of a file without an optimizer's state has none; make one, "
            "port_jax.optim.riemannian_adam(learning_rate, manifolds=checkpoint.manifolds), for example"
        )
    if isinstance(optimizer, SparseTransformation):
        raise TypeError("optimizer takes gradients of rows; give it to sparse_step, with a loss of the rows that a batch names")
    if not callable(getattr(optimizer, "init", None)) or not callable(getattr(optimizer, "update", None)):
        raise TypeError(f"optimizer is {said(optimizer)}; give a transformation of optax or port_jax.optim: optax.adam(1e-3), for example")


def named(tree: Any) -> dict[str, Any]:
    """The leaves of a tree by name, such as params/layers_0/kernel, in the tree's order."""
    return {jax.tree_util.keystr(path, simple=True, separator="/"): x for path, x in jax.tree.leaves_with_path(tree)}


def _numeric(x: Any) -> bool:
    """Whether JAX takes this for an array."""
    dtype = getattr(x, "dtype", None)
    if dtype is None:
        return isinstance(x, (bool, int, float, complex))
    return isinstance(x, jax.Array) or np.dtype(dtype).kind in "biufcV"


def is_key(x: Array) -> bool:
    """Whether an array is a typed random key, whose numbers are apart from its type."""
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def loss_parts(out: Any, collections: Mapping[str, Any]) -> tuple[Any, Metrics, Any]:
    """The loss, more numbers, and the new collections, of what a loss returned."""
    parts = list(out) if isinstance(out, tuple) else [out]
    if collections and len(parts) != 3:
        names = ", ".join(collections)
        raise ValueError(f"the state has collections ({names}): the loss has to return (a number, more numbers, the new collections)")
    if not collections and len(parts) not in (1, 2):
        raise ValueError(
            f"the loss returned {len(parts)} values, and the state has no collections: return a number or (a number, more numbers), "
            "or give the collections to train_state"
        )
    found, more = parts[0], parts[1] if len(parts) > 1 else {}
    if "loss" in more:
        raise ValueError("the loss records a number named loss, which is the name of its own value: give it another name")
    return found, more, parts[2] if collections else collections
