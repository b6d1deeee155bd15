"""Any module built of geoopt parameters, as a tree of parameters that nests as the keys do."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from weights.errors import Usage
from weights.files.sections import Sections
from weights.files.tensors import Tensor
from weights.mapping.entries import Entry, flatten, tie_repeats
from weights.mapping.manifold_trees import spaces
from weights.mapping.named_manifolds import RAW, beside, curved, named
from weights.mapping.settings import Settings
from weights.types import NamedManifolds

BUFFERS = re.compile(r"(.*\.)?(running_mean|running_var|num_batches_tracked|projector|xp)")


@dataclass(frozen=True)
class Trained:
    """What an optimizer's state tells of a tree. `weights.optim` has the functions, which this room must not import.

    moved: the keys that it has state for, given those that are known to be points. points: those whose second moment is one number for a
    whole point, as on a manifold. on_manifolds: whether it moves points on manifolds.
    """

    moved: Callable[[Sections, Sequence[Entry], Collection[str]], Collection[str]]
    points: Callable[[Sections, Sequence[Entry]], Collection[str]]
    on_manifolds: Callable[[Sections], bool]


def _entries(tensors: Mapping[str, Tensor], moved: Collection[str]) -> list[Entry]:
    """Floating tensors become parameters at params/<key with slashes>; buffers, integers, fixed curvatures and masks stay constants.

    A curvature counts as fixed unless the optimizer has `moved` it, or its pickle says that it takes gradients.
    """
    result = []
    for key, tensor in tensors.items():
        if any(not part or "/" in part for part in key.split(".")):
            raise Usage(f"the key {key!r} has an empty part, or a slash, between its dots, and so does not nest", "Rename it in torch")
        buffer = tensor.kind == "buffer" or BUFFERS.fullmatch(key) or not tensor.dtype.startswith(("float", "bfloat", "complex"))
        raw = tensor.numel == 1 and key.rpartition(".")[2] in RAW
        fixed = raw and key not in moved and not (tensor.kind == "parameter" and tensor.requires_grad)
        buffer = buffer or fixed or _is_mask(key, tensor)
        path = None if buffer else "params/" + key.replace(".", "/")
        result.append(Entry(key, "constant" if buffer else "parameter", tensor.shape, tensor.dtype, path))
    return result


def _is_mask(key: str, tensor: Tensor) -> bool:
    """Whether a tensor masks attention: it is called so, and its numbers are infinite, 0 or 1."""
    if tensor.kind == "parameter" or "mask" not in key.rpartition(".")[2].lower():
        return False
    array = np.asarray(tensor.array())
    return bool(np.isinf(array).any() and (np.isinf(array) | (array == 0) | (array == 1)).all())


def matched(parts: Sections, settings: Settings, trained: Trained, given: NamedManifolds | None) -> list[Entry]:
    """What each key becomes, further names of one tensor tied to the first."""
    if settings.given.get("curvature") is not None:
        raise Usage(
            "a tree of parameters has no curvature of its own",
            "Give it with manifolds={key: PoincareBall(...)} (--manifold key=PoincareBall:0.7)",
        )
    tensors = parts.tensors
    every = tie_repeats(tensors, _entries(tensors, tensors))
    return tie_repeats(tensors, _entries(tensors, trained.moved(parts, every, curved(every, given, tensors))))


def manifolds(parts: Sections, found: Sequence[Entry], given: NamedManifolds | None, trained: Trained) -> Any:
    """The tree of manifolds beside the parameters (see `spaces`): those that the caller gives or the file has pickled, else Euclidean.

    Usage where an optimizer moves points and neither the caller nor the file says on which manifolds.
    """
    if given is None and trained.on_manifolds(parts) and not any(t.manifold is not None for t in parts.tensors.values()):
        raise Usage("the optimizer is Riemannian and the file does not say which parameters lie on which manifold",
                    "Give manifolds={key: PoincareBall(0.7), ...} (--manifold key=PoincareBall:0.7), Euclidean() if flat")  # fmt: skip
    tree = beside(found, given, parts.tensors)
    points, unsaid = trained.points(parts, found), flat(tree, found)
    if forgotten := [key for key in unsaid if key in points and not named(key, given)]:
        raise Usage(
            f"the optimizer has moved {', '.join(map(repr, forgotten))} as points of a manifold, and nothing says of which",
            f"Give --manifold {forgotten[0]}=PoincareBall:0.7, for example (manifolds={{{forgotten[0]!r}: PoincareBall(0.7)}}), or "
            f"--manifold '*=Euclidean' for all that are not named",
        )
    return spaces(tree)


def flat(tree: Mapping, found: Sequence[Entry]) -> list[str]:
    """The keys of the parameters on no manifold."""
    by_path = flatten(tree)
    kinds = {e.key: by_path[str(e.path).removeprefix("params/")] for e in found if e.role == "parameter"}
    return [key for key, kind in kinds.items() if not callable(kind) and kind.flat]


__all__ = ["Trained", "flat", "manifolds", "matched"]
