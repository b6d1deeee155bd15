"""What `verify` runs where no architecture is known: the parameters of a tree, and distances on their manifolds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Array

from port_jax.manifolds.base import Manifold
from weights.errors import Usage
from weights.mapping.entries import Entry, flatten
from weights.mapping.manifold_trees import CURVED, PLAIN
from weights.mapping.probes import Draw, Inputs, Outputs, Probe
from weights.types import Hyperparameters, ManifoldTree, TorchModule, Variables


@dataclass(frozen=True)
class Points:
    """Stands in for the flax module of a tree: the parameters themselves, and the squared distances of points to targets.

    keys: parameters by key, as paths. manifolds: of those that are points. shapes: of all floating tensors of the file.
    """

    keys: Mapping[str, str]
    manifolds: Mapping[str, Manifold]
    shapes: Mapping[str, tuple[int, ...]]

    @classmethod
    def of(cls, entries: Sequence[Entry], tree: ManifoldTree) -> Points:
        """From a converted tree; Usage for a manifold that torch has no counterpart of."""
        keys = {e.key: str(e.path) for e in entries if e.role == "parameter"}
        flat = dict(flatten({"params": tree}))
        manifolds = {key: flat[path] for key, path in keys.items() if not flat[path].flat}
        for key, manifold in manifolds.items():
            if type(manifold).__name__ not in (*CURVED, *PLAIN):
                raise Usage(f"{key!r} lies on {type(manifold).__name__}, which the torch side does not have", "Use --level bits")
        floats = {e.key: e.shape for e in entries if e.role != "tied" and e.dtype.startswith(("float", "bfloat"))}
        return cls(keys, manifolds, floats)

    def reference(self, settings: Hyperparameters) -> TorchModule:
        """The torch module."""
        from reference_torch.models.tree import Tree

        named = {key: (type(m).__name__, _curvature_of(m)) for key, m in self.manifolds.items()}
        return Tree(self.shapes, named, set(self.shapes) - set(self.keys))

    def apply(self, variables: Variables, targets: Mapping[str, Array], *, method: str) -> Outputs:
        """Every parameter, and the squared distances of points to the targets of their keys."""
        flat = flatten(variables)
        outputs = {key: flat[path] for key, path in self.keys.items()}
        return {**outputs, **{f"{key} to targets": self.manifolds[key].dist2(flat[self.keys[key]], y) for key, y in targets.items()}}


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
