"""A made-up report with everything in it, of ordinary text or of text that wants to do harm."""

from __future__ import annotations

import numpy as np

from weights.proof.report import Accuracy, Errors, OnPurpose, Open, Pair, Report
from weights.proof.rows import Row, Ulp

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7 * 191 }}",
    "\x1b[31mred\x00",
    "left\u202etfel",
    "`<b>bold</b>`",
)


def made(texts: tuple[str, ...] = ("a.weight", "b.bias"), pairs: int = 2) -> Report:
    """A report with everything in it; all its texts are of `texts`."""

    def text(n: int) -> str:
        return texts[n % len(texts)]

    ulp = Ulp.of(np.linspace(1, 2, 7), np.linspace(1, 2, 7) * (1 + 2e-16))
    rows = [
        Row("step", dtype, text(n), 10.0 ** (n - 9), 1e-6, n != 4, ulp=ulp, trail=tuple((s, 1e-9 * s, 2e-9 * s) for s in range(1, 11)))
        for n, dtype in enumerate(["float32", "float64"] * 3)
    ]
    rows += [
        Row("forward", "float64", text(0), float("inf"), 0.0, False),
        Row("settings", "", f"{text(1)} (only an option says so)", 0, 0, True, False),
    ]
    one = Errors(0.5, 2.0, float("inf"), 3)
    return Report(
        title=text(0),
        made="2026-01-01 00:00 UTC",
        pairs=tuple(Pair(f"{text(n)} {n}", "model", text(1), text(2), tuple(rows), (text(3),)) for n in range(pairs)),
        accuracy=(Accuracy("ball", text(0), "d/dx", "float32", 500, one, one, text(1)),),
        differences=(OnPurpose(*(text(n) for n in range(6))),),
        open=(Open(text(0), text(1), text(2)),),
        environment={"hyperport": "0", text(0): text(1)},
    )  # fmt: skip


__all__ = ["HOSTILE", "made"]
