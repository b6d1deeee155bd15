"""From the indices in an optimizer's groups to the model's keys."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence

from weights.errors import Unmatched, Usage
from weights.files.tensors import Tensor
from weights.mapping.entries import Entry


def indices(groups: Sequence[object]) -> list[list[int]]:
    """The indices of each group; Unmatched where they are none, repeated or not a list."""
    found: list[list[int]] = []
    for number, group in enumerate(groups):
        listed = group.get("params") if isinstance(group, dict) else None
        if not isinstance(listed, list) or not all(type(i) is int for i in listed):
            raise Unmatched(f"param_groups[{number}] of the optimizer has no list of indices", "Save optimizer.state_dict()")
        found.append(listed)
    flat = [i for listed in found for i in listed]
    if not flat or len(set(flat)) != len(flat):
        raise Unmatched(
            f"the optimizer's groups list {len(flat)} indices, {len(set(flat))} of them different",
            "Save optimizer.state_dict()",
        )
    return found


def keys_by_index(groups: list[dict], listed: list[list[int]], entries: Sequence[Entry], tensors: Mapping[str, Tensor], prefix: str,
                  table: list[list[str]] | None, given: Sequence[Sequence[str]] | None) -> tuple[dict[int, str], str]:  # fmt: skip
    """The key of each index, and by what it was found.

    By `param_names` in the groups; else by `given` (names or patterns for each group); else by the architecture's `table`;
    else, for one group, in the state_dict's order without buffers and repeated tensors.
    """
    names = [group.get("param_names") for group in groups]
    if all(isinstance(n, (list, tuple)) for n in names):
        lists = [[str(key).removeprefix(prefix) for key in n or ()] for n in names]
        source = "param_names"
    elif given is not None:
        lists, source = _chosen(given, entries), "option groups"
    elif table is not None:
        lists, source = table, "the architecture's groups"
    elif len(groups) > 1:
        raise Usage(
            f"the optimizer has {len(groups)} groups of {', '.join(str(len(l)) for l in listed)} parameters and no names",
            "Give groups=[[keys or patterns of group 0], [of group 1], ...] in the order of the training code (--groups)",
        )
    else:
        lists, source = [_in_order(len(listed[0]), entries)], "the state_dict's order"
    known = {entry.key for entry in entries}
    result: dict[int, str] = {}
    if len(lists) != len(listed):
        raise Unmatched(f"{source} gives {len(lists)} groups; the optimizer has {len(listed)}", "Give groups=[[...], ...]")
    for number, (indexes, keys) in enumerate(zip(listed, lists)):
        if len(indexes) != len(keys):
            raise Unmatched(
                f"group {number} of the optimizer has {len(indexes)} parameters; {source} gives {len(keys)}",
                "Give groups=[[...], ...]",
            )
        result.update(zip(indexes, keys))
    for index, key in result.items():
        if key not in known:
            raise Unmatched(
                f"index {index} of the optimizer is {key!r} by {source}, which the model lacks",
                "Save model and optimizer together",
            )
    if len(set(result.values())) != len(result):
        raise Unmatched(f"{source} gives the same key to two indices of the optimizer", "Give groups=[[...], ...]")
    return result, source


def _in_order(count: int, entries: Sequence[Entry]) -> list[str]:
    distinct = [e for e in entries if e.role != "tied"]
    every = [e.key for e in distinct if not _buffer(e)]
    trained = [e.key for e in distinct if e.role == "parameter"]
    for keys in (every, trained):
        if len(keys) == count:
            return keys
    raise Unmatched(
        f"the optimizer has {count} parameters; the model has {len(trained)} trained ones and {len(every)} with the fixed ones",
        "Give groups=[[keys in the order of the training code]] (--groups), or save model and optimizer together",
    )


def _buffer(entry: Entry) -> bool:
    return entry.role == "constant" and (
        not entry.dtype.startswith(("float", "bfloat")) or entry.key.rpartition(".")[2].startswith(("running_", "num_"))
    )


def _chosen(given: Sequence[Sequence[str]], entries: Sequence[Entry]) -> list[list[str]]:
    keys = [e.key for e in entries if e.role != "tied" and not _buffer(e)]
    lists = []
    for patterns in given:
        chosen: list[str] = []
        for pattern in patterns:
            found = [key for key in keys if fnmatch.fnmatchcase(key, pattern) and key not in chosen]
            if not found:
                raise Usage(f"groups names {pattern!r}, which fits no key of the model", f"Keys are {', '.join(keys[:6])}, ...")
            chosen += found
        lists.append(chosen)
    return lists
