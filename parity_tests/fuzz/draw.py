"""Small things that every kind of case draws."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")
Random = np.random.Generator
TEXTS = (
    "",
    ".",
    "..",
    "a",
    "w",
    "emb",
    "lin.weight",
    "a.b.c",
    "a..b",
    ".a",
    "a.",
    "/",
    "a/b",
    "../x",
    "\\",
    "\0",
    "\n",
    "a\nb",
    "\x1b]0;x\x07",
    "\x1b[31m",
    "[bold]w",
    "[/]",
    "\ud800",
    "\u202ex",
    "ключ",
    "𝕏",
    "é",
    "e\u0301",
    "__class__",
    "_metadata",
    "__metadata__",
    "module",
    "_orig_mod",
    "=1+1",
    "<script>",
    "$x^$",
    "%s{}",
    "nan",
    "params",
    "state",
    "param_groups",
    "k" * 300,
    "k." * 120,
    "k" * 3000,
)
INTEGERS = (
    0,
    1,
    -1,
    2,
    3,
    4,
    7,
    255,
    256,
    65535,
    1 << 31,
    (1 << 31) - 1,
    -(1 << 31),
    1 << 32,
    1 << 53,
    (1 << 61) - 1,
    1 << 62,
    (1 << 63) - 1,
    1 << 63,
    -(1 << 63),
    1 << 64,
    10**30,
    -(10**30),
)
FLOATS = (0.0, -0.0, 0.7, 1.0, -1.0, 1e-300, 1e300, 5e-324, float("nan"), float("inf"), float("-inf"), 3.5)
DTYPES = (
    "F64",
    "F32",
    "F16",
    "BF16",
    "I64",
    "I32",
    "I16",
    "I8",
    "U8",
    "BOOL",
    "F8_E4M3",
    "F8_E5M2",
    "U16",
    "U32",
    "U64",
    "C64",
    "F4",
    "",
    "f32",
)


def one_of(random: Random, values: Sequence[T]) -> T:
    """One of these."""
    return values[int(random.integers(0, len(values)))]


def below(random: Random, end: int) -> int:
    """A number from 0 on, below `end`."""
    return int(random.integers(0, max(end, 1)))


def chance(random: Random, probability: float) -> bool:
    """Whether it happens."""
    return bool(random.random() < probability)


def shuffled(random: Random, values: Iterable[T]) -> list[T]:
    """These in another order."""
    values = list(values)
    return [values[n] for n in random.permutation(len(values))]


def plain(random: Random, depth: int = 3) -> Any:
    """A value of JSON, and of Python beside: odd ones more often than usual ones."""
    kind = below(random, 9 if depth > 0 else 6)
    if kind == 0:
        return one_of(random, (None, True, False))
    if kind in (1, 2):
        return one_of(random, INTEGERS)
    if kind == 3:
        return one_of(random, FLOATS)
    if kind in (4, 5):
        return one_of(random, TEXTS)
    items = [plain(random, depth - 1) for _ in range(below(random, 4))]
    return items if kind < 8 else {one_of(random, TEXTS): item for item in items}
