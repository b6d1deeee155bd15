"""The manifolds of a port's parameters: what the port says, and what the file says."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from weights.errors import Unmatched, Usage
from weights.files.tensors import Tensor
from weights.mapping.curvature_settings import ROUNDING
from weights.mapping.entries import Entry, flatten, place
from weights.mapping.manifold_trees import CURVED, recovered
from weights.mapping.port import Port
from weights.types import Manifolds, ManifoldTree, Model, Params


@dataclass(frozen=True)
class Whole:
    """A function from the parameters to some manifolds, made whole: everything that it does not name is flat."""

    some: Any
    at: str

    def __call__(self, params: Params) -> ManifoldTree:
        return _whole(self.some(params), params, self.at)


def beside(port: Port, model: Model | None, params: Params) -> Manifolds:
    """The manifolds of a model's parameters: those of the port, made whole, else those of the flax module; None where neither has any.

    Usage for a path that no parameter has.
    """
    given = port.manifolds
    if given is None:
        given = getattr(model, "manifolds", None)
        if not port.own or given is None:
            return given
    return Whole(given, port.at) if callable(given) else _whole(given, params, port.at)


def _whole(some: Mapping[str, Any], params: Params, at: str) -> dict[str, Any]:
    from port_jax.manifolds import Euclidean

    named, used, tree = flatten(some), set(), {}
    for path in flatten(params):
        begins = [name for name in named if path == name or path.startswith(f"{name}/")]
        used |= {*begins}
        place(tree, path, named[max(begins, key=len)] if begins else Euclidean())
    if unknown := sorted(set(named) - used):
        known = list(flatten(params))
        shown = ", ".join(known[:8]) + (f" and {len(known) - 8} more" if len(known) > 8 else "")
        near = (difflib.get_close_matches(unknown[0], known, 1, 0) or known)[0]
        remedy = f"The nearest parameter is {near}; the parameters are {shown}" if len(known) > 8 else f"The parameters are {shown}"
        raise Usage(f"the port's manifolds name {unknown[0]!r}, which is no parameter ({at})", remedy)
    return tree


def require_pickled(port: Port, spaces: Manifolds, params: Params, tensors: Mapping[str, Tensor], entries: Sequence[Entry]) -> None:
    """Raises Unmatched where the file has pickled a parameter with another manifold, or another curvature, than it has in JAX."""
    from port_jax.optim.trees import match_manifolds

    pickled = {e.key: e for e in entries if e.role == "parameter" and tensors[e.key].manifold is not None}
    if not pickled or not params:
        return
    paths = [jax.tree_util.keystr(at, simple=True, separator="/") for at, _ in jax.tree.leaves_with_path(params)]
    found = {} if spaces is None else dict(zip(paths, match_manifolds(spaces, params), strict=True))
    for key, entry in pickled.items():
        theirs, _ = recovered(tensors[key].manifold)
        ours = found.get(str(entry.path).removeprefix("params/"))
        words = _words(theirs)
        if theirs.flat if ours is None else (type(ours) is type(theirs) and _near(_curvature(ours), _curvature(theirs))):
            continue
        raise Unmatched(
            f"the key {key!r} lies on {words} in the file, and on {'no manifold' if ours is None else _words(ours)} in JAX ({port.at})",
            f"Give the port manifolds={{{str(entry.path).removeprefix('params/')!r}: {words}}}, or the flax module this curvature",
        )


def _curvature(manifold: Any) -> np.ndarray | None:
    name = type(manifold).__name__
    return np.asarray(getattr(manifold, CURVED[name][1][1]), np.float64) if name in CURVED else None


def _near(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    return a is None or b is None or bool(np.all(np.abs(a - b) <= ROUNDING * (1 + np.abs(b))))


def _words(manifold: Any) -> str:
    c = _curvature(manifold)
    return f"{type(manifold).__name__}({'' if c is None else f'{float(c.reshape(-1)[0]):.6g}'})"


__all__ = ["beside", "require_pickled"]
