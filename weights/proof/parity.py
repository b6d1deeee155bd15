"""A port beside its torch module, as a tool: what `verify` compares, the first layer that differs, and what kind of error it looks like."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import optax

from weights.checkpoint import Checkpoint, load
from weights.errors import Usage
from weights.files.opening import hashes
from weights.mapping.port import Port
from weights.proof import causes, layers, lookups, planted, points_beside, report, report_page, step_causes, verify
from weights.proof.causes import Cause
from weights.proof.layers import Difference
from weights.proof.plants import curvatures_of, restored
from weights.proof.rows import FLOAT64, Row
from weights.proof.sides import Original, Sides
from weights.proof.training import Training
from weights.proof.witness import Witness
from weights.types import TorchModule
from weights.views.terminal import Screen

GATE = 1e-8
"""By which layers are told apart in float64, relative to the largest value; outputs have the gates of `verify`."""
GRADIENT = "gradient of "
"""What a difference is called, before the key, where outputs agree and a gradient does not."""


@dataclass(frozen=True)
class Parity:
    """What was compared. rows: as `verify` gives them. first: where the outputs begin to differ; None where they do not. cause: what it
    looks like, None where nothing that was tried explains it. planted: in mutation mode, the planted errors. name: the port's. about: the
    torch module, the inputs and the file, for the page.
    """

    rows: list[Row]
    first: Difference | None = None
    cause: Cause | None = None
    planted: tuple[planted.Planted, ...] = ()
    name: str = "port"
    about: Mapping[str, str] = field(default_factory=dict)

    def html(self, path: str | Path, overwrite: bool = False) -> None:
        """Writes a page that a browser opens without a network, and its JSON beside it. NotWritten if one exists, unless `overwrite`."""
        report_page.write(self._report(), html=path, overwrite=overwrite)

    def json(self, path: str | Path, overwrite: bool = False) -> None:
        """Writes the numbers of the page alone."""
        report_page.write(self._report(), data=path, overwrite=overwrite)

    def _report(self) -> report.Report:
        told = (*explained(self.first, self.cause, self.rows), *(planted.report(self.planted) if self.planted else ()))
        pair = report.Pair(self.name, "port", self.name, "its torch module, or the witness of it", tuple(self.rows), told)
        return report.of_pair(f"{self.name} beside its original", pair, self.about)

    @property
    def ok(self) -> bool:
        """Whether every comparison is within its gate."""
        return not verify.failed(self.rows)

    @property
    def missed(self) -> list[planted.Planted]:
        """The planted errors that the inputs would not have shown."""
        return [one for one in self.planted if not one.caught]

    def __str__(self) -> str:
        counted = verify.summary([row for row in self.rows if row.verified])
        left = [f"Not verified: {row.what}." for row in self.rows if not row.verified]
        told = planted.report(self.planted) if self.planted else ()
        bad = [row for row in self.rows if not row.ok] if self.first is None else []
        beyond = [f"Beyond its gate: {row.what} ({row.level}, {row.dtype}): {row.error:.2e}, gate {row.gate:.1e}." for row in bad[:8]]
        return "\n".join([counted, *beyond, *left, *explained(self.first, self.cause, self.rows), *told])


def parity(port: Port, original: TorchModule | str | Path, inputs: Any = None, *, optimizer: Any = None, transformation: Any = None,
           witness: str | Path | None = None, level: str = "step", types: Sequence[str] = verify.TYPES, mutants: bool = False,
           seed: int = 0) -> Parity:  # fmt: skip
    """Compares a port with a torch module, or with the module that the port makes, loaded with a torch file.

    Outputs, vector-Jacobian and Hessian-vector products and the gradient of each parameter, ten steps (those of `optimizer` from its state,
    else of a fresh RiemannianAdam), in float64 and float32, compiled; outputs without compilation and under `vmap`; outputs, gradients and
    new statistics in training with shared masks of dropout, where the port has `train`: see `weights.proof.verify.verify`, whose levels and
    gates are these. Where outputs differ, the first layer in torch's order that does is named, the worst index with both values, and the
    kind of error, which is found by planting errors in the torch module until it computes what the port does.

    inputs: in the place of the port's own. mutants: plants errors in the port, and says which of them these inputs would not show.
    transformation: an optimizer of optax, whose first ten steps are compared with those of `optimizer`, which has not made any (without it
    those are compared that the conversion makes of `optimizer`); where they differ, the variant of Adam is named: decay or epsilon inside
    or outside, correction of the bias, order. witness: what the person's own program has recorded of the file (`weights.witness`), which is
    compared in the place of a torch module; its inputs and outputs have the port's names (those of `inputs=` and of what the model gives;
    "input" and "output" where these are arrays). It needs no torch.

    Otherwise it needs torch. Raises a ConversionError where the port does not fit.
    """
    if inputs is not None:
        port = replace(port, inputs=inputs)
    if witness is not None:
        if not isinstance(original, (str, Path)):
            raise Usage("a witness is given beside a torch module", "Give the file of which it was recorded")
        checkpoint = load(original, port=port)
        recorded = Witness.read(witness, checkpoint)
        rows = verify.verify(checkpoint, original, said=verify.Said(port=port), witness=recorded, level="settings")
        return Parity(rows, name=port.name, about={**report.sides_of(port, checkpoint.settings), **_hashes(Path(original))})
    verify.needed()
    if isinstance(original, (str, Path)):
        if port.torch is None:
            raise Usage(f"the port has no torch module ({port.at})", "Give it torch=, or a module in the place of the file")
        found = _compared(port, Path(original), level, types, mutants, seed, transformation)
        return replace(found, about={**found.about, **_hashes(Path(original))})
    import torch

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"{type(original).__name__}.pth")
        saved = {"model": original.state_dict()} | ({} if optimizer is None else {"optimizer": optimizer.state_dict()})
        torch.save(saved, path)
        return _compared(replace(port, torch=original), path, level, types, mutants, seed, transformation)


def _compared(port: Port, path: Path, level: str, types: Sequence[str], mutants: bool, seed: int, transformation: Any) -> Parity:
    checkpoint = load(path, port=port)
    depth = "grad" if transformation is not None and level == "step" else level
    rows = verify.verify(checkpoint, path, said=verify.Said(port=port), level=depth, types=types, seed=seed)
    found = first_and_cause(checkpoint, rows, seed) if verify.failed(rows) else (None, None)
    if transformation is not None and not verify.failed(rows):
        more, cause = _stepped(checkpoint, transformation, seed)
        rows, found = rows + more, (None, cause)
    shown = tuple(planted.tried(_sides(checkpoint, seed), seed)) if mutants else ()
    return Parity(rows, *found, planted=shown, name=port.name, about=report.sides_of(port, checkpoint.settings))


def _hashes(path: Path) -> dict[str, str]:
    return {f"SHA-256 of {file}": digest for file, digest in (hashes(path, "") if path.is_file() else {}).items()}


def show_planted(checkpoint: Checkpoint, seed: int = 0) -> None:
    """Mutation mode in the shell: how many planted errors the port's inputs show, and those that they do not."""
    screen = Screen()
    for line in planted.report(list(planted.tried(_sides(checkpoint, seed), seed))):
        screen.line(line)


