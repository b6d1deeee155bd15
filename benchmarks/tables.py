"""The text of a row under the columns of its table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

Row = dict[str, Any]


class Kind(NamedTuple):
    """A kind of table: its columns, and the text of a row under them without the first, which has the work."""

    columns: tuple[str, ...]
    text: Callable[[Row], list[str]]


def cells(row: Row) -> list[str]:
    """The text of a row under its columns."""
    kind = kind_of(row)
    if "not_measured" in row:
        return [row["work"], "not measured"] + [""] * (len(kind.columns) - 2)
    return [row["work"], *kind.text(row)]


def kind_of(row: Row) -> Kind:
    """The kind of table that a row belongs to."""
    if "programs_goal" in row:
        return AGAIN
    return WAITED if "cold_s" in row else KINDS.get(row["benchmark"], STEPS)


def headline(row: Row) -> str:
    """The figure of a row that is compared between machines, and its goal."""
    if "not_measured" in row:
        return "not measured"
    if row["benchmark"] == "startup" or "cold_s" in row:
        return ", ".join(f"{side} {number(row, f'{side}_s')} s{bounded(row, f'{side}_s', f'{side}_goal_s')}" for side in ("cold", "warm"))
    if row["benchmark"] == "adam":
        return f"{ratio(row, 'cost')} times{bounded(row, 'cost', 'most')}"
    for what, goal in (("best_ratio", "best_goal"), ("eager_ratio", "goal"), ("ratio", "goal")):
        if what in row:
            return f"{row[what]:.1f} times{bounded(row, what, goal, least=True)}"
    return f"{number(row, 'jax_ms')} ms"


def bounded(row: Row, what: str, goal: str, least: bool = False) -> str:
    """Whether a figure meets its goal, in parentheses; nothing without a goal."""
    return f" ({verdict(row, what, goal, least)})" if goal in row else ""


def verdict(row: Row, what: str, goal: str, least: bool = False) -> str:
    """A goal, and whether the figure meets it."""
    if goal not in row:
        return ""
    if what not in row:
        return number(row, goal)
    met = row[what] >= row[goal] if least else row[what] <= row[goal]
    return f"{number(row, goal)} {'met' if met else 'missed'}"


def _waited(row: Row) -> list[str]:
    """Seconds with their goals, and how many times longer torch takes."""
    text = [number(row, "torch_s")]
    for side in ("cold", "warm"):
        text += [number(row, f"{side}_s"), verdict(row, f"{side}_s", f"{side}_goal_s")]
    text += [f"{row['torch_s'] / row[f'{side}_s']:.1f}" if "torch_s" in row else "" for side in ("cold", "warm")]
    return [*text, number(row, "processes")]


def _again(row: Row) -> list[str]:
    """Compiled programs."""
    return [number(row, "programs_first"), number(row, "programs_second"), verdict(row, "programs_second", "programs_goal")]


def _steps(row: Row) -> list[str]:
    """Medians, ratios with their spread, first calls and peak memory as torch / JAX."""
    compiled = "fails" if "compiled_error" in row else number(row, "compiled_ms")
    times = number(row, "torch_ms"), number(row, "kept_ms"), compiled, number(row, "jax_ms")
    eager, best = verdict(row, "eager_ratio", "goal", least=True), verdict(row, "best_ratio", "best_goal", least=True)
    ratios = ratio(row, "eager_ratio", "eager"), eager, ratio(row, "best_ratio", "best"), best
    floors = number(row, "floor_ms"), number(row, "times_floor")
    return [*times, *ratios, *floors, pair(row, "first_s"), pair(row, "peak_mib")]


def _adam(row: Row) -> list[str]:
    """The times, what the manifold costs, and peak memory."""
    times = number(row, "theirs_ms"), number(row, "jax_ms")
    return [*times, ratio(row, "cost", "cost"), verdict(row, "cost", "most"), pair(row, "peak_mib", "theirs")]


def _peers(row: Row) -> list[str]:
    """The times and their ratio."""
    times = number(row, "theirs_ms"), number(row, "jax_ms")
    return [*times, ratio(row, "ratio", ""), verdict(row, "ratio", "goal", least=True), pair(row, "peak_mib", "theirs")]


def _growth(row: Row) -> list[str]:
    """The times, and how far they are above the floor."""
    times = number(row, "theirs_ms"), number(row, "jax_ms"), number(row, "floor_ms")
    return [*times, ratio(row, "ratio", ""), f"{row['jax_ms'] / row['floor_ms']:.3g}" if "jax_ms" in row else ""]


def ratio(row: Row, what: str, spread: str = "") -> str:
    """A ratio and its range between opposite quartiles, which are named after `spread`."""
    if what not in row:
        return ""
    low, high = (f"{spread}_{end}" if spread else end for end in ("low", "high"))
    around = f" ({row[low]:.1f} to {row[high]:.1f})" if low in row else ""
    return f"{row[what]:.{1 if row[what] >= 1 else 2}f}{around}"


def number(row: Row, key: str) -> str:
    """A value to three significant digits, or an empty text if the row lacks it."""
    x = row.get(key)
    return "" if x is None else f"{x:,.0f}" if x >= 100 else f"{x:.3g}"


def pair(row: Row, what: str, other: str = "torch") -> str:
    """The values of the other side and of JAX with a slash between them; JAX's alone if the other has none."""
    both = [number(row, f"{side}_{what}") for side in (other, "jax")]
    return " / ".join(both if both[0] else both[1:]) if both[1] else ""


STEPS = Kind(("work", "torch, ms", "torch, memory kept, ms", "torch.compile, ms", "JAX, ms", "torch / JAX", "goal", "best torch / JAX",
              "goal of the best", "floor, ms", "times the floor", "first call, torch / JAX, s", "peak memory, torch / JAX, MiB"),
             _steps)  # fmt: skip
WAITED = Kind(("work", "torch, s", "JAX, cold, s", "goal, cold", "JAX, warm, s", "goal, warm", "torch / JAX, cold", "torch / JAX, warm",
               "processes of each"), _waited)  # fmt: skip
"""What is waited for from the start of a process."""
AGAIN = Kind(("work", "programs compiled, first time", "second time", "goal"), _again)
ADAM = Kind(("work", "optax.adam, ms", "RiemannianAdam, ms", "RiemannianAdam / adam", "at most", "peak memory, adam / RiemannianAdam, MiB"),
            _adam)  # fmt: skip
PEERS = Kind(("work", "the other library, ms", "JAX, ms", "other / JAX", "at least", "peak memory, other / JAX, MiB"), _peers)
GROWTH = Kind(("work", "torch, memory kept, ms", "JAX, ms", "floor, ms", "torch / JAX", "times the floor"), _growth)
KINDS = {"startup": WAITED, "adam": ADAM, "peers": PEERS, "growth": GROWTH}
"""The benchmarks whose rows do not have torch as it is, and their kinds."""
