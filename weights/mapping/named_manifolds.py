"""The manifolds that a caller names for a tree of parameters, beside what the file itself says of their curvatures."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from weights.errors import Unmatched, Usage
from weights.files.tensors import Tensor
from weights.mapping.curvature_settings import ROUNDING, from_raw
from weights.mapping.entries import Entry, flatten, place
from weights.mapping.manifold_trees import CURVED, Following, recovered
from weights.types import NamedManifolds

if TYPE_CHECKING:
    from port_jax.manifolds.base import Manifold

RAW = {"isp_c", "isp_k", "k", "_scale", "_log_scale"}
"""Names under which geoopt's manifolds keep their curvature and scale, as single numbers."""


def beside(found: Sequence[Entry], given: NamedManifolds | None, tensors: Mapping[str, Tensor]) -> dict:
    """A tree of manifolds over the parameters: the `given`, else the pickled ones, else Euclidean.

    Names are keys of the file, beginnings of keys, or patterns with * and ?, in this order of preference. What is named is a manifold; one
    of its classes, whose curvature is the one in the file that is nearest to the parameter; or a function from the parameters to a
    manifold. A manifold whose curvature the optimizer trains follows it. Raises Usage for a name that no parameter has and for a class
    without a curvature in the file, Unmatched for a curvature that the file contradicts.
    """
    from port_jax.manifolds import Euclidean

    wanted, used = flatten(given or {}), set()
    curvatures, tree = _Curvatures(found, tensors), {}
    for entry in found:
        if entry.role != "parameter":
            continue
        name, record = _name(entry.key, wanted), tensors[entry.key].manifold
        if name is not None:
            used.add(name)
            space = curvatures.settled(entry.key, wanted[name])
        else:
            space = Euclidean() if record is None else curvatures.followed(*recovered(record))
        place(tree, str(entry.path).removeprefix("params/"), space)
    if unknown := sorted(set(wanted) - used):
        keys = [entry.key for entry in found if entry.role == "parameter"]
        raise Usage(
            f"manifolds names {unknown[0]!r}, but no parameter of the file is called so", f"The parameters are {', '.join(keys[:8])}"
        )
    return tree


def curved(found: Sequence[Entry], given: NamedManifolds | None, tensors: Mapping[str, Tensor]) -> set[str]:
    """The keys that the caller names as points of a manifold other than flat space, or the file has pickled so."""
    wanted = flatten(given or {})

    def bent(space: Any) -> bool:
        if isinstance(space, type):
            return space.__name__ in CURVED
        return not getattr(space, "flat", False)  # a function of the parameters has no such attribute

    names = {entry.key: _name(entry.key, wanted) for entry in found}
    pickled = {key for key in names if (record := tensors[key].manifold) is not None and bent(recovered(record)[0])}
    return {key for key, name in names.items() if (key in pickled if name is None else bent(wanted[name]))}


def named(key: str, given: NamedManifolds | None) -> bool:
    """Whether a caller's names mean this key."""
    return _name(key, flatten(given or {})) is not None


def shortened(given: NamedManifolds | None, written: Mapping[str, str]) -> NamedManifolds | None:
    """The caller's names without what wrappers and a prefix put into the file's keys. `written`: by key, the key as the file has it.

    A name that means keys without that stays as it is; one that means keys of the file becomes those, the longest first.
    """
    if given is None:
        return None
    wanted = flatten(given)
    result = {name: space for name, space in wanted.items() if any(_name(key, [name]) for key in written)}
    others = sorted((name for name in wanted if name not in result), key=lambda name: ("*" in name or "?" in name, -len(name)))
    for name in others:
        meant = [key for key, long in written.items() if _name(long, [name])]
        for key in meant or [name]:
            result.setdefault(key, wanted[name])
    return result


def _name(key: str, wanted: Iterable[str]) -> str | None:
    """The name that means this key: the longest that is the key or begins it, else the first pattern that fits."""
    dotted = {name: name.replace("/", ".") for name in wanted}
    whole = [name for name, written in dotted.items() if key == written or key.startswith(f"{written}.")]
    if whole:
        return max(whole, key=len)
    return next((name for name, written in dotted.items() if fnmatch.fnmatchcase(key, written)), None)