def _stepped(checkpoint: Checkpoint, transformation: Any, seed: int) -> tuple[list[Row], Cause | None]:
    """Ten steps of a person's own transformation beside torch's, and what a difference looks like."""
    if not checkpoint.plans:
        raise Usage("a transformation is given, and there is no optimizer of torch beside it", "Give optimizer=, the one of torch")
    if any(raw["state"] for raw in Original.of(checkpoint).optimizers):
        raise Usage("a transformation begins anew, and the optimizer of torch has made steps", "Give optimizer= before its first step")
    whole = optax.with_extra_args_support(transformation)
    mine = replace(checkpoint, optimizer=whole, opt_state=whole.init(checkpoint.variables["params"]))
    sides = verify.both_sides(mine, checkpoint, None, seed)("float64")
    rows = verify.step_rows(sides, seed)
    return rows, step_causes.of_steps(sides, verify.targets_of(sides, seed)) if verify.failed(rows) else None


def _sides(checkpoint: Checkpoint, seed: int) -> Sides:
    return verify.both_sides(checkpoint, checkpoint, None, seed)("float64")


def first_and_cause(checkpoint: Checkpoint, rows: Sequence[Row], seed: int = 0) -> tuple[Difference | None, Cause | None]:
    """Where the outputs of a checkpoint begin to differ, and what it looks like; of gradients alone only what it looks like."""
    bad = {row.level for row in rows if not row.ok}
    sides = _sides(checkpoint, seed)
    if "forward" in bad or "train" in bad:
        found = _of_values(sides if "forward" in bad else Training.of(sides))
        if found[0] is not None or "forward" in bad:
            return found
    if "grad" in bad:
        theirs, ours = _gradients(sides, seed)
        module = sides.module()
        for key in theirs:
            if not layers.agree(theirs[key], ours[key], FLOAT64["grad"]):
                difference = layers.difference(key, key, True, theirs[key], ours[key])
                found = causes.of_no_numbers(module, theirs[key], ours[key]) or lookups.cause(sides, key, theirs[key], ours[key])
                found = found or causes.of_arrays(theirs[key], ours[key], curvatures_of(module))
                return replace(difference, torch=f"{GRADIENT}{key}"), found
    return None, points_beside.cause(sides) if checkpoint.own_port and bad & {"settings", "step"} else None


