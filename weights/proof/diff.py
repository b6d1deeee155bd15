"""Two checkpoints of any kind, compared tensor by tensor under torch's keys, and in everything beside the tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from pathlib import Path
from typing import NamedTuple

import numpy as np

from weights.checkpoint import restore
from weights.contents import Contents
from weights.errors import ConversionError, Refused, shown
from weights.exporter import torch_tree
from weights.files import sections
from weights.files.budget import CHARACTERS, DEPTH, Budget
from weights.files.pickles.standins import Record
from weights.files.reader import read
from weights.files.tensors import Tensor, same_bits
from weights.proof.reading import ABSENT, facts
from weights.store import form_of
from weights.views.terminal import Screen

SHOWN = 60
"""How much of a long value a table shows."""


class Row(NamedTuple):
    """One key. `largest`: the largest absolute difference; `ulp`: the same in units of the larger value's last place."""

    key: str
    a: str
    b: str
    equal: bool
    largest: float | None = None
    ulp: float | None = None
    where: list[int] | None = None


def compare(a: Path, b: Path) -> list[Row]:
    """A row for every key of either checkpoint: of the model, of the optimizer's state, and of what lies beside them, such as epoch, names,
    configuration and scheduler, by its place in the file. Torch files are read one tensor at a time.

    Of two conversions, what a torch file does not say is compared as well: settings, manifolds, the optimizer's groups and counts.
    """
    held = [restore(path) if form_of(path) else None for path in (a, b)]
    left, right = (_tensors(path, contents) for path, contents in zip((a, b), held))
    rows = []
    for key in [*left, *(k for k in right if k not in left)]:
        x, y = _read(left.get(key)), _read(right.get(key))
        a_is, b_is = (_named(value) if key in side else ABSENT for side, value in ((left, x), (right, y)))
        if not isinstance(x, np.ndarray) or not isinstance(y, np.ndarray) or x.dtype != y.dtype or x.shape != y.shape:
            rows.append(Row(key, a_is, b_is, key in left and key in right and _equal(x, y)))
        elif same_bits(x, y) or not x.size:
            rows.append(Row(key, a_is, b_is, True))
        else:
            rows.append(Row(key, a_is, b_is, False, *_distance(x, y)))
    one, two = (contents and facts(contents) for contents in held)
    if one is not None and two is not None:
        for what in {**one, **two}:
            rows.append(Row(what, _shown(one.get(what, ABSENT)), _shown(two.get(what, ABSENT)), one.get(what) == two.get(what)))
    return rows


def _read(value: object) -> object:
    return value.array() if isinstance(value, Tensor) else value


def _named(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {list(value.shape)}"
    text = _shown(repr(value))
    return f"{text} ({len(value)} values)" if text.endswith("...") and isinstance(value, Sized) else text


def _shown(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _equal(x: object, y: object) -> bool:
    return not isinstance(x, np.ndarray) and type(x) is type(y) and repr(x) == repr(y)


def _distance(x: np.ndarray, y: np.ndarray) -> tuple[float, float, list[int]]:
    wide = np.complex128 if x.dtype.kind == "c" else np.float64
    gap = np.abs(x.astype(wide) - y.astype(wide))
    gap = np.where(np.isnan(gap), np.inf, gap)
    at = np.unravel_index(int(np.argmax(gap)), gap.shape)
    ulp = float("nan")
    if x.dtype.kind == "f":
        ulp = float(np.max(gap / np.spacing(np.maximum(np.abs(x), np.abs(y))).astype(np.float64)))
    return float(gap[at]), ulp, [int(i) for i in at]


def _tensors(path: Path, contents: Contents | None) -> dict[str, object]:
    try:
        if contents is not None:
            return _flat(torch_tree(contents), Budget(1 << 20))
        file = read(path)
        return _flat(file.root, file.budget)
    except ConversionError as error:
        raise error.at(path) from None


def _flat(root: object, budget: Budget) -> dict[str, object]:
    parts = sections.split(root)
    flat: dict[str, object] = dict(parts.tensors)
    held = set(parts.model_at[:1])
    if len(parts.optimizers) == 1:  # several are compared below, under their places
        [own] = parts.optimizers
        held |= set(own.at[:1])
        for name in ("state", "param_groups"):
            if own.raw[name]:
                flat.update(_leaves(own.raw[name], f"optimizer.{name}", budget))
    if isinstance(root, dict) and parts.model_at:
        beside = {name: value for name, value in root.items() if name not in held}
        flat.update(_leaves(beside, "", budget))
    return flat


def _leaves(node: object, place: str, budget: Budget, depth: int = 0) -> Iterator[tuple[str, object]]:
    """Values by their places; a list of numbers or words is one value. They are paid for: a module may contain itself."""
    inside = {**node.items, **node.attributes} if isinstance(node, Record) else node
    budget.spend(CHARACTERS, len(place), "comparing what is beside the model")
    if depth > DEPTH:
        raise Refused(f"it nests more than {DEPTH} deep at {shown(place)}", "Save a plain state_dict")
    if isinstance(inside, dict) and inside:
        for name, child in inside.items():
            word = name if isinstance(name, str) else shown(name, 1000)
            yield from _leaves(child, f"{place}.{word}" if place else word, budget, depth + 1)
    elif isinstance(inside, (list, tuple)) and any(isinstance(child, (dict, list, tuple, Tensor, Record)) for child in inside):
        for number, child in enumerate(inside):
            yield from _leaves(child, f"{place}.{number}", budget, depth + 1)
    else:
        yield place, inside


def show(rows: list[Row]) -> None:
    """Prints a table of the rows that differ, and how many are equal."""
    cells = []
    for row in rows:
        if not row.equal:
            numbers = ["" if v is None else f"{v:.3g}" for v in (row.largest, row.ulp)]
            cells.append((row.key, row.a, row.b, *numbers, row.where or ""))
    screen = Screen()
    if cells:
        screen.table(("key", "A", "B", "max abs", "ULP", "at"), cells)
    screen.line(f"{sum(r.equal for r in rows)} of {len(rows)} equal bit by bit")


__all__ = ["Row", "compare", "show"]
