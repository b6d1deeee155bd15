"""Torch beside JAX on one checkpoint: bits, forward pass, gradients, and the next 10 optimizer steps. Imports torch when called."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from weights import convert, diff
from weights.checkpoint import Checkpoint
from weights.errors import Usage
from weights.models import ARCHITECTURES
from weights.probes import Probe, probe_of

LEVELS = ("bits", "forward", "grad", "step")
STEPS = 10
# facts: the float64 differences of a whole model stay within ten times those of geoopt's maps near radius 0.99.
FLOAT64 = {"forward": 1e-10, "grad": 1e-9, "step": 1e-10}


class Row(NamedTuple):
    """One comparison. `error` and `gate` are relative to the largest reference value; for steps, to the way gone."""

    level: str
    dtype: str
    what: str
    error: float
    gate: float
    ok: bool


def verify(
    checkpoint: Checkpoint, path: str | Path, graph: str | Path | None = None, *, level: str = "step", seed: int = 0
) -> list[Row]:
    """Compares the checkpoint with the torch file it came from; each level includes those before it.

    bits: every tensor exported again is the file's, bit by bit. forward, grad: outputs, and vector-Jacobian products with
    random cotangents, at the same inputs. step: the optimizers of both sides go on from the file's state for 10 steps on
    one loss. float64 is gated absolutely; float32 by what torch itself loses against float64: at most twice that and 4
    units in the last place, and for steps ten times torch's own drift after a start moved by one unit.
    """
    depth = LEVELS.index(level)
    rows = _bits(checkpoint, Path(path))
    if depth == 0:
        return rows
    table = ARCHITECTURES.get(checkpoint.arch)
    if table is None or table.reference is None:
        raise Usage(f"{checkpoint.arch} has no torch reference to compare with", "Use --level bits")
    if not jax.config.read("jax_enable_x64"):
        raise Usage("float64 is off in jax", "Set jax_enable_x64 before comparing")
    probe = probe_of(checkpoint, graph, seed)
    sides = {name: _Sides(checkpoint, table.reference, Path(path), probe, name) for name in ("float64", "float32")}
    for kind in LEVELS[1 : depth + 1]:
        if kind == "step" and checkpoint.optimizer is None:
            continue
        exact = _run(sides["float64"], kind)
        rows += _gated(kind, "float64", exact, None, FLOAT64[kind])
        rows += _gated(kind, "float32", _run(sides["float32"], kind), exact, None)
    return rows


def versions() -> dict[str, str]:
    """What was compared with what."""
    return {name: version(name) for name in ("torch", "geoopt", "jax", "flax", "optax", "numpy")}


def failed(rows: Sequence[Row]) -> bool:
    """Whether any comparison is beyond its gate."""
    return any(not row.ok for row in rows)


def show(rows: Sequence[Row]) -> None:
    """The table."""
    table = Table()
    for name in ("level", "type", "what", "error", "gate", ""):
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(
            row.level, row.dtype, row.what, f"{row.error:.2e}", f"{row.gate:.1e}", "ok" if row.ok else "FAILED"
        )
    Console().print(table)


@dataclass
class _Results:
    """Named arrays of both sides; `scale` divides errors, `drift` is torch's own after a moved start."""

    torch: dict[str, np.ndarray]
    jax: dict[str, np.ndarray]
    scale: dict[str, float]
    drift: dict[str, float]


class _Sides:
    """The model in torch and in JAX, in one precision."""

    def __init__(self, checkpoint: Checkpoint, reference: Callable[[Any], Any], path: Path, probe: Probe, dtype: str):
        import torch

        self.checkpoint, self.probe, self.dtype, self.path = checkpoint, probe, dtype, path
        self.torch_dtype = getattr(torch, dtype)
        self.reference = reference
        self.found: dict[str, _Results] | None = None
        self.variables = jax.tree.map(self.cast, checkpoint.variables)

    def cast(self, leaf: Any) -> Any:
        return (
            jax.numpy.asarray(leaf, self.dtype) if jax.numpy.issubdtype(np.asarray(leaf).dtype, np.floating) else leaf
        )

    def module(self, nudge: bool = False) -> Any:
        """The torch reference with the file's tensors, in this precision; `nudge` moves each by one unit in the last place."""
        import torch

        module = self.reference(self.checkpoint.settings)
        by_key = {e.key: e for e in self.checkpoint.entries}
        value = convert.to_torch(self.checkpoint.entries, self.checkpoint.variables, self.checkpoint.constants)
        state = {key: torch.from_numpy(np.array(value(key))) for key in by_key}
        module.load_state_dict(state)
        module.to(self.torch_dtype).eval()
        if nudge:
            with torch.no_grad():
                for parameter in module.parameters():
                    parameter.copy_(torch.nextafter(parameter, torch.full_like(parameter, float("inf"))))
        return module

    def paths(self, values: Callable[[str], Any]) -> dict[str, np.ndarray]:
        """Arrays by the key of each trained parameter."""
        return {e.key: np.asarray(values(e.key)) for e in self.checkpoint.entries if e.role == "parameter"}

    def back(self, tree: Any) -> dict[str, np.ndarray]:
        """A tree beside the variables, in torch's layout, by key."""
        flat = convert.flatten(tree)
        return {
            e.key: convert.inverse(e, np.asarray(flat[str(e.path)]), str(e.path))
            for e in self.checkpoint.entries
            if e.role == "parameter"
        }


