"""A layer of port_jax beside its original on geoopt: outputs, gradients, steps, float32, and points where formulas divide by 0.

Points and those parameters that are points are made on both sides from tangent coordinates at the origin, so that derivatives by the
curvature take along how the points move with it, and none leads off the manifold.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn
import geoopt
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from flax.traverse_util import flatten_dict, unflatten_dict

from parity_tests import draws
from parity_tests.tolerances import gate, no_worse_bound, relative_error
from port_jax.manifolds import Euclidean, Lorentz, PoincareBall
from port_jax.optim import riemannian_adam
from reference_torch.layers.tangent import from_tangent0

NUMBER = {"ball": 0.7, "hyperboloid": 1.7}
"""The c of the ball and the k of the hyperboloid."""
RADIUS = 0.9
"""No point lies farther out than this part of the ball's radius."""
DRAWS = 6
DISPLACEMENT = 1e-8
"""How far steps of Adam may differ, relative to the largest: a gradient is divided by its own length, which magnifies its error where it is
small."""


def by_linen(layer: nn.Module, params: Any, manifold: Any, points: Any) -> Any:
    return layer.apply({"params": params}, manifold, *points)


def by_torch(module: torch.nn.Module, params: Any, manifold: Any, points: Any) -> Any:
    return torch.func.functional_call(module, params, (manifold, *points))


