"""Steps that touch the rows of tables which a batch names, on one device or with the tables split over many."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import AxisType, PartitionSpec
from jaxtyping import Array, Float, Int, PyTree

from port_jax.arguments import FUNCTION, instance, optional, takes, whole
from port_jax.optim.sparse_rows import RowGradients, SparseTransformation
from port_jax.permutations import Permutation
from port_jax.training.exchange import Exchange, Request, Round
from port_jax.training.plan import Plan
from port_jax.training.state import Metrics, TrainingError, TrainState, loss_parts, named

__all__ = ["SparseStep", "sparse_step"]

CHUNK = 65536
"""As many rows of a table change their places at once."""
Ids = Int[Array, "b *more"]


class _Route(NamedTuple):
    """How the rows of one table came to a device, and how their gradients go back."""

    request: Request
    first: Round


@takes(
    loss=FUNCTION,
    optimizer=instance("a sparse transformation, as port_jax.optim.sparse_riemannian_adam makes it", SparseTransformation),
    indices=FUNCTION,
    plan=optional(instance("a port_jax.training.Plan", Plan)),
    capacity=optional(whole(1)),
    shuffle=whole(0),
)
def sparse_step(
    loss: Callable[..., Any],
    optimizer: SparseTransformation,
    indices: Callable[[Any], PyTree[Ids]],
    *,
    plan: Plan | None = None,
    capacity: int | None = None,
    shuffle: int = 0,
) -> SparseStep:
    """One step down the gradient of `loss(rows, batch, key)` with respect to the rows of tables that a batch names, for `fit`.

        step = sparse_step(loss, sparse_riemannian_adam(0.1, manifolds={"points": ball}), lambda batch: {"points": batch}, plan=plan)
        state = plan.made(lambda: train_state({"points": ball.random(key, size, 16)}, optimizer, key))
        fit(step, state, steps=1000, batches=batches, plan=plan)

    `indices(batch)` gives for each table the rows that the batch names, whole numbers [b, ...], and `rows` are these rows [b, ..., d]. The
    loss, its key and what it returns are otherwise those of `gradient_step`. A number may occur several times; the number of a table's
    rows is padding, for which the loss gets some row of the table, and which moves nothing.

    With a plan the tables and their moments are split, and so are the batch and the rows that it names; the loss is written for the whole
    batch and its program is the same. Each device asks the owners of rows for those that its part of the batch names, and sends them
    back the sums of their gradients. Per table, of n numbers a device and rows of w bytes, P devices exchange at most

        rounds P C (4 + 2 w) bytes a device,   C = 1.5 n / P + 16

    by all-to-all, besides what the loss itself needs. What exceeds the capacity C of a pair of devices is sent in further rounds. Their
    number is recorded beside the loss, as `rounds`; more than 1 in many steps says that a larger `capacity` would be quicker.

    So that the owners of rows are drawn by chance, `fit` shuffles the rows of the tables at its beginning, by a permutation that is
    computed and not stored, and evaluations, saved states and results have them in their order. In a loop of one's own, `shuffled` and
    `unshuffled` of the step do that; a step takes the rows to be shuffled.

    Arguments:
        plan: its tables have to be all parameters. None computes on one device and shuffles nothing.
        capacity: of each table, C.
        shuffle: the seed of the permutation. Its value has no effect on numbers beyond rounding.

    Errors: TrainingError for parameters that the plan does not split, and where devices do not divide rows or a batch. IndexError for a
    number outside of a table, from `fit` and where the step is called without jit; under jit alone its row is NaN, and so is the loss.
    """
    return SparseStep(loss, optimizer, indices, plan, capacity, shuffle)


@dataclasses.dataclass(frozen=True, eq=False)
class SparseStep:
    """What `sparse_step` makes: a step for `fit`, and the order of the rows of split tables."""

    loss: Callable[..., Any]
    optimizer: SparseTransformation
    indices: Callable[[Any], PyTree[Ids]]
    plan: Plan | None
    capacity: int | None
    shuffle: int

    def __call__(self, state: TrainState, batch: Any) -> tuple[TrainState, Metrics]:
        """The next state, and the loss and other numbers."""
        key = jax.random.fold_in(state.key, state.step)
        tables, structure = jax.tree.flatten(state.params)
        self.check(state.params, batch)
        asked = self._asked(state, batch)
        outside = [(ids < 0) | (ids > len(table)) for ids, table in zip(asked, tables, strict=True)]
        ids = [jnp.where(out, len(t), i).astype(jnp.int32) for i, out, t in zip(asked, outside, tables, strict=True)]
        if self.plan is None:
            rows, routes, more = [t.at[i].get(mode="clip") for t, i in zip(tables, ids, strict=True)], None, {}
        else:
            rows, routes, rounds = self._read(state, ids)
            more = {"rounds": rounds}

        def value(rows: list[Float[Array, "b *more d"]]) -> tuple[Array, tuple[Metrics, Any]]:
            found = structure.unflatten([jnp.where(out[..., None], jnp.nan, row) for out, row in zip(outside, rows, strict=True)])
            loss, others, collections = loss_parts(self.loss(found, batch, key, *state.extra), state.collections)
            return loss, (others, collections)

        (loss, (others, collections)), grads = jax.value_and_grad(value, has_aux=True)(rows)
        if taken := others.keys() & more.keys():
            raise ValueError(f"the loss records a number named {', '.join(taken)}, which the step records itself: give it another name")
        if routes is None:
            found = [RowGradients(i.reshape(-1), g.reshape(-1, g.shape[-1])) for i, g in zip(ids, grads, strict=True)]
            params, opt_state = self.optimizer.step(state.params, state.opt_state, structure.unflatten(found))
        else:
            params, opt_state = self._moved(state, routes, grads)
        return TrainState(params, opt_state, state.step + 1, state.key, collections), {"loss": loss, **others, **more}

    def check(self, params: PyTree[Any], batch: Any) -> None:
        """Raise IndexError if the batch names a row that a table does not have, as far as its values are known here."""
        shapes = {name: table.shape for name, table in named(params).items()}
        for name, ids in self._indices(params, batch).items():
            if isinstance(ids, Tracer) or (isinstance(ids, jax.Array) and not ids.is_fully_addressable):
                continue
            ids, size = np.asarray(ids), shapes[name][0]
            wrong = np.argwhere((ids < 0) | (ids > size))
            if len(wrong):
                at = tuple(wrong[0].tolist())
                raise IndexError(
                    f"row {ids[at]} of {name}, at {list(at)} of what indices(batch) gives, is outside [0, {size}); the table has {size} "
                    f"rows, and {size} itself is padding: correct the batch, or make a larger table"
                )

    def shuffled(self, state: TrainState) -> TrainState:
        """The state with the rows of its split tables, and of their moments, in the order in which steps take them."""
        return state if self.plan is None else self._reorderings[0](state)

    def unshuffled(self, state: TrainState) -> TrainState:
        """The state with rows in their own order again."""
        return state if self.plan is None else self._reorderings[1](state)

    def require(self, plan: Plan | None) -> Plan | None:
        """The plan of the step. TrainingError if another one is given."""
        if plan is not None and plan != self.plan:
            whose = "has no plan" if self.plan is None else f"was made for {self.plan}"
            raise TrainingError(f"plan is {plan}, and the step {whose}; give the same plan to sparse_step and to fit")
        return self.plan

    def _indices(self, params: PyTree[Any], batch: Any) -> dict[str, Any]:
        """What a batch names of each table, in the order of the tables."""
        found, tables = named(self.indices(batch)), named(params)
        if found.keys() != tables.keys():
            raise TrainingError(f"indices(batch) names rows of {_listed(found)}, and the tables are {_listed(tables)}; give rows for each")
        for name, ids in found.items():
            if not jnp.issubdtype(ids.dtype, jnp.integer) or not ids.ndim:
                raise TypeError(f"indices(batch) gives {ids.dtype}{list(ids.shape)} for {name}; give whole numbers [b, ...]")
        return {name: found[name] for name in tables}

    def _asked(self, state: TrainState, batch: Any) -> list[Any]:
        """The same in a list, divided among the devices."""
        found = self._indices(state.params, batch)
        if self.plan is None:
            return list(found.values())
        for name, ids in found.items():
            self.plan.require_divided(f"what indices(batch) gives for {name}", ids.shape)
        explicit = AxisType.Explicit in self.plan.mesh.axis_types
        return [jax.sharding.reshard(ids, self.plan.split) if explicit else ids for ids in found.values()]

    @functools.cached_property
    def _reorderings(self) -> tuple[Callable[[TrainState], TrainState], ...]:
        return tuple(jax.jit(functools.partial(self._reordered, back=back)) for back in (False, True))

    def _reordered(self, state: TrainState, back: bool) -> TrainState:
        plan = self._checked_plan(state)
        return jax.tree.map(lambda x, lies: self._in_order(plan, x, back) if lies == plan.split else x, state, plan.shardings(state))

    def _in_order(self, plan: Plan, x: Array, back: bool) -> Array:
        """A split array with its row i at the place that the permutation has for i, or back."""
        rows = len(x) // plan.count
        size = min(rows, CHUNK)
        permutation = self._permutation(len(x))
        exchange = Exchange.of(plan.rows, plan.count, rows, size, math.prod(x.shape[1:]) * x.dtype.itemsize)

        def local(x: Array) -> Array:
            def some(i: Array, out: Array) -> Array:
                first = jnp.minimum(i * size, rows - size)
                here = (jax.lax.axis_index(plan.rows) * rows + first + jnp.arange(size)).astype(jnp.int32)
                request = exchange.request(permutation(here) if back else permutation.inverse(here))
                found = exchange.read(x, request.ids)[0][request.slots]
                return jax.lax.dynamic_update_slice_in_dim(out, found, first, 0)

            return jax.lax.fori_loop(0, -(-rows // size), some, jnp.zeros_like(x))

        return self._mapped(plan, local, (plan.split.spec,), plan.split.spec)(x)

    def _read(self, state: TrainState, ids: list[Ids]) -> tuple[list[Array], list[_Route], Int[Array, ""]]:
        """The rows of each table, the ways of their gradients, and the number of rounds."""
        plan = self._checked_plan(state)
        tables = jax.tree.leaves(state.params)
        exchanges = [self._exchange(plan, table, one.size) for table, one in zip(tables, ids, strict=True)]

        def local(tables: list[Array], ids: list[Ids]) -> tuple[list[Array], list[_Route], Array]:
            found, routes, rounds = [], [], []
            for exchange, table, one in zip(exchanges, tables, ids, strict=True):
                none = one == exchange.size
                request = exchange.request(jnp.where(none, one, self._permutation(exchange.size)(one)).reshape(-1))
                rows, first, count = exchange.read(table, request.ids)
                found.append(jnp.where(none[..., None], table[0], rows[request.slots].reshape(*one.shape, -1)))
                routes.append(_Route(request, first))
                rounds.append(count)
            return found, routes, jnp.max(jnp.stack(rounds))

        split: Any = plan.split.spec
        everywhere: Any = plan.whole.spec
        route = _Route(Request(split, split), Round(split, split, everywhere))
        return self._mapped(plan, local, (split, split), (split, [route] * len(ids), everywhere))(tables, ids)

    def _moved(self, state: TrainState, routes: list[_Route], grads: list[Array]) -> tuple[PyTree[Array], PyTree[Array]]:
        """The tables after the owners' steps, and the optimizer's state."""
        plan = self._checked_plan(state)
        lies = plan.shardings(state)
        exchanges = [self._exchange(plan, x, math.prod(g.shape[:-1])) for x, g in zip(jax.tree.leaves(state.params), grads, strict=True)]
        is_split = jax.tree.map(lambda x: x == plan.split, lies.opt_state)

        def local(params: Any, opt_state: Any, routes: list[_Route], grads: list[Array]) -> tuple[Any, Any]:
            structure = jax.tree.structure(params)
            sums = [_summed(g, route.request) for g, route in zip(grads, routes, strict=True)]

            def applied(params: Any, opt_state: Any, rounds: Sequence[Round]) -> tuple[Any, Any]:
                found = []
                for exchange, one, at in zip(exchanges, sums, rounds, strict=True):
                    found.append(RowGradients(at.asked.reshape(-1), exchange.sent(one, at).reshape(-1, one.shape[-1])))
                return self.optimizer.step(params, opt_state, structure.unflatten(found))

            def further(carry: tuple[Any, Any, list[Array]]) -> tuple[Any, Any, list[Array]]:
                params, now, reached = carry
                # All rounds belong to one step: each counts from what the step began with, on rows that no other round moves.
                begun = jax.tree.map(lambda split, now, before: now if split else before, is_split, now, opt_state)
                rounds = [e.round(route.request.ids, at, e.later) for e, route, at in zip(exchanges, routes, reached, strict=True)]
                return *applied(params, begun, rounds), [at.reached for at in rounds]

            def over(reached: list[Array]) -> Array:
                return jnp.all(jnp.stack([exchange.over(at) for exchange, at in zip(exchanges, reached, strict=True)]))

            first = [route.first for route in routes]
            begun = (*applied(params, opt_state, first), [at.reached for at in first])
            return jax.lax.while_loop(lambda carry: ~over(carry[2]), further, begun)[:2]

        split: Any = plan.split.spec
        everywhere: Any = plan.whole.spec
        specs = tuple(jax.tree.map(lambda x: x.spec, tree) for tree in (lies.params, lies.opt_state))
        route = _Route(Request(split, split), Round(split, split, everywhere))
        mapped = self._mapped(plan, local, (*specs, [route] * len(grads), split), specs)
        return mapped(state.params, state.opt_state, routes, grads)

    def _checked_plan(self, state: TrainState) -> Plan:
        assert self.plan is not None
        if others := [name for name in named(state.params) if name not in self.plan.tables]:
            raise TrainingError(
                f"the plan splits {_listed(self.plan.tables)}, and not the parameter {_listed(others)}; a sparse step moves split tables "
                f"alone: Plan(..., tables=({', '.join(map(repr, named(state.params)))},))"
            )
        return self.plan

    def _exchange(self, plan: Plan, table: Array, ids: int) -> Exchange:
        width = table.shape[1] * jnp.promote_types(table.dtype, jnp.float32).itemsize
        return Exchange.of(plan.rows, plan.count, len(table) // plan.count, ids // plan.count, width, self.capacity)

    def _permutation(self, size: int) -> Permutation:
        return Permutation.of(size, self.shuffle)

    @staticmethod
    def _mapped(plan: Plan, local: Callable[..., Any], in_specs: PyTree[PartitionSpec], out_specs: PyTree[PartitionSpec]) -> Any:
        """One device's function on all of them. JAX's check of what varies is off: nothing in here is differentiated, and what has the
        spec of all devices is computed from minima over them."""
        return jax.shard_map(local, mesh=plan.mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)


def _summed(grads: Float[Array, "b *more d"], request: Request) -> Float[Array, "n d"]:
    """The gradients of each wanted row, added up in single precision at least."""
    values = grads.reshape(-1, grads.shape[-1])
    values = values.astype(jnp.promote_types(values.dtype, jnp.float32))
    return jax.ops.segment_sum(values, request.slots, len(request.ids))


def _listed(names: Any) -> str:
    return ", ".join(map(repr, names)) or "nothing"
