"""Manifolds recovered from a file or given by the user, as a tree beside the parameters."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from weights.errors import Unmatched, Usage
from weights.files.pickles.standins import Record
from weights.files.tensors import Tensor
from weights.mapping.curvature_settings import from_raw
from weights.mapping.entries import flatten
from weights.mapping.hypll_curvature import constrained, of_manifold
from weights.types import Document, ManifoldTree, Params

if TYPE_CHECKING:
    from port_jax.manifolds.base import Manifold

# geoopt's and HypLL's class names, port_jax's, and the raw tensor with the argument it stands for.
CURVED = {
    "PoincareBall": ("PoincareBall", ("isp_c", "c")),
    "PoincareBallExact": ("PoincareBallExact", ("isp_c", "c")),
    "SphereProjection": ("SphereProjection", ("isp_k", "k")),
    "SphereProjectionExact": ("SphereProjectionExact", ("isp_k", "k")),
    "Stereographic": ("Stereographic", ("k", "k")),
    "StereographicExact": ("StereographicExact", ("k", "k")),
    "Lorentz": ("Lorentz", ("k", "k")),
}
PLAIN = ("Euclidean", "Sphere", "SphereExact", "Stiefel", "CanonicalStiefel", "EuclideanStiefel", "EuclideanStiefelExact",
         "SymmetricPositiveDefinite", "BirkhoffPolytope")  # fmt: skip
COMPLEX = ("UpperHalf", "BoundedDomain")
SIEGEL = {"RiemannianMetric": "riem", "FinslerOneMetric": "fone", "FinslerInfinityMetric": "finf", "FinslerMinimumEntropyMetric": "fmin"}
"""geoopt's metrics of Siegel's spaces, and port_jax's names of them."""

REMEDY = "Give manifolds={key: PoincareBall(0.7), ...} (--manifold key=PoincareBall:0.7)"

PRODUCT = "ProductManifold"
IN_PYTHON = 'Call weights.load(..., manifolds={"emb": ProductManifold((PoincareBall(0.7), 3), (Sphere(), 4))}) in Python'


@dataclass(frozen=True)
class Following:
    """The manifold of a trained curvature: `kind` with the curvature that the raw parameter at the path `raw` stands for.

    geoopt's `PoincareBall(learnable=True)`, which all layers that have it share.
    """

    kind: str
    raw: str

    def __call__(self, params: Params) -> Manifold:
        import jax

        import port_jax.manifolds as manifolds

        cls, (name, _) = getattr(manifolds, self.kind), CURVED[self.kind][1]
        value = jax.numpy.reshape(flatten(params)[self.raw], ())
        return cls.from_raw(value) if name in ("isp_c", "isp_k") else cls(value)


@dataclass(frozen=True)
class Spaces:
    """A tree beside parameters in which functions from the parameters stand for manifolds; called, the tree at these parameters."""

    tree: Mapping

    def __call__(self, params: Params) -> ManifoldTree:
        return _resolved(self.tree, params)


def _resolved(node: Any, params: Params) -> Any:
    if isinstance(node, Mapping):
        return {name: _resolved(child, params) for name, child in node.items()}
    return node(params) if callable(node) else node


def spaces(tree: Mapping) -> Any:
    """The tree, or where a leaf of it depends on the parameters, the function from them to it."""
    return Spaces(tree) if any(callable(leaf) for leaf in flatten(tree).values()) else tree


def leaves(manifolds: Any) -> dict[str, Any]:
    """What stands at each path of a tree of parameters: a manifold, or what it follows."""
    return flatten(manifolds.tree if isinstance(manifolds, Spaces) else manifolds)


def recovered(record: object) -> tuple[Manifold, Tensor | None]:
    """The port_jax manifold that a pickled manifold stands for, and the tensor of its curvature, if it has one.

    Unmatched for a kind that has no counterpart yet.
    """
    import port_jax.manifolds as manifolds

    if not isinstance(record, Record):
        raise Unmatched(f"a tensor's manifold is a {type(record).__name__}", REMEDY)
    name = record.name.rpartition(".")[2]
    if name in CURVED and hasattr(manifolds, CURVED[name][0]):
        target, (raw, argument) = CURVED[name]
        tensor = _tensor(record, raw)
        if tensor is None:
            raise Unmatched(f"a {name} in the file has no curvature {raw!r}", REMEDY)
        try:
            return getattr(manifolds, target)(**{argument: _constrained(record, raw, tensor)}), tensor
        except ValueError as error:
            raise Unmatched(f"the curvature {raw!r} of a {name} in the file is {_number(tensor):.4g} ({error!s:.60})", REMEDY) from None
    if name == PRODUCT:
        return manifolds.ProductManifold(*_factors(record)), None
    if name in (*PLAIN, *COMPLEX) and hasattr(manifolds, name):
        return getattr(manifolds, name)(**_metric(record)), None
    raise Unmatched(f"the file's parameters lie on {record.name}, which has no counterpart in port_jax.manifolds", REMEDY)