def _of_values(sides: Sides) -> tuple[Difference | None, Cause | None]:
    """The first layer that differs, or else the first output, and the cause."""
    module = sides.module()
    with restored(module):
        theirs = layers.torch_calls(sides, module)
    first = layers.first_difference(sides, GATE, theirs, layers.flax_calls(sides)) or _of_outputs(sides)
    if first is None:
        return None, None
    curvatures = curvatures_of(module)
    sizes = [len(value) for value in sides.inputs.values() if np.ndim(value) > 0]
    cause = causes.of_no_numbers(module, first.theirs, first.ours) or lookups.shortened(sides, first.torch, first.ours)
    cause = cause or causes.of_arrays(first.theirs, first.ours, curvatures, sizes)

    def run(changed: TorchModule) -> np.ndarray:
        if not first.torch:
            return sides.run_torch(changed)[first.flax].detach().numpy()
        found = layers.torch_calls(sides, changed)[first.torch].outputs
        return next((x for x in found if x.shape == first.theirs.shape), found[0])

    return first, cause or causes.of_module(module, run, first.ours, first.torch if first.inputs_agree else "", curvatures)


def _of_outputs(sides: Sides) -> Difference | None:
    """The first output that differs, where no layer does: the code around the layers."""
    theirs = {name: value.detach().numpy() for name, value in sides.run_torch(sides.module()).items()}
    ours = sides.outputs()
    for name in theirs:
        if not layers.agree(theirs[name], ours[name], GATE):
            return layers.difference("", name, False, theirs[name], ours[name])
    return None


def _gradients(sides: Sides, seed: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    theirs, slopes = sides.torch_pull(lambda outputs: verify.cotangents(outputs, seed), 0)
    weights = verify.cotangents(theirs, seed)
    _, ours, _ = sides.pull(sides.variables, weights, {name: np.zeros_like(value) for name, value in theirs.items()}, 0.0)
    return sides.tangential(slopes), sides.tangential(ours)


def explained(first: Difference | None, cause: Cause | None, rows: Sequence[Row] = ()) -> Iterator[str]:
    """What was found, in lines. rows: of which the first step that differs is told."""
    if first is not None:
        yield f"{_where(first)}. Farthest at {list(first.index)}: {first.values[0]:.9g} in torch, {first.values[1]:.9g} in JAX."
        if lost := int(np.sum(np.isfinite(first.theirs) & ~np.isfinite(first.ours))):
            yield f"{lost} of {first.ours.size} numbers are not finite in JAX where torch's are."
        else:
            named = ("infinite (torch has 0 there)" if np.isinf(ulp) else f"{ulp:.3g}" for ulp in first.ulp)
            yield "In units in the last place: median {}, 99 % {}, largest {}.".format(*named)
    if steps := sorted((differs, row.what) for row in rows if row.dtype == "float64" and (differs := _first_step(row)) is not None):
        names = [what.partition(" (")[0] for step, what in steps if step == steps[0][0]]
        yield f"The first step that differs is {steps[0][0]}: {', '.join(names)}."
    if cause is not None:
        yield f"It looks like {cause.kind}. {cause.remedy}."
    elif first is not None:
        yield "It looks like none of the errors that were tried: signs, factors, layouts, curvatures, epsilon, mode, missing parameters."


def _where(first: Difference) -> str:
    """Which layer, gradient or output differs first, and where to look."""
    if first.torch.startswith(GRADIENT):
        return f"The outputs agree, and the {first.torch} differs"
    if not first.torch:
        return f"The output {first.flax} differs, and no layer before it does: look at the code around the layers"
    where = f"The first layer that differs is {first.torch} ({first.flax} in flax)"
    if first.inputs_agree:
        return where
    return f"{where}, which is given other inputs: look at the code {f'after {first.after}, ' if first.after else ''}before {first.torch}"


def _first_step(row: Row) -> int | None:
    """The first step after which the sides are farther apart than they may be after the last."""
    return next((step for step, error, _ in row.trail if not error <= row.gate), None) if row.level == "step" and not row.ok else None


__all__ = ["Parity", "explained", "first_and_cause", "parity", "show_planted"]