def _bits(checkpoint: Checkpoint, path: Path) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        back = Path(folder, path.stem + ".pth")
        checkpoint.export(back)
        rows = [row for row in diff.compare(path, back) if not row.equal]
    total = len(checkpoint.entries)
    return [Row("bits", "as stored", f"{total} tensors and optimizer state", float(len(rows)), 0.0, not rows)]


def _run(sides: _Sides, level: str) -> _Results:
    if level == "step":
        return _step(sides)
    if sides.found is None:
        sides.found = _forward_and_grad(sides)
    return sides.found[level]


def _cotangents(outputs: dict[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {name: random.standard_normal(np.shape(value)) for name, value in sorted(outputs.items())}


def _forward_and_grad(sides: _Sides) -> dict[str, _Results]:
    module = sides.module()
    outputs = sides.probe.torch(module, sides.torch_dtype)
    theirs = {k: v.detach().numpy() for k, v in outputs.items()}
    weights = _cotangents(theirs, sides.probe.seed)
    sum((v * v.new_tensor(weights[k])).sum() for k, v in outputs.items()).backward()  # pyright: ignore[reportAttributeAccessIssue]
    found = dict(module.named_parameters())
    slopes = sides.paths(lambda key: np.zeros(found[key].shape) if found[key].grad is None else found[key].grad.numpy())

    @jax.jit
    def both(variables: Any, inputs: Any) -> Any:
        ours, back = jax.vjp(lambda v: sides.probe.jax(sides.checkpoint.model, v, inputs), variables)
        return ours, back({k: jax.numpy.asarray(weights[k], v.dtype) for k, v in ours.items()})[0]

    ours, ours_slopes = both(sides.variables, sides.probe.inputs(sides.dtype))
    return {
        "forward": _Results(theirs, jax.tree.map(np.asarray, ours), {}, {}),
        "grad": _Results(slopes, sides.back(ours_slopes), {}, {}),
    }


def _step(sides: _Sides) -> _Results:
    theirs, targets, start = _torch_steps(sides, False)
    moved, _, _ = _torch_steps(sides, True)
    checkpoint = sides.checkpoint

    def loss(params: Any, inputs: Any) -> Any:
        outputs = sides.probe.jax(checkpoint.model, {**sides.variables, "params": params}, inputs)
        return sum(((v - jax.numpy.asarray(targets[k], v.dtype)) ** 2).sum() for k, v in outputs.items())

    @jax.jit
    def advance(params: Any, state: Any, inputs: Any) -> tuple[Any, Any]:
        updates, state = checkpoint.optimizer.update(jax.grad(loss)(params, inputs), state, params)
        return jax.tree.map(lambda p, u: p + u, params, updates), state

    params, inputs = sides.variables["params"], sides.probe.inputs(sides.dtype)
    state = jax.tree.map(sides.cast, checkpoint.opt_state)
    for _ in range(STEPS):
        params, state = advance(params, state, inputs)
    ours = sides.back({**sides.variables, "params": params})
    way = {key: float(np.max(np.abs(theirs[key] - start[key]), initial=0)) for key in theirs}
    drift = {key: float(np.max(np.abs(moved[key] - theirs[key]), initial=0)) for key in theirs}
    return _Results(theirs, ours, way, drift)


def _torch_steps(
    sides: _Sides, nudge: bool
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Parameters after the steps, the loss's targets (close to the outputs, so that points stay inside), and the start."""
    from weights.probes import torch_optimizer

    module = sides.module()
    first = {k: v.detach().numpy() for k, v in sides.probe.torch(module, sides.torch_dtype).items()}
    noise = _cotangents(first, sides.probe.seed)
    targets = {k: (v + 0.05 * np.max(np.abs(v)) * noise[k]).astype(v.dtype) for k, v in first.items()}
    module = sides.module(nudge)
    optimizer = torch_optimizer(sides.checkpoint, module, sides.torch_dtype)
    found = dict(module.named_parameters())
    start = sides.paths(lambda key: found[key].detach().numpy().copy())
    for _ in range(STEPS):
        optimizer.zero_grad()
        outputs = sides.probe.torch(module, sides.torch_dtype)
        sum(((v - v.new_tensor(targets[k])) ** 2).sum() for k, v in outputs.items()).backward()  # pyright: ignore[reportAttributeAccessIssue]
        optimizer.step()
    return sides.paths(lambda key: found[key].detach().numpy().copy()), targets, start


def _gated(level: str, dtype: str, found: _Results, exact: _Results | None, gate: float | None) -> list[Row]:
    rows = []
    for name in found.torch:
        theirs, ours = found.torch[name].astype(np.float64), found.jax[name].astype(np.float64)
        top = float(np.max(np.abs(theirs), initial=0))
        scale = found.scale.get(name) or top or 1.0
        unit = float(np.finfo(np.float32).eps) * top
        if exact is None:
            error, limit = _largest(ours - theirs), (gate or 0.0) * scale
        elif level == "step":
            error, limit = _largest(ours - theirs), 10 * found.drift[name] + 4 * unit
        else:
            truth = exact.torch[name].astype(np.float64)
            error, limit = _largest(ours - truth), 2 * _largest(theirs - truth) + 4 * unit
        error, limit = error / scale, limit / scale
        rows.append(Row(level, dtype, name, error, limit, bool(np.isfinite(error)) and error <= limit))
    return rows


def _largest(gap: np.ndarray) -> float:
    return float(np.max(np.abs(gap), initial=0))
