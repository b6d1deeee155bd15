"""What devices send each other, read from the text of a compiled program."""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["Collective", "collectives"]

KINDS = ("all-gather", "all-reduce", "all-to-all", "collective-permute", "ragged-all-to-all", "reduce-scatter", "collective-broadcast")
OPERATION = re.compile(rf"= (\(.*?\)|\S+) ({'|'.join(KINDS)})(-start|-done)?\(")
SHAPE = re.compile(r"\b(pred|bf16|[suf]\d+|c\d+)\[([\d,]*)\]")
COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{$")
CALLED = re.compile(r"(body|condition|calls|to_apply|branch_computations|true_computation|false_computation)=\{?([^}\s]+(?:, ?%[\w.\-]+)*)")


class Collective(NamedTuple):
    """One operation: its kind, the bytes of its results on one device, the lengths of their axes, and whether it is in a loop."""

    kind: str
    bytes: int
    rows: tuple[int, ...]
    repeated: bool


def collectives(text: str) -> list[Collective]:
    """Those of a program as `jax.stages.Compiled.as_text` gives it. What a loop repeats is counted once, and marked."""
    own: dict[str, list[tuple[str, int, tuple[int, ...]]]] = {}
    called: dict[str, list[tuple[str, bool]]] = {}
    entry = name = ""
    for line in text.splitlines():
        if head := COMPUTATION.match(line):
            name = head[2]
            entry = name if head[1] else entry
            own[name], called[name] = [], []
        elif name:
            if (found := OPERATION.search(line)) and found[3] != "-start":
                own[name].append((found[2], _bytes(found[1]), _rows(found[1])))
            for how, names in CALLED.findall(line):
                called[name] += [(one.strip(" %{},"), how in ("body", "condition")) for one in names.split(",") if one.strip(" %{},")]
    out, open_ = [], [(entry, False)]
    while open_:
        name, repeated = open_.pop()
        out += [Collective(*one, repeated) for one in own.get(name, [])]
        open_ += [(other, repeated or loop) for other, loop in called.get(name, [])]
    return out


def _bytes(shape: str) -> int:
    total = 0
    for kind, lengths in SHAPE.findall(shape):
        count = 1
        for length in filter(None, lengths.split(",")):
            count *= int(length)
        total += count * (1 if kind == "pred" else max(1, int(re.sub(r"\D", "", kind)) // 8))
    return total


def _rows(shape: str) -> tuple[int, ...]:
    return tuple(int(length) for _, lengths in SHAPE.findall(shape) for length in filter(None, lengths.split(",")))
