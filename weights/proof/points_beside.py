"""The manifolds of a port's points beside those on which the torch module has its parameters: class, curvature, and whether it is trained.

No output and no gradient shows them, and the conversion and its second reading have them both from the port.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from weights.checkpoint import Checkpoint
from weights.files.sections import split_again
from weights.mapping.curvature_settings import ROUNDING, from_raw
from weights.mapping.manifold_trees import CURVED, PLAIN
from weights.proof.causes import Cause
from weights.proof.rows import MANIFOLD, Row
from weights.proof.sides import Sides

ONE_FAMILY = {"PoincareBall": -1.0, "SphereProjection": 1.0, "Stereographic": 1.0}
"""Classes of one geometry, and the sign of the curvature in each."""


@dataclass(frozen=True)
class Space:
    """A manifold in words. number: its curvature as its class takes it. trained: whether an optimizer may move that. raw: the key or the
    name of the raw tensor, for torch's.
    """

    kind: str
    number: float | None = None
    trained: bool = False
    raw: str = ""

    def __str__(self) -> str:
        number = "" if self.number is None else f"{self.number:.6g}"
        return f"{self.kind}({number}{', trained' * self.trained})"

    def same(self, other: Space) -> bool | None:
        """Whether two are one manifold; None where that is not known."""
        (mine, exact), (yours, other_exact) = (_family(one.kind) for one in (self, other))
        if mine in ONE_FAMILY and yours in ONE_FAMILY and self.number is not None and other.number is not None:
            a, b = ONE_FAMILY[mine] * self.number, ONE_FAMILY[yours] * other.number
            return exact == other_exact and _near(a, b) and self.trained == other.trained
        if self.kind == other.kind and self.number is not None and other.number is not None:
            return _near(self.number, other.number) and self.trained == other.trained
        if {self.kind, other.kind} <= {*PLAIN, *CURVED}:
            known = self.kind == other.kind and self.kind in PLAIN
            return True if known else None if self.kind == other.kind else False
        return None


@dataclass(frozen=True)
class Beside:
    """The manifolds of one parameter: the port's, and torch's, which is None of a plain parameter."""

    key: str
    path: str
    ours: Space
    theirs: Space | None

    @property
    def same(self) -> bool | None:
        """Whether both are one; None where that is not known."""
        return None if self.theirs is None else self.ours.same(self.theirs)


def beside(sides: Sides) -> list[Beside]:
    """Those of all parameters that are points on one of the two sides."""
    mine, module = _of_port(sides.reading), sides.module()
    found, named = dict(module.named_parameters()), list(module.named_parameters(remove_duplicate=False))
    known = {entry.key for entry in sides.reading.entries if entry.role == "parameter"}
    both = []
    for entry in sides.reading.entries:
        if entry.role != "parameter":
            continue
        manifold = getattr(found.get(entry.key), "manifold", None)
        theirs = None if manifold is None else _of_torch(manifold, [(key, p) for key, p in named if p.requires_grad], known)
        path = str(entry.path).removeprefix("params/")
        ours = mine[path]
        if ours.kind != "Euclidean" or (theirs is not None and theirs.kind != "Euclidean"):
            both.append(Beside(entry.key, path, ours, theirs))
    return both


def rows(sides: Sides) -> list[Row]:
    """Those that agree in one row, one that fails for each that differs, and one that is not verified for each that torch does not say."""
    found = beside(sides)
    agreed, wrong, left = ([one for one in found if one.same is same] for same in (True, False, None))
    told = [Row("settings", "", f"manifolds of {len(agreed)} parameters, as the torch module has them", 0.0, 0.0, True)] if agreed else []
    told += [Row("settings", "", f"{MANIFOLD}{one.key}: {one.ours} in the port, {one.theirs} in the torch module", 1.0, 0.0, False)
             for one in wrong]  # fmt: skip
    for one in left:
        why = "the torch module has a plain parameter there" if one.theirs is None else f"the torch module says {one.theirs}"
        told.append(_open(one.key, f"only the port says {one.ours}; {why}"))
    return told


def unsaid(reading: Checkpoint, told: Sequence[Row]) -> Iterator[Row]:
    """What only the port says of manifolds, where no torch module is compared: but for what the file has pickled, and what the steps of a
    witness have moved. told: its rows.
    """
    moved = {row.what.rpartition(", step ")[0].partition("@")[0] for row in told if row.verified} if all(row.ok for row in told) else set()
    tensors, mine = split_again(reading.source).tensors, _of_port(reading)
    for entry in reading.entries:
        if entry.role == "parameter" and tensors[entry.key].manifold is None and entry.key not in moved:
            space = mine[str(entry.path).removeprefix("params/")]
            if space.kind != "Euclidean":
                yield _open(entry.key, f"only the port says {space}; a comparison of outputs asks the torch module, too")


def cause(sides: Sides) -> Cause | None:
    """The manifolds that differ as the kind of an error, with what to write."""
    wrong = [one for one in beside(sides) if one.same is False]
    if not wrong:
        return None
    paths = {entry.key: str(entry.path).removeprefix("params/") for entry in sides.reading.entries if entry.role == "parameter"}
    named = "; ".join(f"{one.key} lies on {one.ours} in the port, on {one.theirs} in torch" for one in wrong)
    shown = ", ".join(f'"{one.path}": {_written(one.theirs, paths)}' for one in wrong if one.theirs is not None)
    function = "lambda params: " if any(one.theirs is not None and one.theirs.trained for one in wrong) else ""
    return Cause(f"another manifold: {named}", f"Give the port manifolds={function}{{{shown}}}")


def _written(space: Space, paths: dict[str, str]) -> str:
    if not space.trained:
        return str(space)
    at = "".join(f'["{step}"]' for step in paths[space.raw].split("/")) if space.raw in paths else "[...]"
    return f"{space.kind}.from_raw(params{at})" if space.raw.endswith(("isp_c", "isp_k")) else f"{space.kind}(params{at})"


def _of_port(reading: Checkpoint) -> dict[str, Space]:
    """By path below params. Trained is what follows the numbers of a curvature: a parameter of at most one axis."""
    from port_jax.optim.trees import match_manifolds

    params, spaces = reading.variables["params"], reading.manifolds
    paths = [jax.tree_util.keystr(at, simple=True, separator="/") for at, _ in jax.tree.leaves_with_path(params)]
    if spaces is None:
        return dict.fromkeys(paths, Space("Euclidean"))
    here = match_manifolds(spaces, params)
    other = jax.tree.map(lambda p: 1.5 * p + 0.1 if np.ndim(p) < 2 else p, params)
    there = match_manifolds(spaces, other) if callable(spaces) else here
    return {path: _of_jax(a, b) for path, a, b in zip(paths, here, there, strict=True)}


def _of_jax(here: Any, there: Any) -> Space:
    kind = type(here).__name__
    if here.flat:
        return Space("Euclidean")
    moved = any(np.any(np.asarray(a) != np.asarray(b)) for a, b in zip(jax.tree.leaves(here), jax.tree.leaves(there)))
    number = np.asarray(getattr(here, CURVED[kind][1][1])) if kind in CURVED else np.zeros(0)
    return Space(kind, float(number.reshape(-1)[0]) if number.size == 1 else None, moved)


def _of_torch(manifold: Any, trained: Sequence[tuple[str, Any]], known: set[str]) -> Space:
    """trained: the module's parameters that are; known: keys of those that the port has as parameters, too."""
    names = [cls.__name__ for cls in type(manifold).__mro__]
    kind = next((name for name in names if name in CURVED or name in PLAIN), names[0])
    if kind not in CURVED:
        return Space(kind)
    name = CURVED[kind][1][0]
    raw = getattr(manifold, name, None)
    if raw is None or not hasattr(raw, "numel") or raw.numel() != 1:
        return Space(kind)
    keys = sorted((key for key, parameter in trained if parameter is raw), key=lambda key: key not in known)
    return Space(kind, from_raw(name, float(raw.detach().reshape(-1)[0])), bool(keys), keys[0] if keys else name)


def _open(key: str, why: str) -> Row:
    return Row("settings", "", f"{MANIFOLD}{key} ({why})", 0.0, 0.0, True, False)


def _family(kind: str) -> tuple[str, bool]:
    return kind.removesuffix("Exact"), kind.endswith("Exact")


def _near(a: float, b: float) -> bool:
    return abs(a - b) <= ROUNDING * (1 + abs(b))


__all__ = ["Beside", "Space", "beside", "cause", "rows", "unsaid"]
