"""The pictures of a report as SVG inside its page: shares of gates, units in the last place, trajectories, accuracy.

Colours are classes of the page's style sheet, so that one picture serves a light page, a dark one, and paper. Each picture has an
alternative text that says in words what it shows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from markupsafe import Markup

from weights.errors import printable
from weights.proof.report import Accuracy
from weights.proof.rows import BINS, Row

FLOOR, CEILING = -18, 2
"""The decades that a picture shows; 0 is drawn at the floor, and what is not finite at the ceiling."""
LINES = 24
"""Parameters that a picture of trajectories has lines for: those nearest to their gates."""


def decade(value: float, low: float = FLOOR, high: float = CEILING) -> float:
    """log10, within the picture."""
    if not math.isfinite(value):
        return high
    return min(max(math.log10(value), low), high) if value > 0 else low


def share(row: Row) -> float:
    """The error as a part of the gate; of a gate of 0, 0 or infinite, and infinite of what is not a number."""
    if row.gate > 0 and not math.isnan(row.error):
        return row.error / row.gate
    return 0.0 if row.error == 0 else math.inf


def short(value: float) -> str:
    """A number with two digits, or all of them before the point."""
    if not math.isfinite(value):
        return "not finite"
    if 99.5 <= abs(value) < 99_999.5:
        return f"{value:.0f}"
    return "0" if value == 0 else f"{value:.2g}" if 0.01 <= abs(value) < 99.5 else f"{value:.1e}"


def _svg(width: float, height: float, kind: str, text: str, parts: Iterable[str]) -> Markup:
    head = Markup('<svg class="{}" role="img" width="{:g}" height="{:g}" viewBox="0 0 {:g} {:g}"><title>{}</title>')
    return head.format(kind, width, height, width, height, printable(text)) + Markup("").join(parts) + Markup("</svg>")


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    return Markup('<path class="{}" d="M{:.1f} {:.1f}L{:.1f} {:.1f}"/>').format(kind, x1, y1, x2, y2)


def _path(points: Sequence[tuple[float, float]], kind: str) -> Markup:
    return Markup('<path class="{}" d="M{}"/>').format(kind, "L".join(f"{x:.1f} {y:.1f}" for x, y in points))


def _text(x: float, y: float, text: str, kind: str = "") -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" class="{}">{}</text>').format(x, y, kind, text)


def strip(rows: Sequence[Row], width: int = 220, height: int = 24) -> Markup:
    """Every comparison as a dot at the logarithm of its share of the gate, which is the line on the right."""
    low, high = -10.0, 1.0

    def x(row: Row) -> float:
        return 6 + (decade(share(row), low, high) - low) / (high - low) * (width - 12)

    gate, shown = 6 + -low / (high - low) * (width - 12), [row for row in rows if row.verified]
    parts = [_line(6, height / 2, width - 6, height / 2, "axis"), _line(gate, 1, gate, height - 1, "gate")]
    for n, row in enumerate(shown):
        kind = "failed" if not row.ok else "single" if row.dtype == "float32" else "double"
        y = height / 2 + (n % 5 - 2) * height / 9
        parts.append(Markup('<circle class="dot {}" cx="{:.1f}" cy="{:.1f}" r="2.4"/>').format(kind, x(row), y))
    worst = max((share(row) for row in shown), default=0.0)
    text = f"{len(shown)} comparisons by their share of the gate, on a scale of powers of ten; the nearest is at {short(worst)} of it"
    return _svg(width, height, "strip", text, parts)


def bar(row: Row, width: int = 72, height: int = 10) -> Markup:
    """How near an error is to its gate, on a scale of powers of ten; the picture's number is beside it in the table."""
    low, high = -10.0, 1.0
    gate = -low / (high - low) * width
    size = (decade(share(row), low, high) - low) / (high - low) * width
    fill = Markup('<rect class="{}" x="0" y="2.5" width="{:.1f}" height="5" rx="2.5"/>')
    parts = [fill.format("bar" if row.ok else "bar bad", max(size, 2)), _line(gate, 0, gate, height, "gate")]
    return _svg(width, height, "share", f"{short(share(row))} of the gate", parts)


def ulp_class(n: int) -> str:
    """What the n-th class of a histogram contains, in words."""
    return ("0" if n == 0 else "up to 1" if n == 1 else f"up to {2 ** (n - 1)}") if n < BINS - 1 else "more"


def histogram(counts: Sequence[int], name: str, width: int = 300, height: int = 118) -> Markup:
    """How many entries differ by how many units in the last place."""
    total, most = sum(counts) or 1, max(counts) or 1
    left, bottom, top = 8, height - 20, 14
    step = (width - 2 * left) / BINS
    parts = [_line(left, bottom + 0.5, width - left, bottom + 0.5, "axis")]
    for n, count in enumerate(counts):
        if count:
            size = max((bottom - top) * count / most, 1.5)
            kind = "bar far" if n == BINS - 1 else "bar"
            told = f"{ulp_class(n)}: {count} entries, {count / total:.1%}"
            column = Markup('<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}</title></rect>')
            parts.append(column.format(kind, left + n * step + 1, bottom - size, step - 2, size, told))
    for n, label in ((0, "0"), (1, "1"), (4, "8"), (8, "128"), (12, "2¹¹"), (16, "2¹⁵"), (20, "2¹⁹"), (21, "›")):
        parts.append(_text(left + (n + 0.5) * step, height - 6, label, "middle"))
    ends = [n for n, _ in enumerate(counts) if sum(counts[: n + 1]) >= 0.99 * total]
    text = f"{name}: of {total} entries {counts[0] / total:.0%} are equal, 99 % differ by {ulp_class(ends[0])} units in the last place"
    return _svg(width, height, "histogram", text, parts)