@dataclass(frozen=True, eq=False)
class Twin:
    """names: parameter of the layer -> that of the original, with ".T" where it is stored transposed.

    points, positive: the parameters that are points, and those that have to be positive. shapes: tangent coordinates of the inputs, which
    `extra` follows as it is. ours, theirs: calls that differ from the plain one, whose results may be tuples.
    """

    name: str
    space: str
    layer: nn.Module
    original: Callable[[Any], torch.nn.Module]
    shapes: tuple[tuple[int, ...], ...]
    names: Mapping[str, str] = field(default_factory=dict)
    points: tuple[str, ...] = ()
    ours: Callable[..., Any] = by_linen
    theirs: Callable[..., Any] = by_torch
    extra: tuple[Any, ...] = ()
    positive: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"{self.name}-{self.space}"

    def manifold(self, number: Any) -> Any:
        return PoincareBall(number) if self.space == "ball" else Lorentz(number)

    @functools.cached_property
    def forms(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the parameters, with tangent coordinates for points."""
        if not self.names:
            return {}
        m = self.manifold(NUMBER[self.space])
        wide = [(*s[:-1], s[-1] + m.ambient) for s in self.shapes]
        made = jax.eval_shape(lambda k: self.layer.init(k, m, *(m.projx(jnp.zeros(s)) for s in wide), *self.extra), draws.key(0))
        flat = flatten_dict(made.get("params", {}), sep="/")
        return {n: (*a.shape[:-1], a.shape[-1] - m.ambient) if n in self.points else a.shape for n, a in flat.items()}

    def raw(self, seed: int) -> dict[str, Any]:
        """Numbers in general position."""
        rng = draws.rng(seed)
        params = {n: 0.6 * rng.normal(size=s) for n, s in self.forms.items()}
        params |= {n: 0.5 + np.abs(params[n]) for n in self.positive}
        return {"params": params, "points": [0.5 * rng.normal(size=s) for s in self.shapes], "number": np.array(NUMBER[self.space])}

    def forward(self, raw: Any) -> tuple[Any, ...]:
        """The outputs of the layer."""
        m = self.manifold(raw["number"])
        params = {n: m.from_tangent0(v) if n in self.points else v for n, v in raw["params"].items()}
        points = [*(m.from_tangent0(u) for u in raw["points"]), *self.others(raw, jnp.asarray)]
        return as_tuple(self.ours(self.layer, unflatten_dict(params, sep="/"), m, points))

    def others(self, raw: Any, made: Callable[..., Any]) -> list[Any]:
        """`extra` as arrays, of the type of the numbers where they are floating-point ones."""
        dtype = raw["number"].dtype
        return [made(a.astype(dtype) if a.dtype.kind == "f" else a) for a in self.extra]

    def value(self, raw: Any) -> np.ndarray:
        """The first output, by the program that the other checks run, so that nothing more is compiled."""
        return np.asarray(self.program(raw, self.cotangents(raw))[0][0])

    @functools.cached_property
    def program(self) -> Callable[..., Any]:
        """(numbers, cotangents) -> outputs, and gradients by all numbers."""

        def both(raw: Any, cotangents: Any) -> Any:
            value, back = jax.vjp(self.forward, raw)
            return value, back(cotangents)[0]

        return jax.jit(both)

    def torch_sides(self, raw: Any, cotangents: Any, dtype: torch.dtype) -> Any:
        """The same by the original, as numpy arrays of float64."""
        number = torch.tensor(raw["number"], dtype=dtype)
        m = geoopt.Stereographic(-number, learnable=True) if self.space == "ball" else geoopt.Lorentz(number, learnable=True)
        leaves = jax.tree.map(lambda a: torch.tensor(a, dtype=dtype, requires_grad=True), {"p": raw["params"], "x": raw["points"]})
        params = self.named({n: from_tangent0(m, v) if n in self.points else v for n, v in leaves["p"].items()})
        out = as_tuple(
            self.theirs(
                self.original(m).to(dtype),
                params,
                m,
                [*(from_tangent0(m, u) for u in leaves["x"]), *self.others({"number": number.numpy()}, torch.tensor)],
            )
        )
        total = sum((o * torch.tensor(np.asarray(c), dtype=dtype)).sum() for o, c in zip(out, cotangents, strict=True))
        flat, structure = jax.tree.flatten(leaves)
        found = torch.autograd.grad(total, [*flat, m.k], allow_unused=True)  # pyright: ignore[reportArgumentType]
        grads = [np.zeros(leaf.shape) if g is None else g.double().numpy() for leaf, g in zip([*flat, m.k], found)]
        tree = structure.unflatten(grads[:-1])
        slope = -grads[-1] if self.space == "ball" else grads[-1]
        return tuple(o.detach().double().numpy() for o in out), {"params": tree["p"], "points": tree["x"], "number": slope}

    def named(self, params: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The parameters under the original's names, and as it stores them."""
        return {self.names[n].removesuffix(".T"): p.mT if self.names[n].endswith(".T") else p for n, p in params.items()}

    def cotangents(self, raw: Any) -> tuple[np.ndarray, ...]:
        """Random numbers of the shapes of the outputs."""
        rng = draws.rng(7)
        return tuple(rng.normal(size=o.shape) for o in jax.eval_shape(self.forward, raw))


def as_tuple(out: Any) -> tuple[Any, ...]:
    return tuple(out) if isinstance(out, tuple) else (out,)


def named(value: Any) -> str:
    """The name of a check or a twin, for the names of tests."""
    return getattr(value, "__name__", repr(value)).removeprefix("check_").replace(" ", "_")


def single(tree: Any) -> Any:
    return jax.tree.map(lambda a: np.asarray(a, np.float32), tree)


def compare(have: Any, want: Any, order: int) -> None:
    """Each array of both trees within the gate of its order."""
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(have), jax.tree.leaves(want), strict=True):
        error = relative_error(a, b)
        assert error < gate(RADIUS, order), f"{jax.tree_util.keystr(path)} is {error:.2e} off"


def check_values_and_gradients(twin: Twin) -> None:
    """Outputs, and gradients by inputs, parameters and curvature along random cotangents, in float64."""
    raw = twin.raw(1)
    cotangents = twin.cotangents(raw)
    value, grads = twin.program(raw, cotangents)
    their_value, their_grads = twin.torch_sides(raw, cotangents, torch.float64)
    compare(value, their_value, 0)
    compare(grads, their_grads, 1)
    assert all(np.any(np.asarray(g) != 0) for g in jax.tree.leaves(grads)), "a gradient that is 0 says nothing"


def over_draws(twin: Twin) -> tuple[Any, Any, Any]:
    """Outputs and gradients of float32 in JAX and in torch, and of float64 in torch: several draws, so that no one number decides."""
    ours, theirs, truth = [], [], []
    for seed in range(10, 10 + DRAWS):
        raw = single(twin.raw(seed))
        cotangents = single(twin.cotangents(raw))
        truth.append(twin.torch_sides(raw, cotangents, torch.float64))
        theirs.append(twin.torch_sides(raw, cotangents, torch.float32))
        ours.append(twin.program(raw, cotangents))
    stack = functools.partial(jax.tree.map, lambda *a: np.stack(a))
    return stack(*ours), stack(*theirs), stack(*truth)


