"""Runs of geoopt's own classes on all of its manifolds at once, stopped after some steps, and gone on with in JAX."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import geoopt
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from parity_tests import draws
from parity_tests.optim.from_torch.runs import plain
from parity_tests.optim.spaces import ORIGINALS, Space
from parity_tests.optim.trajectories import cast, nudged
from port_jax.optim import RowGradients, from_torch

BEFORE, AFTER, TOUCHED = 4, 20, 3
ADAM, SGD = geoopt.optim.RiemannianAdam, geoopt.optim.RiemannianSGD
Arrays = dict[str, np.ndarray]


class Run:
    """geoopt's optimizer over points of these spaces; `make` is given the parameters by name."""

    def __init__(self, spaces: Mapping[str, Space], make: Callable[[dict[str, Any]], Any], dtype: Any, starts: Arrays):
        self.spaces, self.dtype, self.steps = spaces, dtype, 0
        self.points = {name: parameter(space, starts[name], dtype) for name, space in spaces.items()}
        self.optimizer = make(self.points)
        self.sparse = type(self.optimizer).__name__.startswith("Sparse")
        listed = {id(p): name for name, p in self.points.items()}
        self.names = [listed[id(p)] for group in self.optimizer.param_groups for p in group["params"]]

    def run(self, steps: int) -> Run:
        for _ in range(steps):
            for name, grad in gradients(self.spaces, self.steps, self.dtype).items():
                rows = touched(self.spaces, self.steps)[name]
                self.points[name].grad = torch.tensor(grad)
                if self.sparse:
                    index, values = torch.tensor(rows)[None], torch.tensor(grad[rows])
                    self.points[name].grad = torch.sparse_coo_tensor(index, values, grad.shape, check_invariants=False)
            self.optimizer.step()
            self.steps += 1
        return self

    def values(self) -> Arrays:
        return {name: p.detach().numpy().copy() for name, p in self.points.items()}

    def momenta(self) -> Arrays:
        states = {name: self.optimizer.state[p] for name, p in self.points.items()}
        found = {name: state.get("exp_avg", state.get("momentum_buffer")) for name, state in states.items()}
        return {name: m.numpy().copy() for name, m in found.items() if m is not None}


class Went(NamedTuple):
    """Where a run in JAX has come to: points, momenta, and the state."""

    points: Arrays
    momenta: Arrays
    state: Any


def parameter(space: Space, start: np.ndarray, dtype: Any) -> Any:
    tensor, manifold = torch.tensor(cast(start, dtype)), space.of_geoopt(dtype)
    return torch.nn.Parameter(tensor) if manifold is None else geoopt.ManifoldParameter(tensor, manifold=manifold)


def gradients(spaces: Mapping[str, Space], step: int, dtype: Any) -> Arrays:
    """Independent normal gradients, complex for complex points; numbers that float32 holds."""
    rng, found = draws.rng(100 + step), {}
    for name, space in spaces.items():
        grad = rng.standard_normal((2, *space.start.shape)).astype(np.float32)
        found[name] = cast(grad[0] + 1j * grad[1] if np.iscomplexobj(space.start) else grad[0], dtype)
    return found


def touched(spaces: Mapping[str, Space], step: int) -> dict[str, np.ndarray]:
    """The rows of a sparse step."""
    rng = draws.rng(500 + step)
    return {name: np.sort(rng.choice(len(space.start), min(TOUCHED, len(space.start)), replace=False)) for name, space in spaces.items()}


def given(run: Run) -> dict[str, Any]:
    """The arguments of `from_torch` and `to_torch` beside the state."""
    manifolds = {name: space.of_port(run.dtype) for name, space in run.spaces.items()}
    return {"params": {n: jnp.asarray(p) for n, p in run.values().items()}, "names": run.names, "manifolds": manifolds}


def go_on(run: Run, steps: int = AFTER, said: str | None = None) -> Went:
    """The steps after those that `run` has made, in JAX. said: the name of its class, where the state does not tell it."""
    known = given(run)
    tx, state = from_torch(plain(run.optimizer.state_dict()), **known, optimizer=said)
    return follow(run, tx, state, known["params"], steps)


def follow(run: Run, tx: Any, state: Any, params: Any, steps: int) -> Went:
    """The same with a transformation and its state."""
    spaces, dtype = run.spaces, run.dtype

    @jax.jit
    def move(params: Any, state: Any, grads: Any, rows: Any) -> Any:
        if run.sparse:
            return tx.step(params, state, {name: RowGradients(rows[name], grad[rows[name]]) for name, grad in grads.items()})
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    for step in range(run.steps, run.steps + steps):
        params, state = move(params, state, gradients(spaces, step, dtype), touched(spaces, step))
    groups = state.groups if hasattr(state, "groups") else (state,)
    trees = [group.mu if hasattr(group, "mu") else group.momentum for group in groups]
    momenta = {name: np.asarray(m) for tree in trees if tree is not None for name, m in tree.items() if hasattr(m, "shape")}
    return Went(jax.tree.map(np.asarray, params), momenta, state)


