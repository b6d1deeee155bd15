"""From the indices in an optimizer's groups to the model's keys."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from weights.errors import Unmatched, Usage
from weights.files.tensors import Tensor
from weights.mapping.entries import Entry

FROZEN = "frozen/"
"""The collection of flax variables that are parameters in torch, of which an optimizer may have an index, and are not trained."""


@dataclass(frozen=True)
class Naming:
    """What tells which parameter an index of the optimizer's groups stands for.

    tensors: the model's tensors by key. prefix: the wrappers' prefix, which the keys no longer have. table: the keys of each group
    by the architecture, None where it knows of one group only. given: the keys (or patterns) of each group by the caller, or None. sure:
    whether the architecture says which tensors are trained.
    """

    tensors: Mapping[str, Tensor]
    prefix: str = ""
    table: list[list[str]] | None = None
    given: Sequence[Sequence[str]] | None = None
    sure: bool = False


def indices(groups: Sequence[object]) -> list[list[int]]:
    """The indices of each group; Unmatched where they are none, repeated or not a list."""
    found: list[list[int]] = []
    for number, group in enumerate(groups):
        listed = group.get("params") if isinstance(group, dict) else None
        if not isinstance(listed, (list, tuple)) or not all(type(i) is int for i in listed):
            raise Unmatched(f"param_groups[{number}] of the optimizer has no list of indices", "Save optimizer.state_dict()")
        found.append(list(listed))
    flat = [i for listed in found for i in listed]
    if not flat or len(set(flat)) != len(flat):
        raise Unmatched(
            f"the optimizer's groups list {len(flat)} indices, of which {len(set(flat))} are distinct",
            "Save optimizer.state_dict()",
        )
    return found


def keys_by_index(
    groups: list[dict], listed: list[list[int]], entries: Sequence[Entry], naming: Naming
) -> tuple[dict[int, str], str] | None:
    """The key of each index, and a few words that say where it was found; None for a single group of which nothing says that,
    beside which others may be empty.

    It is found in the groups' own `param_names`, else in the groups that the caller gives, else in those of the architecture. Raises Usage
    where there are several groups and nothing names their parameters, Unmatched where names and indices do not fit each other.
    """
    names = [group.get("param_names") for group in groups]
    if all(isinstance(n, (list, tuple)) for n in names):
        lists = [[str(key).removeprefix(naming.prefix) for key in n or ()] for n in names]
        source = "param_names"
    elif naming.given is not None:
        lists, source = _chosen(naming.given, entries), "option groups"
    elif naming.table is not None:
        lists, source = naming.table, "the architecture's groups"
    elif sum(map(bool, listed)) > 1:
        raise Usage(
            f"the optimizer has {len(groups)} groups of {', '.join(str(len(l)) for l in listed)} parameters and no names",
            "Give groups=[[keys or patterns of group 0], [of group 1], ...] in the order of the training code (--group, once for each, and "
            "--group '' for one without parameters)",
        )
    else:
        return None
    known = {entry.key for entry in entries}
    result: dict[int, str] = {}
    if len(lists) != len(listed):
        raise Unmatched(f"the optimizer has {len(listed)} groups; by {source} there are {len(lists)}", "Give groups=[[...], ...] (--group)")
    for number, (indexes, keys) in enumerate(zip(listed, lists)):
        if len(indexes) != len(keys):
            raise Unmatched(
                f"group {number} of the optimizer has {len(indexes)} parameters; by {source} it has {len(keys)}",
                "Give groups=[[...], ...] (--group)",
            )
        result.update(zip(indexes, keys))
    for index, key in result.items():
        if key not in known:
            raise Unmatched(
                f"index {index} of the optimizer is {key!r} by {source}, and the model has no such key",
                "Save model and optimizer together",
            )
    if len(set(result.values())) != len(result):
        raise Unmatched(f"by {source} two indices of the optimizer are the same key", "Give groups=[[...], ...] (--group)")
    return result, source


def candidates(entries: Sequence[Entry], tensors: Mapping[str, Tensor]) -> list[Entry]:
    """The parameters that an optimizer may have, in the state_dict's order: the trained ones and the fixed ones."""
    return [e for e in entries if e.role != "tied" and not _buffer(e) and tensors[e.key].kind != "buffer"]


def _buffer(entry: Entry) -> bool:
    return (entry.role == "buffer" and not str(entry.path).startswith(FROZEN)) or (
        entry.role == "constant"
        and (not entry.dtype.startswith(("float", "bfloat")) or entry.key.rpartition(".")[2].startswith(("running_", "num_")))
    )


def _chosen(given: Sequence[Sequence[str]], entries: Sequence[Entry]) -> list[list[str]]:
    keys = [e.key for e in entries if e.role != "tied" and not _buffer(e)]
    lists = []
    for patterns in given:
        chosen: list[str] = []
        for pattern in patterns:
            found = [key for key in keys if fnmatch.fnmatchcase(key, pattern) and key not in chosen]
            if not found:
                raise Usage(f"groups contains {pattern!r}, which matches no key of the model", f"The keys are {', '.join(keys[:6])}, ...")
            chosen += found
        lists.append(chosen)
    return lists


__all__ = ["FROZEN", "Naming", "candidates", "indices", "keys_by_index"]
