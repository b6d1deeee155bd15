"""geoopt's optimizers as witness: the same starts and gradients through both, snapshots compared at the project's gates.

One run covers a tree of parameters: balls, stereographic spaces and hyperboloids of several curvatures, one array each with
the curvature broadcast, and a Euclidean matrix. Gradients are random and in general position, the same for both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import geoopt
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from port_jax import manifolds as port

BALLS = np.array([0.1, 0.7, 1.0, 10.0]).reshape(4, 1, 1)
SIGNED = np.array([-0.4, 0.0, 0.6, -5.0]).reshape(4, 1, 1)
EXACT = np.array([-0.7, 0.5]).reshape(2, 1, 1)
HYPERBOLOIDS = np.array([0.3, 1.0, 5.0]).reshape(3, 1, 1)
SNAPSHOTS = (1, 10, 100, 1000)

Arrays = dict[str, np.ndarray]


def torch_manifolds(dtype: torch.dtype) -> dict[str, Any]:
    """geoopt's manifolds by parameter name; a new set for each run, since geoopt keeps the curvature as a parameter."""

    def number(value: Any) -> torch.Tensor:
        return torch.tensor(value, dtype=dtype)

    return {
        "ball": geoopt.PoincareBall(number(BALLS)).to(dtype),
        "exact": geoopt.StereographicExact(number(EXACT)),
        "flat": None,
        # geoopt's hyperboloid takes no batch of curvatures: one parameter each, stacked in `run_torch`.
        **{f"hyperboloid{i}": geoopt.Lorentz(number(k)) for i, k in enumerate(HYPERBOLOIDS.ravel())},
        "signed": geoopt.Stereographic(number(SIGNED)),
    }


def jax_manifolds(dtype: Any) -> dict[str, port.Manifold]:
    """The port's manifolds by parameter name, with the curvature that geoopt has after its own rounding."""
    theirs = torch_manifolds(torch.float64 if dtype == np.float64 else torch.float32)
    return {
        "ball": port.PoincareBall(jnp.asarray(theirs["ball"].c.detach().numpy())),
        "exact": port.StereographicExact(jnp.asarray(EXACT, dtype)),
        "flat": port.Euclidean(),
        "hyperboloid": port.Lorentz(jnp.asarray(HYPERBOLOIDS, dtype)),
        "signed": port.Stereographic(jnp.asarray(SIGNED, dtype)),
    }


def starts(seed: int = 0) -> Arrays:
    """Points in general position, from the origin's neighbourhood to 0.95 of the radius; in float64."""
    rng = np.random.default_rng(seed)

    def inside(k: np.ndarray, d: int = 4) -> np.ndarray:
        direction = rng.standard_normal((len(k), 5, d))
        direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
        radius = np.linspace(0.02, 0.95, 5)[None, :, None]
        return direction * radius / np.sqrt(np.where(k == 0, 1, np.abs(k)))

    points = {
        "ball": inside(BALLS),
        "exact": inside(EXACT),
        "flat": rng.standard_normal((5, 4)),
        "signed": inside(SIGNED),
    }
    space = rng.standard_normal((3, 5, 8))
    space *= np.linspace(0.1, 2, 5)[:, None] * np.sqrt(HYPERBOLOIDS) / np.linalg.norm(space, axis=-1, keepdims=True)
    points["hyperboloid"] = np.concatenate([np.sqrt(HYPERBOLOIDS + (space**2).sum(-1, keepdims=True)), space], -1)
    return points


def gradients(points: Mapping[str, np.ndarray], steps: int, seed: int = 1) -> Arrays:
    """Independent normal gradients `[steps, *shape]`."""
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal((steps, *p.shape)) for name, p in points.items()}


def run_torch(
    optimizer: type, options: Mapping[str, Any], points: Arrays, grads: Arrays, dtype: Any
) -> tuple[list, dict[str, Arrays]]:
    """(points after each step, the state at the end by its key in torch)."""
    kind = torch.float64 if dtype == np.float64 else torch.float32
    leaves, feed = {}, {}
    for name, manifold in torch_manifolds(kind).items():
        one, axis = name.rstrip("012"), 0 if name[-1].isdigit() else None
        at = int(name[-1]) if axis == 0 else slice(None)
        tensor = torch.tensor(points[one][at].astype(dtype))
        leaves[name] = (
            torch.nn.Parameter(tensor) if manifold is None else geoopt.ManifoldParameter(tensor, manifold=manifold)
        )
        feed[name] = torch.tensor(grads[one][:, at].astype(dtype))
    opt = optimizer(list(leaves.values()), **options)
    trace = []
    for t in range(len(grads["flat"])):
        for name, leaf in leaves.items():
            leaf.grad = feed[name][t].clone()
        opt.step()
        trace.append(_stacked({name: leaf.detach().numpy().copy() for name, leaf in leaves.items()}))
    state = {name: {k: np.asarray(v) for k, v in opt.state[leaf].items()} for name, leaf in leaves.items()}
    keys = {k for entry in state.values() for k in entry}
    return trace, {key: _stacked({name: entry[key] for name, entry in state.items()}) for key in keys}