class _Curvatures:
    """The curvatures that a file keeps as tensors, by geoopt's names, and which of them are trained."""

    def __init__(self, found: Sequence[Entry], tensors: Mapping[str, Tensor]):
        by_key = {entry.key: entry for entry in found}
        self.tensors, self.paths = tensors, dict[str, str]()
        for entry in found:
            owner = by_key[entry.tied] if entry.tied is not None else entry
            if owner.role == "parameter":
                self.paths[entry.key] = str(owner.path).removeprefix("params/")

    def settled(self, key: str, named: Any) -> Any:
        """The manifold of a parameter, from what is named for it."""
        from port_jax.manifolds.base import Manifold

        cls = named if isinstance(named, type) else type(named)
        if not issubclass(cls, Manifold):  # a function of the parameters
            return named
        if cls.__name__ not in CURVED:
            return cls() if named is cls else named
        raw, argument = CURVED[cls.__name__][1]
        near = self._near(key, raw)
        if named is cls:
            return self._only(key, cls, raw, near)
        given = np.asarray(getattr(named, argument))
        if given.ndim or not near:
            return named
        fitting = [at for at in near if abs(self._value(at) - float(given)) <= ROUNDING * (1 + abs(float(given)))]
        if not fitting:
            there = ", ".join(f"{at!r} gives {self._value(at):.9g}" for at in near)
            raise Unmatched(
                f"the curvature of {key!r} is given as {float(given):.9g}, and in the file {there}",
                f"Omit the number (--manifold {key}={cls.__name__}) to have the file's, or correct it",
            )
        return self._follow(cls, fitting[0]) if fitting[0] in self.paths else named

    def followed(self, space: Manifold, raw: Tensor | None) -> Any:
        """A pickled manifold; it follows its raw curvature if that is one of the file's trained parameters."""
        if raw is not None:
            for at in self.paths:
                if self.tensors[at].place == raw.place:
                    return self._follow(type(space), at)
        return space

    def _near(self, key: str, raw: str) -> list[str]:
        """The keys of the curvatures in a parameter's module, else in the nearest module around it that has any; one for each tensor."""
        own, found = key.split(".")[:-1], dict[tuple, str]()
        for depth in range(len(own), -1, -1):
            for at, tensor in self.tensors.items():
                *module, name = at.split(".")
                if name == raw and tensor.numel == 1 and module[:-1] == own[:depth] and self._alone(module):
                    found.setdefault(tensor.place, at)
            if found:
                break
        return list(found.values())

    def _alone(self, module: list[str]) -> bool:
        """Whether a module has nothing but curvatures, as geoopt's manifolds have."""
        names = {at.rpartition(".")[2] for at in self.tensors if at.split(".")[:-1] == module}
        return bool(module) and names <= RAW

    def _only(self, key: str, cls: type[Manifold], raw: str, near: list[str]) -> Any:
        if not near:
            raise Usage(f"the file has no curvature {raw!r} near {key!r}", f"Give the number: --manifold {key}={cls.__name__}:NUMBER")
        if len({self._value(at) for at in near}) > 1:
            there = ", ".join(f"{at} is {self._value(at):.9g}" for at in near)
            raise Usage(f"the file has several curvatures for {key!r}: {there}", f"Give the number: --manifold {key}={cls.__name__}:NUMBER")
        if near[0] in self.paths:
            return self._follow(cls, near[0])
        return cls(**{CURVED[cls.__name__][1][1]: self._value(near[0])})

    def _follow(self, cls: type[Manifold], at: str) -> Following:
        return Following(cls.__name__, self.paths[at])

    def _value(self, at: str) -> float:
        return from_raw(at.rpartition(".")[2], float(self.tensors[at].array().reshape(-1)[0]))


__all__ = ["RAW", "beside", "curved", "named", "shortened"]
