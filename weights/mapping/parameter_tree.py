"""Any module built of geoopt parameters, as a tree of parameters that nests as the keys do."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from weights.errors import Usage
from weights.files.sections import Sections
from weights.files.tensors import Tensor
from weights.mapping.entries import Entry, flatten, tie_repeats
from weights.mapping.manifold_trees import beside
from weights.mapping.settings import Settings
from weights.types import NamedManifolds

RAW = {"isp_c", "isp_k", "k", "_scale", "_log_scale"}
"""Names under which geoopt's manifolds keep their curvature and scale, as single numbers."""
BUFFERS = re.compile(r"(.*\.)?(running_mean|running_var|num_batches_tracked|projector|xp)")


@dataclass(frozen=True)
class Trained:
    """What an optimizer's state tells of a tree. `weights.optim` has the two functions, which this room must not import.

    moved: the keys that it has state for. on_manifolds: whether it moves points on manifolds.
    """

    moved: Callable[[Sections, Sequence[Entry]], Collection[str]]
    on_manifolds: Callable[[Sections], bool]


def _entries(tensors: Mapping[str, Tensor], moved: Collection[str]) -> list[Entry]:
    """Floating tensors become parameters at params/<key with slashes>; buffers, integers and fixed curvatures stay constants.

    A curvature counts as fixed unless the optimizer has `moved` it, or its pickle says that it takes gradients.
    """
    result = []
    for key, tensor in tensors.items():
        if any(not part or "/" in part for part in key.split(".")):
            raise Usage(f"the key {key!r} has an empty part, or a slash, between its dots, and so does not nest", "Rename it in torch")
        buffer = tensor.kind == "buffer" or BUFFERS.fullmatch(key) or not tensor.dtype.startswith(("float", "bfloat", "complex"))
        raw = tensor.numel == 1 and key.rpartition(".")[2] in RAW
        fixed = raw and key not in moved and not (tensor.kind == "parameter" and tensor.requires_grad)
        buffer = buffer or fixed
        path = None if buffer else "params/" + key.replace(".", "/")
        result.append(Entry(key, "constant" if buffer else "parameter", tensor.shape, tensor.dtype, path))
    return result


def matched(parts: Sections, settings: Settings, trained: Trained) -> list[Entry]:
    """What each key becomes, further names of one tensor tied to the first."""
    if settings.given.get("curvature") is not None:
        raise Usage(
            "a tree of parameters has no curvature of its own",
            "Give it with manifolds={key: PoincareBall(...)} (--manifold key=PoincareBall:0.7)",
        )
    tensors = parts.tensors
    every = tie_repeats(tensors, _entries(tensors, tensors))
    return tie_repeats(tensors, _entries(tensors, trained.moved(parts, every)))


def manifolds(parts: Sections, found: Sequence[Entry], given: NamedManifolds | None, trained: Trained) -> dict:
    """The tree of manifolds beside the parameters: those that the caller gives or the file has pickled, else Euclidean.

    Usage where an optimizer moves points and neither the caller nor the file says on which manifolds.
    """
    if given is None and trained.on_manifolds(parts) and not any(t.manifold is not None for t in parts.tensors.values()):
        raise Usage("the optimizer is Riemannian and the file does not say which parameters lie on which manifold",
                    "Give manifolds={key: PoincareBall(...)} (--manifold key=PoincareBall:0.7), Euclidean() for flat ones")  # fmt: skip
    keys = {str(e.path).removeprefix("params/"): e.key for e in found if e.role == "parameter"}
    return beside(keys, given, parts.tensors, keys)


def flat(spaces: Mapping, found: Sequence[Entry]) -> list[str]:
    """The keys of the parameters on no manifold, if there are others: a point that nobody has named is among them."""
    by_path = flatten(spaces)
    kinds = {e.key: by_path[str(e.path).removeprefix("params/")] for e in found if e.role == "parameter"}
    return [key for key, kind in kinds.items() if kind.flat] if any(not kind.flat for kind in kinds.values()) else []


__all__ = ["Trained", "flat", "manifolds", "matched"]
