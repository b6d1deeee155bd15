"""A report as one page: it opens from a disk without a network, sorts and filters, and reads on a phone, in the dark and on paper.

Whatever comes from a file (keys, names, words of a configuration) is escaped, its control characters are written out, and the page's
security policy lets no script run but its own.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from weights.errors import Usage, printable
from weights.files.outputs import new_files
from weights.proof import report_pictures as pictures
from weights.proof.report import Pair, Report
from weights.proof.rows import Row
from weights.proof.verify import LEVELS

MOST = 5000
"""Comparisons that the page has; its JSON has all."""
CELL = 500
"""Characters of a text that a page shows."""
NAMES = {"bits": "bits", "settings": "settings", "forward": "outputs", "grad": "gradients", "hvp": "second derivatives", "dtype": "types",
         "jit": "without jit", "vmap": "vmap", "train": "training", "step": "steps", "witness": "witness"}  # fmt: skip
"""What a level compares, in words."""
ORDER = {"failed": 0, "not verified": 1, "ok": 2}


class Picture(NamedTuple):
    """A drawing with its heading and what is written below it."""

    heading: str
    svg: Markup
    below: str


def page(report: Report, data: str) -> str:
    """The page. data: the name of the JSON file beside it."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folder = files("weights.proof") / "templates"
    style, script = ((folder / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    engine = Environment(loader=FileSystemLoader(str(folder)), autoescape=True, finalize=_shown, undefined=StrictUndefined,
                         trim_blocks=True, lstrip_blocks=True)  # fmt: skip
    engine.filters |= {"short": pictures.short, "share": pictures.share, "prose": _prose, "name": _name}
    ordered = sorted(report.rows, key=lambda one: (one[1].ok, not one[1].verified, -pictures.share(one[1])))
    pairs = sorted(report.pairs, key=lambda pair: pair.status != "failed")
    return engine.get_template("report.html.jinja").render(
        report=report, pairs=pairs, data=data, pictures=pictures, names=NAMES, order=ORDER, rows=ordered[:MOST], left=len(ordered) - MOST,
        style=Markup(style), script=Markup(script), policy=_policy(style, script), worst=_worst(report),
        histograms=list(_histograms(report)), trails=list(_trails(report)), scatters=list(_scatters(report)),
    )  # fmt: skip


def _shown(value: Any) -> Any:
    """Text without control characters, and no more of it than a cell takes. The page's own markup stays."""
    if type(value) is not str:
        return value
    return printable(value if len(value) <= CELL else f"{value[:CELL]}... ({len(value)} characters)")


def _prose(text: str) -> Markup:
    """A sentence with `code` in it."""
    parts = re.split(r"`([^`]*)`", _shown(text))
    return Markup("").join(
        Markup("<code>{}</code>").format(_broken(part, r"(?<=[/_])|(?<=::)")) if n % 2 else part for n, part in enumerate(parts)
    )


def _name(text: str) -> Markup:
    """A name that may be broken after its dots and slashes, but for points in numbers."""
    return _broken(_shown(text), r"(?<=/)|(?<=\.)(?!\d)")


def _broken(text: str, after: str) -> Markup:
    return Markup("<wbr>").join(re.split(after, text))


def _policy(style: str, script: str) -> Markup:
    """Nothing is fetched, and nothing runs but these two."""

    def hashed(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    return Markup(f"default-src 'none'; img-src data:; style-src {hashed(style)}; script-src {hashed(script)}")


def _worst(report: Report) -> tuple[Pair, Row] | None:
    """The comparison nearest to its gate, or farthest beyond."""
    return max((one for one in report.rows if one[1].verified and one[1].gate > 0), key=lambda one: pictures.share(one[1]), default=None)


def _grouped(report: Report, kept: Callable[[Row], Any]) -> Iterator[tuple[str, str, str, list[Row]]]:
    """(whose, level, type, rows): of one pair by itself, of several by their kind."""
    one = len(report.pairs) == 1

    def key(found: tuple[Pair, Row]) -> tuple[str, int, str, str]:
        pair, row = found
        level = LEVELS.index(row.level) if row.level in LEVELS else len(LEVELS)
        return pair.name if one else f"{pair.kind}s", level, row.level, row.dtype

    for (whose, _, level, dtype), found in groupby(sorted((one for one in report.rows if kept(one[1])), key=key), key):
        yield whose, level, dtype, [row for _, row in found]


def _histograms(report: Report) -> Iterator[Picture]:
    """The entries of all arrays that were compared, by level and type."""
    for whose, level, dtype, rows in _grouped(report, lambda row: row.ulp is not None):
        found = [row.ulp for row in rows if row.ulp is not None]
        counts = [sum(column) for column in zip(*(ulp.counts for ulp in found))]
        heading, total = f"{whose}: {NAMES.get(level, level)}, {dtype}", sum(counts)
        equal = f"{counts[0] / total:.0%} of {total} entries are equal"
        below = f"{equal}; the largest difference is {_units(max(ulp.largest for ulp in found))}"
        yield Picture(heading, pictures.histogram(counts, heading), below)


def _units(value: float) -> str:
    return "not finite" if value == float("inf") else f"{pictures.short(value)} units"


def _trails(report: Report) -> Iterator[Picture]:
    """Trajectories of each pair, by type, those nearest to their gates first."""
    found: list[tuple[float, Picture]] = []
    for pair in report.pairs:
        rows = sorted((row for row in pair.rows if row.trail), key=lambda row: row.dtype, reverse=True)
        for dtype, group in groupby(rows, key=lambda row: row.dtype):
            several = list(group)
            first, name = max(several, key=pictures.share), f"{pair.name}, {dtype}"
            below = f"{first.what}: {pictures.short(first.error)} of the way, gate {pictures.short(first.gate)}"
            found.append((pictures.share(first), Picture(name, pictures.trajectories(several, name), below)))
    yield from (picture for _, picture in sorted(found, key=lambda one: -one[0]))


def _scatters(report: Report) -> Iterator[Picture]:
    for space, group in groupby(report.accuracy, key=lambda row: row.space):
        rows = list(group)
        nearer = sum(row.port.p99 <= row.original.p99 for row in rows)
        yield Picture(space, pictures.scatter(rows, space), f"port_jax is at most as far off in {nearer} of {len(rows)}")


def json_of(html: str | Path) -> Path:
    """Where the JSON of a page is: the same name with .json. Usage for a name that does not end in .html."""
    path = Path(html)
    if path.suffix.lower() not in (".html", ".htm"):
        raise Usage(f"--html ends in {path.suffix or 'nothing'!r}", "Give a file that ends in .html")
    return path.with_suffix(".json")


def paths(html: str | Path | None, data: str | Path | None) -> list[Path]:
    """The files of `write`: a page, its JSON, and the JSON at a place of its own."""
    return [*([] if html is None else [Path(html), json_of(html)]), *([] if data is None else [Path(data)])]


def write(report: Report, *, html: str | Path | None = None, data: str | Path | None = None, overwrite: bool = False) -> list[Path]:
    """Writes a page with its JSON beside it, and the JSON at `data`; all of the files or none. Returns their paths.

    Usage where two of them are one; NotWritten where one exists, unless `overwrite`, or cannot be written.
    """
    outputs, text = paths(html, data), json.dumps(report.to_json(), indent=1, allow_nan=False) + "\n"
    texts = [text] * len(outputs)
    if html is not None:
        texts[0] = page(report, json_of(html).name)
    with new_files(*outputs, overwrite=overwrite) as temporaries:
        for temporary, written in zip(temporaries, texts):
            temporary.write_text(written, encoding="utf-8")
    return outputs


__all__ = ["json_of", "page", "paths", "write"]