def trajectories(rows: Sequence[Row], name: str, width: int = 300, height: int = 178) -> Markup:
    """Errors over the steps, a line for each parameter; the one nearest to its gate is strong, with its gate and torch's own drift."""
    shown = sorted(rows, key=share, reverse=True)[:LINES]
    first, steps = shown[0], [step for step, _, _ in shown[0].trail]
    logarithmic = steps[-1] > 20
    values = [v for row in shown for _, error, drift in row.trail for v in (error, *((drift,) if row is first else ())) if v > 0]
    low = math.floor(min((decade(v) for v in values), default=-17))
    high = max(math.ceil(max((decade(v) for v in [*values, first.gate]), default=0)), low + 2)
    left, right, top, bottom = 40, width - 8, 8, height - 30

    def x(step: int) -> float:
        part = math.log10(step) / math.log10(steps[-1]) if logarithmic else (step - steps[0]) / max(steps[-1] - steps[0], 1)
        return left + part * (right - left)

    def y(value: float) -> float:
        return bottom - (decade(value, low, high) - low) / (high - low) * (bottom - top)

    parts: list[str] = []
    for power in range(low, high + 1, max(1, math.ceil((high - low) / 5))):
        parts += [_line(left, y(10.0**power), right, y(10.0**power), "grid"), _text(left - 5, y(10.0**power) + 3.5, f"1e{power}", "end")]
    for step in steps if logarithmic else [s for s in steps if s in (1, 5, 10) or s == steps[-1]]:
        parts.append(_text(x(step), bottom + 14, str(step), "middle"))
    parts.append(_text((left + right) / 2, height - 3, "step", "middle"))
    for row in reversed(shown[1:]):
        parts.append(_path([(x(step), y(error)) for step, error, _ in row.trail], "line thin"))
    parts.append(_path([(x(step), y(drift)) for step, _, drift in first.trail], "line drift"))
    parts.append(_line(left, y(first.gate), right, y(first.gate), "gate"))
    parts.append(_path([(x(step), y(error)) for step, error, _ in first.trail], "line"))
    start, end = first.trail[0], first.trail[-1]
    text = (
        f"{name}: the error of {len(rows)} parameters over {steps[-1]} steps. Nearest to its gate of {short(first.gate)} is {first.what}: "
    )
    text += f"{short(start[1])} after step {start[0]}, {short(end[1])} after step {end[0]}"
    return _svg(width, height, "trail", text, parts)


def scatter(rows: Sequence[Accuracy], name: str, width: int = 300, height: int = 288) -> Markup:
    """The error that 99 % of the cases stay below, geoopt's to the right and port_jax's upwards: below the diagonal port_jax is nearer."""
    low, high, left, bottom, top, right = -2.0, 18.0, 50, height - 34, 8, width - 10

    def x(value: float) -> float:
        return left + (decade(value, low, high) - low) / (high - low) * (right - left)

    def y(value: float) -> float:
        return bottom - (decade(value, low, high) - low) / (high - low) * (bottom - top)

    parts: list[str] = [_path([(left, bottom), (right, bottom), (right, top)], "better")]
    for power in range(0, 19, 4):
        across, up = x(10.0**power), y(10.0**power)
        parts += [_line(left, up, right, up, "grid"), _line(across, top, across, bottom, "grid")]
        parts += [_text(left - 5, up + 3.5, f"1e{power}", "end"), _text(across, bottom + 14, f"1e{power}", "middle")]
    parts += [_line(left, bottom, right, top, "gate"), _text((left + right) / 2, height - 3, "geoopt, p99 / eps", "middle")]
    upright = Markup('<text class="middle" transform="translate(10 {:.1f}) rotate(-90)">port_jax, p99 / eps</text>')
    parts.append(upright.format((top + bottom) / 2))
    for row in rows:
        kind = "single" if row.dtype == "float32" else "double"
        text = f"{row.operation}, {row.of}, {row.dtype}: geoopt {short(row.original.p99)}, port_jax {short(row.port.p99)}"
        parts.append(Markup('<circle class="dot {}" cx="{:.1f}" cy="{:.1f}" r="2.6"><title>{}</title></circle>').format(
            kind, x(row.original.p99), y(row.port.p99), printable(text)))  # fmt: skip
    nearer = sum(row.port.p99 <= row.original.p99 for row in rows)
    text = f"{name}: in {nearer} of {len(rows)} lines of the table the 99th percentile of port_jax's error is at most that of geoopt's"
    return _svg(width, height, "scatter", text, parts)


__all__ = ["bar", "histogram", "scatter", "share", "short", "strip", "trajectories", "ulp_class"]
