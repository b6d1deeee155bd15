"""Trees of parameters, manifolds and gradients, and the checks that no parameter moves on the wrong geometry unnoticed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, PyTree
from optax.transforms import MaskedNode

from port_jax.checks import as_numbers
from port_jax.manifolds.base import Manifold
from port_jax.types import Manifolds, Params, Updates

__all__ = ["check_parameters", "flatten", "in_turn", "match_gradients", "match_manifolds", "match_state", "nothing", "show", "stabilized"]

Path = tuple[str, ...]
Structure = Any  # jax.tree_util.PyTreeDef, which type checkers do not know as a type


def flatten(tree: PyTree) -> tuple[list[Path], list[Any], Structure]:
    """The paths, the leaves and the structure of a tree. Masked nodes and None are structure, not leaves."""
    entries, structure = jax.tree_util.tree_flatten_with_path(tree)
    return [_names(path) for path, _ in entries], [leaf for _, leaf in entries], structure


def show(path: Path) -> str:
    """A path as written in messages and in `order`: keys joined by slashes."""
    return "/".join(path) or "(the root)"


def match_manifolds(manifolds: Manifolds, params: Params) -> list[Manifold]:
    """The manifold of each parameter, in the order of the flattened parameters.

    `manifolds` is a tree whose leaves are manifolds and whose paths are those of the parameters or prefixes of them, or a
    callable that makes such a tree from the parameters. Curvatures with fewer axes than their parameter belong to its first axes, so
    that models stacked by `nn.vmap` have one each (`Manifold.beside`). Raises ValueError for a parameter without a manifold and for a
    manifold without a parameter, TypeError for anything in the tree that is not a manifold.
    """
    if isinstance(manifolds, jax.Array):
        raise TypeError("manifolds is an array; under optax.inject_hyperparams name it: static_args=('manifolds',)")
    tree = manifolds(params) if callable(manifolds) else manifolds
    entries, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=_is_entry)
    given = {_names(path): entry for path, entry in entries if not isinstance(entry, MaskedNode)}
    for path, entry in given.items():
        if not isinstance(entry, Manifold):
            raise TypeError(f"manifolds at {show(path)}: found {_describe(entry)}, not a Manifold (use Euclidean() for a flat one)")
    paths, leaves, _ = flatten(params)
    used: set[Path] = set()
    found = []
    for path, leaf in zip(paths, leaves, strict=True):
        prefix = next((path[:n] for n in range(len(path) + 1) if path[:n] in given), None)
        if prefix is None:
            raise ValueError(f"parameter {show(path)} has no manifold: add one at its path (Euclidean() if it is flat)")
        used.add(prefix)
        try:
            found.append(given[prefix].beside(jnp.shape(leaf)))
        except ValueError as error:
            raise ValueError(f"parameter {show(path)}: {error}") from error
    absent = _absent(params)
    for path in given.keys() - used:
        if not any(path[: len(gap)] == gap or gap[: len(path)] == path for gap in absent):
            known = ", ".join(show(p) for p in paths[:8]) + (", ..." if len(paths) > 8 else "")
            raise ValueError(f"manifolds at {show(path)}: no parameter has this path; parameters are {known}")
    return found


def check_parameters(found: list[Manifold], params: Params) -> None:
    """Raises TypeError for parameters that cannot move (integers, tensors of torch), ValueError for shapes that a manifold refuses."""
    for path, leaf, manifold in zip(*flatten(params)[:2], found, strict=True):
        kind = type(manifold).__name__
        if not isinstance(leaf, jax.Array | np.ndarray | np.generic):
            raise TypeError(
                f"parameter {show(path)} is a {type(leaf).__module__}.{type(leaf).__qualname__}; make it an array of JAX or numpy"
            )
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.inexact):
            raise TypeError(
                f"parameter {show(path)} is of type {jnp.result_type(leaf)} and cannot move; keep it out of the "
                "parameters or mask it with optax.masked"
            )
        shape = jnp.shape(leaf)
        if len(shape) < manifold.ndim:
            raise ValueError(f"parameter {show(path)} has shape {shape}; a point on {kind} takes the last {manifold.ndim} axes")
        try:
            projected = jax.eval_shape(manifold.projx, leaf).shape
        except (TypeError, ValueError) as error:
            raise ValueError(f"parameter {show(path)} has shape {shape}, which {kind} refuses: {error}") from error
        if projected != shape:
            raise ValueError(f"parameter {show(path)} has shape {shape}; {kind} makes it {projected}: check the manifold")


def match_gradients(grads: Updates, params: Params) -> list[Array | None]:
    """The gradient of each parameter, or None for a parameter (or a whole subtree) whose gradient is None."""
    entries, _ = jax.tree_util.tree_flatten_with_path(grads, is_leaf=lambda x: x is None)
    given = {_names(path): leaf for path, leaf in entries}
    used: set[Path] = set()
    found = []
    for path, leaf in zip(*flatten(params)[:2], strict=True):
        prefix = next((path[:n] for n in range(len(path), -1, -1) if path[:n] in given), None)
        if prefix is None or (prefix != path and given[prefix] is not None):
            raise ValueError(f"parameter {show(path)} has no gradient; pass None for a parameter without one")
        grad = given[prefix]
        if grad is not None and jnp.shape(grad) != jnp.shape(leaf):
            raise ValueError(f"gradient of {show(path)} has shape {jnp.shape(grad)}, the parameter has {jnp.shape(leaf)}")
        used.add(prefix)
        found.append(grad if grad is None else as_numbers(f"gradient of {show(path)}", grad, like=jnp.result_type(leaf)))
    for path in given.keys() - used:
        if given[path] is not None:
            raise ValueError(f"gradient at {show(path)}: no parameter has this path")
    return found


def match_state(state: PyTree[Array], structure: Structure, name: str) -> list[Any]:
    """The leaves of a state tree with the structure of the parameters."""
    leaves, found = jax.tree_util.tree_flatten(state)
    if found != structure:
        raise ValueError(f"the state's {name} belongs to other parameters: it has structure {found}, they have {structure}")
    return leaves


def nothing(leaves: Sequence[Array]) -> list[Any]:
    """A None for each leaf, for a state that is not kept."""
    return [None] * len(leaves)


def in_turn(manifolds: Manifolds, order: Sequence[str] | None, params: Params, moved: list[Array]) -> Iterator[tuple[int, Manifold]]:
    """Each parameter's index and manifold, in the order of the updates; `moved` has the current leaves.

    Without `order` all manifolds are those of the parameters before the step. With it, the manifolds are computed anew
    for each parameter, so that a point follows a curvature updated before it, as in an optimizer that goes through a list.
    """
    paths, _, structure = flatten(params)
    if order is None:
        yield from enumerate(match_manifolds(manifolds, params))
        return
    index = {show(path): i for i, path in enumerate(paths)}
    missing, extra = index.keys() - set(order), set(order) - index.keys()
    if missing or extra or len(order) != len(index):
        raise ValueError(
            f"order has to list each parameter once: missing {sorted(missing)}, unknown {sorted(extra)}, "
            f"{len(order)} entries for {len(index)} parameters"
        )
    for name in order:
        current = jax.tree_util.tree_unflatten(structure, moved)
        yield index[name], match_manifolds(manifolds, current)[index[name]]


def stabilized(
    due: Bool[Array, ""],
    manifolds: Sequence[Manifold],
    points: Sequence[Array],
    tangents: Sequence[Array | None],
    eligible: Sequence[Bool[Array, ""] | bool],
) -> tuple[list[Array], list[Any]]:
    """If `due`, the eligible points projected onto their manifolds, and their tangents made tangent there."""

    def project(points: list[Array], tangents: list[Array | None]) -> tuple[list[Array], list[Array | None]]:
        for i, (manifold, allowed) in enumerate(zip(manifolds, eligible, strict=True)):
            tangent = tangents[i]
            points[i] = jnp.where(allowed, manifold.projx(points[i]), points[i])
            if tangent is not None:
                tangents[i] = jnp.where(allowed, manifold.proju(points[i], tangent), tangent)
        return points, tangents

    return jax.lax.cond(due, project, lambda points, tangents: (points, tangents), list(points), list(tangents))


def _names(path: Sequence[Any]) -> Path:
    return tuple(jax.tree_util.keystr((key,), simple=True) for key in path)


def _is_entry(node: Any) -> bool:
    return node is None or isinstance(node, Manifold | MaskedNode)


def _absent(params: Params) -> list[Path]:
    """Paths of masks or None, in place of parameters that this transformation does not see."""

    def gap(node: Any) -> bool:
        return node is None or isinstance(node, MaskedNode)

    entries, _ = jax.tree_util.tree_flatten_with_path(params, is_leaf=gap)
    return [_names(path) for path, leaf in entries if gap(leaf)]


def _describe(entry: Any) -> str:
    return "None" if entry is None else f"{type(entry).__name__} {entry!r}"[:80]