def missed(
    make: Callable[[dict[str, Any]], Any], dtype: Any, spaces: Mapping[str, Space] = ORIGINALS, said: str | None = None
) -> list[str]:
    """What a run that goes on in JAX misses of its original after AFTER steps: points by the way gone since, momenta by their size.

    The gate is ten times the largest drift of the original's own run when each coordinate of its start moves to a neighbouring number, and
    four roundings of a coordinate a step more. In float32 it is also enough to be as near the float64 run as the original is (within
    twice its error and those roundings), since formulas that round differently part by more than a nudge.
    """
    starts = {name: copies(space.start, dtype) for name, space in spaces.items()}
    run = Run(spaces, make, dtype, {n: c[0] for n, c in starts.items()}).run(BEFORE)
    begun, ours = run.values(), go_on(run, said=said)
    want, want_m = run.run(AFTER).values(), run.momenta()
    others = [Run(spaces, make, dtype, {n: c[i] for n, c in starts.items()}).run(BEFORE + AFTER) for i in range(1, 3)]
    truth = want, want_m
    if dtype == np.float32:
        exact = Run(spaces, make, np.float64, {n: c[0] for n, c in starts.items()}).run(BEFORE + AFTER)
        truth = exact.values(), exact.momenta()
    wrong = []
    for name in spaces:
        way = np.abs(want[name] - begun[name]).max()
        sides = [("point", ours.points, want, [o.values() for o in others], truth[0])]
        sides += [("momentum", ours.momenta, want_m, [o.momenta() for o in others], truth[1])] if want_m else []
        for what, have, their, drifts, true in sides:
            rounding = 4 * AFTER * np.finfo(dtype).eps * np.abs(their[name]).max()
            gate = 10 * max(np.abs(drift[name] - their[name]).max() for drift in drifts) + rounding
            error = np.abs(have[name] - their[name]).max()
            near = np.abs(have[name] - true[name]).max() <= 2 * np.abs(their[name] - true[name]).max() + rounding
            size = way if what == "point" else np.abs(their[name]).max()
            if not (gate < 0.05 * size or dtype == np.float32) or not way > 0:
                wrong.append(f"{name}, {what}: the gate {gate:.1e} is no test of a way of {size:.1e}")
            if not (error <= gate or (dtype == np.float32 and near)):
                wrong.append(f"{name}, {what}: {error / size:.1e} off, gate {gate / size:.1e}")
    return wrong


def copies(start: np.ndarray, dtype: Any) -> np.ndarray:
    """The start and two copies of it, one rounding away in every coordinate."""
    if dtype == np.float32:
        return nudged(start)[:3]
    rng, real = draws.rng(7), np.ascontiguousarray(start).view(np.float64)
    towards = np.where(rng.random((2, *real.shape)) < 0.5, -np.inf, np.inf)
    return np.concatenate([start[None], np.nextafter(real, towards).view(start.dtype)])


def loaded(make: Any, state: Any, found: Any, spaces: Any, steps: int) -> Run:
    """A run in torch from a state and points that JAX gives."""
    run = Run(spaces, make, np.float64, found)
    run.optimizer.load_state_dict(jax.tree.map(lambda x: torch.tensor(x) if isinstance(x, np.ndarray) else x, state))
    for entry in run.optimizer.state.values():
        if "step" in entry:  # torch.load gives a tensor of float32, in which geoopt computes its bias corrections
            entry["step"] = int(entry["step"])
    run.steps = steps
    return run


def over(kind: Any, **settings: Any) -> Any:
    """The optimizer over the parameters; `stabilize` stands in the group, where SparseRiemannianAdam takes it too."""
    stabilize = settings.pop("stabilize", None)
    return lambda points: kind([{"params": list(points.values()), "stabilize": stabilize}], **settings)


def in_groups(points: dict[str, Any]) -> Any:
    """Compound manifolds, and the hyperboloid, are not stabilised: a first momentum keeps its normal part there."""
    plainly = [name for name in points if "Product" in name or "(" in name]
    first = {"params": [p for name, p in points.items() if name not in plainly], "stabilize": 3}
    return SGD([first, {"params": [points[name] for name in plainly], "lr": 5e-4}], lr=1e-3, momentum=0.9)


DENSE = {
    "adam": over(ADAM, lr=3e-3, weight_decay=0.05),
    "adam stabilized": over(ADAM, lr=3e-3, betas=(0.8, 0.95), weight_decay=0.05, stabilize=3),
    "sgd": over(SGD, lr=1e-3, momentum=0.9, dampening=0.1, weight_decay=0.05),
    "sgd stabilized": over(SGD, lr=1e-3, momentum=0.9, dampening=0.1, weight_decay=0.05, stabilize=3),
    "nesterov stabilized": over(SGD, lr=1e-3, momentum=0.8, nesterov=True, stabilize=2),
    "without momentum": over(SGD, lr=1e-3, weight_decay=0.05, stabilize=3),
    "groups": in_groups,
}
