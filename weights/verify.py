"""Torch beside JAX on one checkpoint: bits, forward pass, gradients, and the next 10 optimizer steps. Imports torch when called."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
NUDGES = (1, 2, 3)
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
    one loss. An error is the difference of the two sides, over the largest value (for steps, over the way gone). Its gate
    is ten times torch's own drift, the largest of three, after all numbers moved by one unit in the last place (for steps,
    moved as far as the gradients differ already, see `_amplified`, whose own gate is at the level before): float64 may
    differ by the fixed gates of `FLOAT64` in any case; float32 passes as well by being as near to float64 as torch's
    float32 is, twice its error and 4 units in the last place.
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
    results = {name: _forward_and_grad(side) for name, side in sides.items()}
    if level == "step" and checkpoint.optimizer is not None:
        for name, side in sides.items():
            results[name]["step"] = _amplified(_step(side), results[name]["grad"])
    for kind in LEVELS[1 : depth + 1]:
        if kind in results["float64"]:
            rows += _gated(kind, "float64", results["float64"][kind], None)
            rows += _gated(kind, "float32", results["float32"][kind], results["float64"][kind])
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
        self.variables = jax.tree.map(self.cast, checkpoint.variables)
        self.inputs = probe.inputs(dtype)
        self.pull = jax.jit(self._pull)

    def _pull(self, variables: Any, inputs: Any, weights: Any, targets: Any, strength: Any) -> tuple[Any, Any]:
        """Outputs, and the gradient of sum(weights * outputs) + strength * mean((outputs - targets)^2): one compilation for all levels."""
        ours, back = jax.vjp(lambda v: self.probe.jax(self.checkpoint.model, v, inputs), variables)
        pulls = {k: weights[k] + 2 * strength / v.size * (v - targets[k]) for k, v in ours.items()}
        return ours, back({k: pull.astype(ours[k].dtype) for k, pull in pulls.items()})[0]

    def cast(self, leaf: Any) -> Any:
        return (
            jax.numpy.asarray(leaf, self.dtype) if jax.numpy.issubdtype(np.asarray(leaf).dtype, np.floating) else leaf
        )

    def module(self, nudge: int = 0) -> Any:
        """The torch reference with the file's tensors, in this precision.

        `nudge` > 0 seeds a move of all numbers by one unit in the last place, up or down at random.
        """
        import torch

        module = self.reference(self.checkpoint.settings)
        by_key = {e.key: e for e in self.checkpoint.entries}
        value = convert.to_torch(self.checkpoint.entries, self.checkpoint.variables, self.checkpoint.constants)
        state = {key: torch.from_numpy(np.array(value(key))) for key in by_key}
        module.load_state_dict(state)
        module.to(self.torch_dtype).eval()
        if nudge:
            ways = torch.Generator().manual_seed(nudge)
            with torch.no_grad():
                for parameter in module.parameters():
                    up = torch.rand(parameter.shape, generator=ways) < 0.5
                    parameter.copy_(torch.nextafter(parameter, torch.where(up, float("inf"), float("-inf")).to(parameter.dtype)))
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


def _cotangents(outputs: dict[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {name: random.standard_normal(np.shape(value)) for name, value in sorted(outputs.items())}


def _forward_and_grad(sides: _Sides) -> dict[str, _Results]:
    theirs, slopes = _torch_pull(sides, 0)
    moved, moved_slopes = zip(*(_torch_pull(sides, nudge) for nudge in NUDGES))
    zero = {name: np.zeros_like(value) for name, value in theirs.items()}
    weights = _cotangents(theirs, sides.probe.seed)
    ours, ours_slopes = sides.pull(sides.variables, sides.inputs, _like(weights, theirs), zero, 0.0)
    return {
        "forward": _Results(theirs, jax.tree.map(np.asarray, ours), {}, _drift(moved, theirs)),
        "grad": _Results(slopes, sides.back(ours_slopes), {}, _drift(moved_slopes, slopes)),
    }


def _torch_pull(sides: _Sides, nudge: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Outputs of the torch module, and its gradients for random cotangents."""
    module = sides.module(nudge)
    outputs = sides.probe.torch(module, sides.torch_dtype)
    theirs = {k: v.detach().numpy() for k, v in outputs.items()}
    weights = _cotangents(theirs, sides.probe.seed)
    sum((v * v.new_tensor(weights[k])).sum() for k, v in outputs.items()).backward()  # pyright: ignore[reportAttributeAccessIssue]
    found = dict(module.named_parameters())
    return theirs, sides.paths(lambda key: np.zeros(found[key].shape) if found[key].grad is None else found[key].grad.numpy())


