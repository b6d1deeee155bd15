"""What `verify` runs where no architecture is known: the parameters of a tree, and distances on their manifolds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Array

from port_jax.manifolds.base import Manifold
from weights.errors import Usage
from weights.mapping.entries import Entry, flatten
from weights.mapping.manifold_trees import CURVED, PLAIN, Following, leaves, to_json
from weights.mapping.probes import Draw, Inputs, Outputs, Probe
from weights.types import Hyperparameters, Manifolds, Params, TorchModule, Variables


@dataclass(frozen=True)
class Points:
    """Stands in for the flax module of a tree: the parameters themselves, and the squared distances of points to targets.

    keys: parameters by key, as paths. spaces: by key, the manifold of each parameter that is a point, or the function that makes it from
    the parameters. manifolds: the same, at the file's parameters. shapes: of all floating tensors of the file. tied: further keys of a
    tensor, and the first.
    """

    keys: Mapping[str, str]
    spaces: Mapping[str, Any]
    manifolds: Mapping[str, Manifold]
    shapes: Mapping[str, tuple[int, ...]]
    tied: Mapping[str, str]

    @classmethod
    def of(cls, entries: Sequence[Entry], manifolds: Manifolds, params: Params) -> Points:
        """From a converted tree; Usage for a manifold that torch has no counterpart of."""
        keys = {e.key: str(e.path) for e in entries if e.role == "parameter"}
        named = {f"params/{path}": space for path, space in leaves(manifolds).items()}
        spaces = {key: named[path] for key, path in keys.items() if callable(named[path]) or not named[path].flat}
        found = {key: _at(space, params) for key, space in spaces.items()}
        for key, manifold in found.items():
            if type(manifold).__name__ not in (*CURVED, *PLAIN):
                raise Usage(f"{key!r} lies on {type(manifold).__name__}, which the torch side does not have", "Use --level settings")
            if type(manifold).__name__ in PLAIN and to_json(manifold) != to_json(type(manifold)()):
                what = f"{key!r} lies on {type(manifold).__name__} with another metric than the first, which the torch side does not have"
                raise Usage(what, "Use --level settings")
            if callable(spaces[key]) and not isinstance(spaces[key], Following):
                raise Usage(f"the manifold of {key!r} is a function, which the torch side does not have", "Use --level settings")
        floats = {e.key: e.shape for e in entries if e.role != "tied" and e.dtype.startswith(("float", "bfloat"))}
        tied = {e.key: e.tied for e in entries if e.tied is not None}
        return cls(keys=keys, spaces=spaces, manifolds=found, shapes=floats, tied=tied)

    def reference(self, settings: Hyperparameters) -> TorchModule:
        """The torch module."""
        from reference_torch.models.tree import Tree

        by_path = {path: key for key, path in self.keys.items()}
        named: dict[str, tuple[str, float | str | None]] = {}
        for key, manifold in self.manifolds.items():
            space = self.spaces[key]
            raw = by_path[f"params/{space.raw}"] if isinstance(space, Following) else _curvature_of(manifold)
            named[key] = type(manifold).__name__, raw
        return Tree(self.shapes, named, set(self.shapes) - set(self.keys), self.tied)

    def apply(self, variables: Variables, targets: Mapping[str, Array], *, method: str) -> Outputs:
        """Every parameter, and the squared distances of points to the targets of their keys."""
        flat = flatten(variables)
        outputs = {key: flat[path] for key, path in self.keys.items()}
        spaces = {key: _at(self.spaces[key], variables["params"]) for key in targets}
        return {**outputs, **{f"{key} to targets": spaces[key].dist2(flat[self.keys[key]], y) for key, y in targets.items()}}


def _at(space: Any, params: Params) -> Any:
    return space(params) if callable(space) else space


def probe(points: Points) -> Probe:
    """Targets at lengths of about a half around the origin of each manifold that has one."""

    def draw(settings: Hyperparameters, draw: Draw) -> Inputs:
        targets = {}
        for key, manifold in points.manifolds.items():
            if type(manifold).__name__ in CURVED:
                tangent = draw.normal(points.shapes[key][-1], scale=0.5 / (abs(_curvature_of(manifold) or 0) + 1) ** 0.5)
                if type(manifold).__name__ == "Lorentz":
                    tangent[0] = 0
                targets[key] = np.asarray(manifold.expmap0(tangent))  # pyright: ignore[reportArgumentType]
        return {"targets": targets}

    return Probe(draw, lambda settings, call, given: call("__call__", given["targets"]))


def _curvature_of(manifold: Manifold) -> float | None:
    """c or k, of the manifolds that have one."""
    name = CURVED.get(type(manifold).__name__)
    return None if name is None else float(getattr(manifold, name[1][1]))


__all__ = ["Points", "probe"]
