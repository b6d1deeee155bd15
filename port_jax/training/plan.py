"""How a run lies on several devices: which rows are split, and what every device has."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree

from port_jax.training.state import TrainingError, TrainState, is_key, named

__all__ = ["Plan"]


@dataclasses.dataclass(frozen=True)
class Plan:
    """How the arrays of a run lie on a mesh of devices: rows of tables and of batches are split, all else is on every device.

        plan = Plan(jax.make_mesh((jax.device_count(),), ("x",)), tables=("points",))
        state = plan.made(lambda: train_state(model.init(...)["params"], optimizer, key))
        fit(step, state, steps=1000, batches=batches, plan=plan)

    The same program runs on one device, on eight, and in several processes (after `jax.distributed.initialize()`), where `batches` gives
    each process its own rows. The mesh may have automatic or explicit axes.

    Arguments:
        mesh: the devices, as `jax.make_mesh` gives them.
        rows: the axis of the mesh along which rows are split.
        tables: the names of the parameters whose rows are split, with their moments: "points", "encoder/embedding". The number of their
            rows is a multiple of the number of devices along `rows`.

    Errors: ValueError if the mesh has no such axis. TrainingError, from the methods, for a name that no parameter has, and for rows that
    the devices do not divide.
    """

    mesh: Mesh
    rows: str = "x"
    tables: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.mesh, Mesh):
            raise ValueError(f"mesh is {self.mesh!r:.100}; make one: jax.make_mesh((jax.device_count(),), ({self.rows!r},))")
        if self.rows not in self.mesh.axis_names:
            raise ValueError(
                f"rows is {self.rows!r}, and the mesh has the axes {', '.join(map(repr, self.mesh.axis_names))}; name one of them"
            )
        object.__setattr__(self, "tables", (self.tables,) if isinstance(self.tables, str) else tuple(self.tables))

    @property
    def count(self) -> int:
        """The number of devices along `rows`."""
        return self.mesh.shape[self.rows]

    @property
    def split(self) -> NamedSharding:
        """Rows divided among the devices."""
        return NamedSharding(self.mesh, PartitionSpec(self.rows))

    @property
    def whole(self) -> NamedSharding:
        """The same on every device."""
        return NamedSharding(self.mesh, PartitionSpec())

    def shardings(self, state: TrainState) -> TrainState:
        """Where each array of a state lies, in the state's structure; its arrays may be `jax.ShapeDtypeStruct`."""
        params = named(state.params)
        for name in self.tables:
            if name not in params:
                raise TrainingError(f"the plan splits {name!r}, which is no parameter; those are {', '.join(params)}")
            self.require_divided(f"the parameter {name}", params[name].shape)
        lie = [self.split if self._is_of_table(name, x, params) else self.whole for name, x in named(state).items()]
        return jax.tree.unflatten(jax.tree.structure(state), lie)

    def place(self, state: TrainState) -> TrainState:
        """The state with its arrays where they lie. In several processes each gives the same one."""
        state = jax.tree.map(jnp.asarray, state)
        return jax.tree.map(_placed, state, self.shardings(state))

    def made(self, make: Callable[[], TrainState]) -> TrainState:
        """The state that `make` returns, made in place: no device has a whole table, not even for a moment."""
        return jax.jit(make, out_shardings=self.shardings(jax.eval_shape(make)))()

    def batch(self, batch: PyTree) -> PyTree[Array]:
        """A batch with its rows divided, from the rows of this process; arrays that are on several devices stay, numbers are on all."""
        return jax.tree.map(self._divided, batch)

    def repeated(self, batch: PyTree) -> PyTree[Array]:
        """A batch that all steps take, on every device; arrays that are on several devices stay, such as those of a graph in parts."""
        return jax.tree.map(lambda x: x if self._is_here(x) else _placed(jnp.asarray(x), self.whole), batch)

    def _is_here(self, x: Any) -> bool:
        """Whether an array has been divided among devices already. Raises TrainingError if those are others than the plan's."""
        if not isinstance(x, jax.Array) or (len(x.sharding.device_set) == 1 and not any(getattr(x.sharding, "spec", ()))):
            return False
        if x.sharding.device_set != set(self.mesh.devices.flat):
            found = f"an array of the batch, {x.dtype}{list(x.shape)}, is divided among {len(x.sharding.device_set)} devices"
            raise TrainingError(
                f"{found}, and the plan is for {self.mesh.devices.size}, or for others; divide it by plan.split: a graph in parts, for "
                f"example, after graph.partition({self.count})"
            )
        return True

    def _divided(self, x: Any) -> Array:
        if self._is_here(x):
            return x
        x = np.asarray(x)
        if not x.ndim:
            return jax.device_put(x, self.whole)
        shape = (x.shape[0] * jax.process_count(), *x.shape[1:])
        self.require_divided("an array of the batch", shape)
        return jax.make_array_from_process_local_data(self.split, x, shape)

    def require_divided(self, what: str, shape: tuple[int, ...]) -> None:
        """Raise TrainingError for rows that the devices do not divide."""
        count = self.count
        if not shape or shape[0] % count:
            found = f"{shape[0]} rows" if shape else "no rows"
            raise TrainingError(
                f"{what} has {found}, which {count} devices along {self.rows!r} do not divide; pad to a multiple of {count}"
            )

    def _is_of_table(self, name: str, x: Any, params: dict[str, Any]) -> bool:
        """Whether an array is a table or one of its moments, which have the table's name at their ends and as many rows."""
        owners = [owner for owner in params if f"/{name}".endswith(f"/{owner}")]
        owner = max(owners, key=len, default=None)
        return owner in self.tables and bool(x.shape) and x.shape[0] == params[owner].shape[0]


def _placed(x: Array, lies: NamedSharding) -> Array:
    """On the devices of all processes, also what a computation has put on one of this process's; JAX compares the values."""
    if lies.is_fully_addressable or not x.is_fully_addressable:
        return jax.device_put(x, lies)
    if is_key(x):
        return jax.random.wrap_key_data(_placed(jax.random.key_data(x), lies), impl=jax.random.key_impl(x))
    return jax.device_put(np.asarray(x), lies)
