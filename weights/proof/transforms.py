"""What JAX's transformations make of a port: Hessian-vector products beside torch's, `vmap`, calls without `jit`, and types of outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from weights.errors import ConversionError
from weights.mapping.entries import flatten, nested
from weights.mapping.flax_modules import said
from weights.proof.flax_run import QUICK, Arrays
from weights.proof.gates import NUDGES, Results, cotangents, drift, gated
from weights.proof.rows import FLOAT64, Row, largest
from weights.proof.sides import Sides
from weights.types import Variables


def rows(sides: Mapping[str, Sides], seed: int) -> list[Row]:
    """Level hvp: products of the Hessian of sum(w * outputs) with a random direction, each type of numbers under the gates of `gated`. jit:
    outputs without compilation, vmap: two sets of variables at once, both in float64. dtype: outputs have the types of torch's.

    Directions are 0 at points of a hyperboloid, and at numbers such as a curvature beside them, off which points would be left: there two
    formulas of one function have other second derivatives.
    """
    hessians = {name: _hessians(side, seed) for name, side in sides.items()}
    found: list[Row] = []
    for name, result in hessians.items():
        if isinstance(result, str):
            found.append(Row("hvp", name, f"Hessian-vector products ({result})", 0.0, 0.0, ok=True, verified=False))
        else:
            exact = hessians["float64"] if name != "float64" else None
            found += gated("hvp", name, result, exact if isinstance(exact, Results) else None)
    for name, side in sides.items():
        found.append(_types(side, name))
    exact = sides["float64"]
    return [*found, *_guarded("jit", lambda: _uncompiled(exact)), *_guarded("vmap", lambda: _mapped(exact))]


def _hessians(sides: Sides, seed: int) -> Results | str:
    """The products on both sides, or why torch has none."""
    way = _direction(sides, seed)
    try:
        theirs, *moved = (sides.tangential(_torch_product(sides, way, seed, nudge)) for nudge in (0, *NUDGES))
    except (RuntimeError, NotImplementedError) as error:
        return f"torch has no second derivative here: {said(error)}"
    if not all(np.isfinite(value).all() for value in theirs.values()):
        return "torch's are not finite here"
    ours = sides.tangential(_jax_product(sides, way, seed))
    return Results(torch=theirs, jax=ours, drift=drift(moved, theirs))


def _direction(sides: Sides, seed: int) -> Arrays:
    """Random numbers by key, in torch's layout, of the parameters' size."""
    start, random = sides.back(sides.variables), np.random.default_rng(seed + 1)
    ambient = {key for key, (manifold, _) in sides.curved.items() if manifold.ambient}
    found = {}
    for key, value in sorted(start.items()):
        still = key in ambient or (bool(ambient) and value.size == 1)
        drawn = random.standard_normal(value.shape) * (largest(value) or 1.0)
        found[key] = (0 * drawn if still else drawn).astype(value.dtype)
    return found


def _torch_product(sides: Sides, way: Arrays, seed: int, nudge: int) -> Arrays:
    import torch

    module = sides.module(nudge)
    outputs = sides.run_torch(module)
    weights = cotangents({name: value.detach().numpy() for name, value in outputs.items()}, seed)
    named = dict(module.named_parameters())
    moving = [key for key in way if named[key].requires_grad]
    points: Any = [named[key] for key in moving]
    total: Any = sum((value * value.new_tensor(weights[name])).sum() for name, value in outputs.items())
    slopes = torch.autograd.grad(total, points, create_graph=True, allow_unused=True)
    change: Any = sum((slope * slope.new_tensor(way[key])).sum() for key, slope in zip(moving, slopes) if slope is not None)
    found = {key: np.zeros_like(value) for key, value in way.items()}
    if getattr(change, "requires_grad", False):
        second = torch.autograd.grad(change, points, allow_unused=True)
        found |= {key: value.to_dense().numpy() for key, value in zip(moving, second) if value is not None}
    return found


def _jax_product(sides: Sides, way: Arrays, seed: int) -> Arrays:
    variables, params = sides.variables, sides.variables["params"]
    flat = {path: np.zeros_like(value) for path, value in flatten({"params": params}).items()}
    for entry in sides.checkpoint.entries:
        if entry.key in way:
            flat[str(entry.path)] = entry.layout.forward(way[entry.key]).reshape(np.shape(flat[str(entry.path)]))
    shapes = {name: np.zeros(s.shape, s.dtype) for name, s in sides.outlined().items()}
    weights = cotangents(shapes, seed)

    def value(params: Any) -> Any:
        outputs = sides.run_flax({**variables, "params": params}, sides.given)
        return sum((outputs[name] * weights[name]).sum() for name in outputs)

    product = jax.jit(lambda p, u: jax.jvp(jax.grad(value), (p,), (u,))[1], compiler_options=QUICK)
    return sides.back({**variables, "params": product(params, jax.tree.map(jax.numpy.asarray, nested(flat)["params"]))})


def _types(sides: Sides, name: str) -> Row:
    """A floating-point output of another type than torch's: promoted by a constant, or rounded."""
    theirs = {key: str(value.dtype).removeprefix("torch.") for key, value in sides.run_torch(sides.module()).items()}
    ours = {key: str(s.dtype) for key, s in sides.outlined().items() if "float" in theirs[key]}
    odd = [f"{key} is {dtype}, torch's {theirs[key]}" for key, dtype in ours.items() if dtype != theirs[key]]
    return Row("dtype", name, "; ".join(odd) or "types of outputs", float(len(odd)), 0.0, ok=not odd)


def _uncompiled(sides: Sides) -> list[Row]:
    with jax.disable_jit():
        found = sides.run_flax(sides.variables, sides.given)
    return _compared("jit", sides, sides.variables, found)


def _mapped(sides: Sides) -> list[Row]:
    """The variables, and others whose flat parameters are a hundredth smaller, at once and one after the other."""
    flat = flatten(sides.variables)
    moved = {**flat, **{str(e.path): 0.99 * flat[str(e.path)] for e in sides.checkpoint.entries
                        if e.role == "parameter" and e.key not in sides.curved and flat[str(e.path)].ndim > 0}}  # fmt: skip
    one, other = sides.variables, nested(moved)
    both = jax.tree.map(lambda *parts: jax.numpy.stack(parts), one, other)
    found = jax.jit(jax.vmap(lambda v: sides.run_flax(v, sides.given)), compiler_options=QUICK)(both)
    halves = ({name: value[n] for name, value in found.items()} for n in (0, 1))
    pairs = zip(*(_compared("vmap", sides, variables, half) for variables, half in zip((one, other), halves)))
    return [max(pair, key=lambda row: (not row.ok, row.error)) for pair in pairs]


def _compared(level: str, sides: Sides, variables: Variables, found: Mapping[str, Any]) -> list[Row]:
    """Outputs beside those of the compiled function."""
    zeros = {name: np.zeros(s.shape, s.dtype) for name, s in sides.outlined().items()}
    compiled, _, _ = sides.pull(variables, zeros, zeros, 0.0)
    made = []
    for name, value in compiled.items():
        error = largest(np.asarray(found[name]) - value) / (largest(value) or 1.0)
        made.append(Row(level, "float64", name, error, FLOAT64["forward"], ok=bool(error <= FLOAT64["forward"])))
    return made


def _guarded(level: str, made: Any) -> list[Row]:
    """The rows, or one that says why there are none."""
    try:
        return made()
    except ConversionError as error:
        return [Row(level, "float64", str(error), 1.0, 0.0, ok=False)]


__all__ = ["rows"]