def _step(sides: _Sides) -> _Results:
    theirs, targets, start = _torch_steps(sides, 0)
    moved = [_torch_steps(sides, nudge)[0] for nudge in NUDGES]
    zero = {name: np.zeros_like(value) for name, value in targets.items()}
    advance = jax.jit(sides.checkpoint.optimizer.update)
    variables = sides.variables
    state = jax.tree.map(sides.cast, sides.checkpoint.opt_state)
    for _ in range(STEPS):
        _, slopes = sides.pull(variables, sides.inputs, zero, targets, 1.0)
        updates, state = advance(slopes["params"], state, variables["params"])
        variables = {**variables, "params": jax.tree.map(lambda p, u: p + u, variables["params"], updates)}
    return _Results(theirs, sides.back(variables), _gaps(theirs, start), _drift(moved, theirs))


def _gaps(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> dict[str, float]:
    return {key: _largest(a[key].astype(np.float64) - b[key]) for key in a}


def _amplified(steps: _Results, slopes: _Results) -> _Results:
    """Steps whose drift is that of a start as far away as the gradients of both sides are apart already.

    One unit in the last place of the parameters moves torch's gradients less than another order of rounding in its formulas
    does. The factor is the median over the parameters of (gradient difference of the sides / drift of torch's gradient).
    """
    gaps = _gaps(slopes.jax, slopes.torch)
    ratios = [gaps[key] / slopes.drift[key] for key in gaps if slopes.drift[key] > 0]
    factor = max(1.0, float(np.median(ratios))) if ratios else 1.0
    return replace(steps, drift={key: factor * drift for key, drift in steps.drift.items()})


def _drift(moved: Sequence[dict[str, np.ndarray]], theirs: dict[str, np.ndarray]) -> dict[str, float]:
    """How far torch itself ends elsewhere after a nudged start: the farthest of a few."""
    return {key: max(_gaps(other, theirs)[key] for other in moved) for key in theirs}


def _like(arrays: dict[str, np.ndarray], others: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: array.astype(others[name].dtype) for name, array in arrays.items()}


def _torch_steps(
    sides: _Sides, nudge: int
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
        sum(((v - v.new_tensor(targets[k])) ** 2).mean() for k, v in outputs.items()).backward()  # pyright: ignore[reportAttributeAccessIssue]
        optimizer.step()
    return sides.paths(lambda key: found[key].detach().numpy().copy()), targets, start


def _gated(level: str, dtype: str, found: _Results, exact: _Results | None) -> list[Row]:
    """One row for each array. Where float32 is beyond torch's drift, being as near to float64 as torch is passes too."""
    rows = []
    for name in found.torch:
        theirs, ours = found.torch[name].astype(np.float64), found.jax[name].astype(np.float64)
        top = _largest(theirs)
        scale = found.scale.get(name) or top or 1.0
        error, limit = _largest(ours - theirs), 10 * found.drift[name]
        if exact is None:
            limit = max(limit, FLOAT64[level] * scale)
        else:
            unit = float(np.finfo(np.float32).eps) * top
            limit += 4 * unit
            if error > limit:
                truth = exact.torch[name].astype(np.float64)
                error, limit = _largest(ours - truth), 2 * _largest(theirs - truth) + 4 * unit
        error, limit = error / scale, limit / scale
        rows.append(Row(level, dtype, name, error, limit, bool(np.isfinite(error)) and error <= limit))
    return rows


def _largest(gap: np.ndarray) -> float:
    return float(np.max(np.abs(gap), initial=0))