def _factors(record: Record) -> list[tuple[Manifold, tuple[int, ...]]]:
    """The factors of a pickled product with the shapes of their points. Unmatched for a trained curvature, which it could not follow."""
    inside = (record.attributes.get("_modules") or {}).get("manifolds")
    pickled = list((inside.attributes.get("_modules") or {}).values()) if isinstance(inside, Record) else []
    shapes = record.attributes.get("shapes")
    if not pickled or not isinstance(shapes, list) or len(shapes) != len(pickled):
        raise Unmatched("a ProductManifold in the file does not say its factors and their shapes", IN_PYTHON)
    found = [recovered(factor) for factor in pickled]
    if any(raw is not None and raw.requires_grad for _, raw in found):
        raise Unmatched("a factor of a ProductManifold in the file has a trained curvature, which is not followed", IN_PYTHON)
    return [(factor, tuple(shape) if isinstance(shape, tuple) else (shape,)) for (factor, _), shape in zip(found, shapes)]


def _metric(record: Record) -> Document:
    """The arguments of a manifold that has several distances. Unmatched for a metric that has no counterpart."""
    inside = {**(record.attributes.get("_modules") or {}), **record.attributes}
    spd, metric = inside.get("default_metric"), inside.get("metric")
    if isinstance(spd, Record):
        return {"default_metric": spd.args[0] if spd.args else None}
    if not isinstance(metric, Record):
        return {} if spd is None else {"default_metric": spd}
    name = metric.name.rpartition(".")[2]
    if name not in SIEGEL:
        raise Unmatched(f"a {record.name.rpartition('.')[2]} in the file has the metric {name}, which is not read", REMEDY)
    rank = metric.attributes.get("rank")
    return {"metric": SIEGEL[name], **({"rank": rank} if SIEGEL[name] == "fmin" else {})}


def curvature(record: object) -> float | None:
    """The curvature of a pickled manifold, if it has one number."""
    if not isinstance(record, Record):
        return None
    _, (raw, _) = CURVED.get(record.name.rpartition(".")[2], ("", ("", "")))
    tensor = _tensor(record, raw) if raw else None
    return None if tensor is None else _constrained(record, raw, tensor)


def _tensor(record: Record, raw: str) -> Tensor | None:
    state = record.attributes
    for table in (state.get("_parameters"), state.get("_buffers"), state):
        tensor = table.get(raw) if isinstance(table, dict) else None
        if isinstance(tensor, Tensor) and tensor.numel == 1:
            return tensor
    inner = (state.get("_modules") or {}).get("c") if isinstance(state.get("_modules"), dict) else None
    if raw == "isp_c" and isinstance(inner, Record):  # HypLL keeps it in a Curvature, a function of `value`
        return _tensor(inner, "value")
    return None


def _constrained(record: Record, raw: str, tensor: Tensor) -> float:
    """The curvature of a raw tensor, by the constraint of HypLL's Curvature if it is one."""
    told = of_manifold(record)
    return from_raw(raw, _number(tensor)) if told is None else constrained(told.constraint, _number(tensor))


def _number(tensor: Tensor) -> float:
    return float(tensor.array().reshape(-1)[0])


def to_json(tree: ManifoldTree | Spaces | Following) -> Document:
    """A tree of manifolds as JSON: class names with their fields. Usage for a function of the caller's, which JSON cannot hold."""
    from dataclasses import fields

    from port_jax.manifolds.base import Manifold

    if isinstance(tree, Manifold):
        values = {f.name: _to_plain(getattr(tree, f.name)) for f in fields(tree)}  # pyright: ignore[reportArgumentType]
        return {"manifold": type(tree).__name__, "fields": values}
    if isinstance(tree, Following):
        return {"follows": tree.raw, "manifold": tree.kind}
    if callable(tree) and not isinstance(tree, Spaces):
        raise Usage("a manifold is a function of the parameters, which cannot be written", "Name its class, or a manifold with a number")
    below: Mapping = tree.tree if isinstance(tree, Spaces) else tree  # pyright: ignore[reportAssignmentType]
    return {"tree": {name: to_json(child) for name, child in below.items()}}


def from_json(data: Document) -> ManifoldTree:
    """The tree that `to_json` wrote; see `spaces`."""
    import port_jax.manifolds as manifolds

    if "follows" in data:
        return Following(data["manifold"], data["follows"])  # pyright: ignore[reportReturnType]
    if "tree" in data:
        return {name: from_json(child) for name, child in data["tree"].items()}
    if data["manifold"] not in manifolds.__all__ or not issubclass(getattr(manifolds, data["manifold"]), manifolds.Manifold):
        raise ValueError(f"{data['manifold']!r:.80} is not a manifold")
    kind, values = getattr(manifolds, data["manifold"]), {name: _from_plain(value) for name, value in data["fields"].items()}
    return kind(*zip(values["manifolds"], values["shapes"])) if "shapes" in values else kind(**values)


def _to_plain(value: Any) -> Any:
    """A field: a number, a string, an enum's value, a manifold, a tuple of fields, or an array with its type."""
    from port_jax.manifolds.base import Manifold

    if isinstance(value, Manifold):
        return to_json(value)
    if isinstance(value, tuple):
        return [_to_plain(item) for item in value]
    if isinstance(value, enum.Enum):
        return value.value
    if np.ndim(value):
        return {"array": np.asarray(value).tolist(), "dtype": str(np.asarray(value).dtype)}
    return value if isinstance(value, (int, str, bool)) or value is None else float(value)


def _from_plain(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_from_plain(item) for item in value)
    if isinstance(value, dict):
        return np.array(value["array"], value["dtype"]) if "array" in value else from_json(value)
    return value


__all__ = ["CURVED", "PLAIN", "Following", "Spaces", "curvature", "from_json", "leaves", "recovered", "spaces", "to_json"]