def check_float32(twin: Twin) -> None:
    """Errors of outputs and gradients in float32 are at most about twice those of torch, over draws enough that no one number decides."""
    ours, theirs, truth = over_draws(twin)
    rows = zip(jax.tree_util.tree_leaves_with_path(ours), jax.tree.leaves(theirs), jax.tree.leaves(truth), strict=True)
    for (path, a), b, t in rows:
        assert a.dtype == np.float32
        error = np.abs(np.asarray(a, np.float64) - t).max()
        assert error <= no_worse_bound(b, t), f"{jax.tree_util.keystr(path)}: {error:.2e}, torch {np.abs(b - t).max():.2e}"


def check_singular(twin: Twin) -> None:
    """Rows at the origin, rows that coincide, parameters that are 0 but for a scale: finite, and torch's numbers where it has some."""
    for empty in (False, True):
        raw = twin.raw(3)
        for u in raw["points"]:
            u[0] = 0
            u[-1] = u[-2]
        if len({a.shape for a in raw["points"]}) == 1 < len(raw["points"]):
            raw["points"][1][-1] = raw["points"][0][-1]
        if empty:
            raw["params"] = {n: v if n == "scale" else np.zeros_like(v) for n, v in raw["params"].items()}
        cotangents = twin.cotangents(raw)
        value, grads = twin.program(raw, cotangents)
        their_value, _ = twin.torch_sides(raw, cotangents, torch.float64)
        for path, a in jax.tree_util.tree_leaves_with_path((value, grads)):
            assert np.isfinite(a).all(), f"{jax.tree_util.keystr(path)} is not finite"
        for a, b in zip(value, their_value, strict=True):
            np.testing.assert_allclose(np.where(np.isfinite(b), a, 0), np.where(np.isfinite(b), b, 0), rtol=0, atol=2e-7)


def check_steps(twin: Twin) -> None:
    """Three steps of RiemannianAdam from the same start: the displacement of each parameter."""
    raw = twin.raw(4)
    cotangents = twin.cotangents(raw)
    m = twin.manifold(NUMBER[twin.space])
    place = jax.jit(m.from_tangent0)
    start = {n: np.asarray(place(v)) if n in twin.points else v for n, v in raw["params"].items()}
    points = [*(np.asarray(place(u)) for u in raw["points"]), *twin.others(raw, np.asarray)]
    tree = {n: m if n in twin.points else Euclidean() for n in start}
    tx = riemannian_adam(1e-2, manifolds=tree)

    def loss(params: Any) -> Any:
        out = as_tuple(twin.ours(twin.layer, unflatten_dict(params, sep="/"), m, points))
        return sum(jnp.sum(o * c) for o, c in zip(out, cotangents, strict=True))

    @jax.jit
    def step(params: Any, state: Any) -> Any:
        updates, state = tx.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    params, state = start, tx.init(start)
    for _ in range(3):
        params, state = step(params, state)

    number = torch.tensor(NUMBER[twin.space], dtype=torch.float64)
    space = geoopt.Stereographic(-number) if twin.space == "ball" else geoopt.Lorentz(number)
    theirs = {}
    for n, v in start.items():
        value = torch.tensor(v)
        theirs[n] = geoopt.ManifoldParameter(value, manifold=space) if n in twin.points else torch.nn.Parameter(value)
    module, optimizer = twin.original(space).double(), geoopt.optim.RiemannianAdam(theirs.values(), lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        out = as_tuple(twin.theirs(module, twin.named(theirs), space, [torch.tensor(x) for x in points]))
        sum((o * torch.tensor(c)).sum() for o, c in zip(out, cotangents, strict=True)).backward()
        optimizer.step()
    for n, begin in start.items():
        error = relative_error(np.asarray(params[n]) - begin, theirs[n].detach().numpy() - begin)
        assert error < DISPLACEMENT, f"{n} is {error:.2e} off after three steps"


CHECKS = (check_values_and_gradients, check_float32, check_singular, check_steps)
