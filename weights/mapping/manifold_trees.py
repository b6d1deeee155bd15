"""Manifolds recovered from a file or given by the user, as a tree beside the parameters."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from weights.errors import Unmatched, Usage
from weights.files.pickles.standins import Record
from weights.files.tensors import Tensor
from weights.mapping.curvature_settings import from_raw
from weights.mapping.entries import flatten, place
from weights.types import Document, ManifoldTree, NamedManifolds

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

REMEDY = "Give manifolds={key: PoincareBall(0.7), ...} (--manifold key=PoincareBall:0.7)"


def _recovered(record: object) -> Manifold:
    """The port_jax manifold that a pickled manifold stands for; Unmatched for a kind that has no counterpart yet."""
    import port_jax.manifolds as manifolds

    if not isinstance(record, Record):
        raise Unmatched(f"a tensor's manifold is a {type(record).__name__}", REMEDY)
    name = record.name.rpartition(".")[2]
    if name in CURVED and hasattr(manifolds, CURVED[name][0]):
        target, (raw, argument) = CURVED[name]
        value = _number(record, raw)
        if value is None:
            raise Unmatched(f"a {name} in the file has no curvature {raw!r}", REMEDY)
        return getattr(manifolds, target)(**{argument: from_raw(raw, value)})
    if name in PLAIN and hasattr(manifolds, name):
        return getattr(manifolds, name)()
    raise Unmatched(f"the file's parameters lie on {record.name}, which has no counterpart in port_jax.manifolds", REMEDY)


def curvature(record: object) -> float | None:
    """The curvature of a pickled manifold, if it has one number."""
    if not isinstance(record, Record):
        return None
    _, (raw, _) = CURVED.get(record.name.rpartition(".")[2], ("", ("", "")))
    value = _number(record, raw) if raw else None
    return None if value is None else from_raw(raw, value)


def _number(record: Record, raw: str) -> float | None:
    state = record.attributes
    for table in (state.get("_parameters"), state.get("_buffers"), state):
        tensor = table.get(raw) if isinstance(table, dict) else None
        if isinstance(tensor, Tensor) and tensor.numel == 1:
            return float(tensor.array().reshape(-1)[0])
    inner = (state.get("_modules") or {}).get("c") if isinstance(state.get("_modules"), dict) else None
    if raw == "isp_c" and isinstance(inner, Record):  # HypLL keeps it in a Curvature, softplus of `value`
        return _number(inner, "value")
    return None


def beside(paths: Iterable[str], given: NamedManifolds | None, tensors: Mapping[str, Tensor], keys: Mapping[str, str]) -> dict:
    """A tree of manifolds over parameters: `given` by key or path (or beginnings of them), else the pickled ones, else Euclidean.

    `keys` maps paths (without the collection) to the file's keys. Usage for a name that no parameter has.
    """
    from port_jax.manifolds import Euclidean

    wanted = {name.replace(".", "/"): manifold for name, manifold in flatten(given or {}).items()}
    used: set[str] = set()
    tree: dict = {}
    for path in paths:
        name = next((name for name in wanted if path == name or path.startswith(f"{name}/")), None)
        tensor = tensors[keys[path]]
        if name is not None:
            used.add(name)
            place(tree, path, wanted[name])
        else:
            place(tree, path, _recovered(tensor.manifold) if tensor.manifold is not None else Euclidean())
    if unknown := sorted(set(wanted) - used):
        raise Usage(
            f"manifolds names {unknown[0]!r}, but no parameter of the file is called so",
            f"The parameters are {', '.join(list(paths)[:8])}",
        )
    return tree


def to_json(tree: ManifoldTree) -> Document:
    """A tree of manifolds as JSON: class names with their fields."""
    from dataclasses import fields

    from port_jax.manifolds.base import Manifold

    if isinstance(tree, Manifold):
        values = {f.name: _to_plain(getattr(tree, f.name)) for f in fields(tree)}  # pyright: ignore[reportArgumentType]
        return {"manifold": type(tree).__name__, "fields": values}
    return {"tree": {name: to_json(child) for name, child in tree.items()}}


def from_json(data: Document) -> ManifoldTree:
    """The tree that `to_json` wrote."""
    import port_jax.manifolds as manifolds

    if "tree" in data:
        return {name: from_json(child) for name, child in data["tree"].items()}
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


__all__ = ["CURVED", "PLAIN", "beside", "curvature", "from_json", "to_json"]