def _stacked(arrays: Arrays) -> Arrays:
    singles = sorted(name for name in arrays if name[-1].isdigit())
    return {k: v for k, v in arrays.items() if k not in singles} | {
        "hyperboloid": np.stack([arrays[k] for k in singles])
    }


def run_jax(
    make: Callable[..., optax.GradientTransformation], points: Arrays, grads: Arrays, dtype: Any
) -> tuple[Any, Any]:
    """(points after each step, stacked; the transformation's state at the end). All steps in one compiled scan."""
    tx = make(manifolds=jax_manifolds(dtype))

    def step(carry: Any, grad: Any) -> Any:
        params, state = carry
        updates, state = tx.update(grad, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    start = {name: jnp.asarray(p, dtype) for name, p in points.items()}
    feed = {name: jnp.asarray(g, dtype) for name, g in grads.items()}
    (_, state), trace = jax.jit(lambda p, g: jax.lax.scan(step, (p, tx.init(p)), g))(start, feed)
    return jax.tree.map(np.asarray, trace), jax.tree.map(np.asarray, state)


def nudged(points: Arrays) -> Arrays:
    """The points as float32, each coordinate moved to a neighbouring number."""
    rng = np.random.default_rng(7)
    moved = {}
    for name, p in points.items():
        single = p.astype(np.float32)
        towards = np.where(rng.random(p.shape) < 0.5, -np.inf, np.inf).astype(np.float32)
        moved[name] = np.nextafter(single, towards)
    return moved


def compare_trajectories(
    optimizer: type,
    options: Mapping[str, Any],
    make: Callable[..., optax.GradientTransformation],
    steps: int,
    moments: Mapping[str, str],
) -> list[str]:
    """What misses a gate, in points and, at the end in float64, in the `moments`: torch's key -> the field of our state.

    float64: 1e-10 of the displacement. float32: ten times the drift of the reference from a nudged start, or twice the
    reference's own distance from the float64 run and four ulp.
    """
    points = starts()
    grads = gradients(points, steps)
    want, want_state = run_torch(optimizer, options, points, grads, np.float64)
    have, have_state = run_jax(make, points, grads, np.float64)
    want32, _ = run_torch(optimizer, options, points, grads, np.float32)
    drift32, _ = run_torch(optimizer, options, nudged(points), grads, np.float32)
    have32, _ = run_jax(make, points, grads, np.float32)
    wrong = []
    for key, field in moments.items():
        for name, moment in want_state[key].items():
            error = np.abs(getattr(have_state, field)[name] - moment).max() / np.abs(moment).max()
            if not error <= 1e-10:
                wrong.append(f"{key} of {name} after {steps} steps in float64: relative error {error:.1e}, gate 1e-10")
    for t in (t for t in SNAPSHOTS if t <= steps):
        for name, start in points.items():
            moved = np.abs(want[t - 1][name] - start).max()
            error = np.abs(have[name][t - 1] - want[t - 1][name]).max() / moved
            error32 = np.abs(have32[name][t - 1] - want32[t - 1][name]).max() / moved
            gate32 = 10 * np.abs(drift32[t - 1][name] - want32[t - 1][name]).max() / moved
            # Or no worse than the reference: geoopt's own float32 run can be off by more than its drift.
            ours, theirs = (
                np.abs(p - want[t - 1][name]).max() / moved for p in (have32[name][t - 1], want32[t - 1][name])
            )
            truth32 = 2 * theirs + 4 * np.finfo(np.float32).eps * np.abs(start).max() / moved
            REPORT.append((optimizer.__name__, dict(options), name, t, error, error32, gate32, ours, theirs))
            if not error <= 1e-10:
                wrong.append(
                    f"{name} after {t} steps in float64: {error:.1e} of the displacement {moved:.1e}, gate 1e-10"
                )
            if not (error32 <= gate32 or ours <= truth32):
                wrong.append(f"{name} after {t} steps in float32: {error32:.1e} of the displacement, gate {gate32:.1e}")
    return wrong


REPORT: list[tuple] = []
"""(optimizer, options, parameter, step, float64 error, float32 error, float32 gate) of every comparison made."""
