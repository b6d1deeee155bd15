"""The same line search by geoopt and by the port: an objective on several manifolds, and a run of each from the same points."""

from __future__ import annotations

import warnings
from typing import Any

import geoopt
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from parity_tests import draws
from port_jax import manifolds as port
from port_jax.optim import riemannian_line_search
from port_jax.optim.riemannian_line_search import Conjugacy
from reference_torch.optim.riemannian_line_search import Ball, Hyperboloid, RiemannianLineSearch

STEPS = 20
C, K, NUDGES = 0.7, 1.7, 5


def theirs(name: str) -> Any:
    def number(value: float) -> Any:
        return torch.tensor(value, dtype=torch.float64)

    if name == "ball":
        return Ball(number(C))
    if name == "lorentz":
        return Hyperboloid(number(K))
    return geoopt.Sphere() if name == "sphere" else None


OURS = {"ball": port.PoincareBall(C), "lorentz": port.Lorentz(K), "sphere": port.Sphere(), "flat": port.Euclidean()}
ALL = tuple(OURS)


def problem(names: tuple[str, ...], seed: int) -> tuple[dict, dict, dict]:
    """Points, targets and weights of a badly scaled objective, so that twenty steps do not end it."""
    rng = draws.rng(seed)
    points, targets, weights = {}, {}, {}
    for name in names:
        x, t = 0.5 * rng.standard_normal((2, 3, 4))
        if name == "ball":
            x, t = (0.5 / np.sqrt(C) * v / np.linalg.norm(v, axis=-1, keepdims=True) for v in (x, t))
        elif name == "sphere":
            x, t = (v / np.linalg.norm(v, axis=-1, keepdims=True) for v in (x, t))
        elif name == "lorentz":
            x, t = (np.concatenate([np.sqrt(K + (v**2).sum(-1, keepdims=True)), v], -1) for v in (x, t))
        points[name], targets[name] = x, t
        weights[name] = 0.02 * 30 ** rng.random(x.shape)
    return points, targets, weights


def objective(params: Any, targets: Any, weights: Any) -> Any:
    errors = {n: (p - targets[n]) ** 2 for n, p in params.items()}
    return sum((weights[n] * (e + e**2)).sum() for n, e in errors.items())


def hestenes_stiefel_torch(params: Any, states: Any, **_: Any) -> float:
    above = below = 0.0
    for p in params:
        state, manifold = states[p], p.manifold if isinstance(p, geoopt.ManifoldParameter) else geoopt.Euclidean()
        if "grad_transported" not in state:
            return 0.0
        change = state["grad"] - state["grad_transported"]
        above += manifold.inner(p, state["grad"], change).sum().item()
        below += manifold.inner(p, state["search_transported"], change).sum().item()
    return above / below


def hestenes_stiefel(c: Conjugacy) -> Any:
    change = [g - t for g, t in zip(c.grad, c.transported_grad, strict=True)]
    return c.inner(c.grad, change) / c.inner(c.transported_direction, change)


def run_torch(
    names: tuple[str, ...],
    seed: int = 1,
    sign: float = 1.0,
    calls: Any = ({},) * STEPS,
    nudge: int | None = None,
    **options: Any,
) -> tuple:
    """(step sizes, 0 for none; points after each step). `sign` -1 hands over gradients that lie.

    `nudge` starts one ulp away, each coordinate up or down, by its number.
    """
    points, *rest = ({n: torch.tensor(v) for n, v in part.items()} for part in problem(names, seed))
    if nudge is not None:
        rng = draws.rng(nudge)
        points = {n: torch.nextafter(p, torch.tensor(rng.choice([-9.0, 9.0], tuple(p.shape)))) for n, p in points.items()}
    manifold_parameter: Any = geoopt.ManifoldParameter
    params = {n: torch.nn.Parameter(p) if theirs(n) is None else manifold_parameter(p, manifold=theirs(n)) for n, p in points.items()}
    opt = RiemannianLineSearch(list(params.values()), **options)

    def closure() -> float:
        opt.zero_grad()
        loss = objective(params, *rest)
        (sign * loss).backward()
        return loss.item()

    trace = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for call in calls:
            opt.step(closure, **call, recompute_gradients=True)
            trace.append({n: p.detach().numpy().copy() for n, p in params.items()})
    return np.array([a or 0.0 for a in opt.step_size_history], float), trace


def run_jax(names: tuple[str, ...], seed: int = 1, sign: float = 1.0, calls: Any = ({},) * STEPS, **options: Any) -> tuple:
    points, targets, weights = jax.tree.map(jnp.asarray, problem(names, seed))
    tx: Any = riemannian_line_search(manifolds={n: OURS[n] for n in names}, **options)

    def fn(p: Any) -> Any:
        return objective(p, targets, weights)

    def step(carry: Any, call: Any) -> Any:
        params, state = carry
        value, grad = jax.value_and_grad(fn)(params)
        grad = jax.tree.map(lambda g: sign * g, grad)
        updates, state = tx.update(grad, state, params, value=value, grad=grad, value_fn=fn, **call)
        params = optax.apply_updates(params, updates)
        return (params, state), (params, state.step_size, state.found)

    feed = {k: jnp.array([c.get(k, False) for c in calls]) for k in ("force_step", "no_step")}
    _, (trace, sizes, found) = jax.jit(lambda p, f: jax.lax.scan(step, (p, tx.init(p)), f))(points, feed)
    assert np.array_equal(np.asarray(sizes) != 0, np.asarray(found))
    return np.asarray(sizes), [{n: np.asarray(v[i]) for n, v in trace.items()} for i in range(len(calls))]
