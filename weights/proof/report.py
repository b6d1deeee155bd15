"""What comparisons found, as one document: pairs and their rows, accuracy, differences on purpose, what nothing confirms, environment.

`weights.proof.report_page` makes a page of it and writes both; here it becomes the values of JSON.
"""

from __future__ import annotations

import contextlib
import inspect
import math
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from weights.checkpoint import Checkpoint
from weights.errors import Unreadable
from weights.files.opening import hashes
from weights.mapping.port import Port
from weights.mapping.probes import Edges
from weights.proof import verify
from weights.proof.rows import Row, Ulp
from weights.types import Document, Hyperparameters

SCHEMA = 1
"""Which reading of the JSON this is; a number that changes with the meaning of a name."""


@dataclass(frozen=True)
class Pair:
    """Two programs that should compute the same, and what was compared. kind: file, model, layer, optimizer, ...

    port, original: the names of the two sides. told: sentences about what was found.
    """

    name: str
    kind: str
    port: str
    original: str
    rows: tuple[Row, ...]
    told: tuple[str, ...] = ()

    @property
    def status(self) -> str:
        """failed where a comparison is, not verified where nothing was compared, else ok."""
        found = {row.status for row in self.rows}
        return next((status for status in ("failed", "ok") if status in found), "not verified")


@dataclass(frozen=True)
class Errors:
    """Relative errors over a grid of points, in units of the type's eps. not_finite: the cases without a number."""

    p50: float
    p99: float
    largest: float
    not_finite: int


@dataclass(frozen=True)
class Accuracy:
    """An operation's value, or its gradient in one argument, of both sides against 50 digits. note: why port_jax may be above geoopt."""

    space: str
    operation: str
    of: str
    dtype: str
    cases: int
    original: Errors
    port: Errors
    note: str = ""


@dataclass(frozen=True)
class OnPurpose:
    """A case in which the two sides differ on purpose, with both values, the true one, what a resumed run does, and the test."""

    case: str
    original: str
    port: str
    truth: str
    resumed: str
    test: str


@dataclass(frozen=True)
class Open:
    """What nothing confirms, and why."""

    subject: str
    what: str
    why: str


@dataclass(frozen=True)
class Report:
    """Everything. made: when, in UTC. source: the files that were compared, by name."""

    title: str
    made: str
    pairs: tuple[Pair, ...]
    accuracy: tuple[Accuracy, ...] = ()
    differences: tuple[OnPurpose, ...] = ()
    open: tuple[Open, ...] = ()
    environment: Mapping[str, str] | None = None

    @property
    def rows(self) -> list[tuple[Pair, Row]]:
        """Every comparison with its pair."""
        return [(pair, row) for pair in self.pairs for row in pair.rows]

    @property
    def ok(self) -> bool:
        """Whether every comparison is within its gate."""
        return not verify.failed([row for _, row in self.rows])

    @property
    def summary(self) -> str:
        """One sentence: how many comparisons failed, and what nothing confirms."""
        return verify.summary([row for _, row in self.rows])

    def to_json(self) -> Document:
        """The document in plain values; null stands for a number that is not finite."""
        rows = [{"pair": pair.name, "status": row.status, **row._asdict(), "ulp": row.ulp and row.ulp._asdict()} for pair, row in self.rows]
        pairs = [{f.name: getattr(pair, f.name) for f in fields(pair) if f.name != "rows"} | {"status": pair.status} for pair in self.pairs]
        beside = {name: [asdict(one) for one in getattr(self, name)] for name in ("accuracy", "differences", "open")}
        return _plain({"schema": SCHEMA, "title": self.title, "made": self.made, "summary": self.summary, "ok": self.ok,
                       "versions": verify.versions(), "environment": dict(self.environment or {}), "pairs": pairs, "rows": rows,
                       **beside})  # fmt: skip

    @classmethod
    def of_json(cls, found: Document) -> Report:
        """From what `to_json` gave. Unreadable for another schema."""
        if found.get("schema") != SCHEMA:
            raise Unreadable(f"the report has schema {found.get('schema')!r}, and this version reads {SCHEMA}", "Write the report anew")
        rows: dict[str, list[Row]] = {}
        for one in found["rows"]:
            ulp = one["ulp"] and Ulp(*(_number(one["ulp"][name]) for name in Ulp._fields[:3]), counts=tuple(one["ulp"]["counts"]))
            trail = tuple((step, _number(error), _number(drift)) for step, error, drift in one["trail"])
            values = {name: one[name] for name in ("level", "dtype", "what", "ok", "verified")}
            row = Row(error=_number(one["error"]), gate=_number(one["gate"]), ulp=ulp, trail=trail, **values)
            rows.setdefault(one["pair"], []).append(row)
        pairs = [Pair(**{name: one[name] for name in ("name", "kind", "port", "original")}, told=tuple(one["told"]),
                      rows=tuple(rows.get(one["name"], ()))) for one in found["pairs"]]  # fmt: skip
        accuracy = [Accuracy(**one | {side: Errors(**{name: _number(value) for name, value in one[side].items()})
                                      for side in ("original", "port")}) for one in found["accuracy"]]  # fmt: skip
        return cls(found["title"], found["made"], tuple(pairs), tuple(accuracy), tuple(OnPurpose(**one) for one in found["differences"]),
                   tuple(Open(**one) for one in found["open"]), found["environment"])  # fmt: skip


def _plain(value: Any) -> Any:
    """Tuples as lists, and None for numbers that JSON does not have."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: Any) -> Any:
    return math.inf if value is None else value


def now() -> str:
    """The time of a report: to the minute, in UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def of_checkpoint(checkpoint: Checkpoint, path: str | Path, rows: Sequence[Row], told: Sequence[str] = (), **more: Any) -> Report:
    """The report of `verify` on a file. told: sentences about what was found; those of geoopt's defects that the optimizer goes on with
    follow them. more: of the environment; of paths the name is kept.
    """
    name, port = Path(path).name, checkpoint.port
    ours = "a tree of parameters" if port is None else f"port {port.name}" if port.own else f"port_jax, {checkpoint.arch}"
    theirs = "the program that recorded the witness" if more.get("witness") is not None else "geoopt and torch"
    reports = [checkpoint.report.get("optimizer") or {}, *(checkpoint.report.get("optimizers") or {}).values()]
    defects = [sentence for found in reports for sentence in found.get("defects", ())]
    pair = Pair(name, "file", ours, theirs, tuple(rows), (*told, *defects))
    kept = {f"SHA-256 of {file}": digest for file, digest in (hashes(Path(path), "") if Path(path).is_file() else {}).items()}
    kept |= sides_of(port, checkpoint.settings) if port is not None and port.own else {}
    kept |= {key: value.name if isinstance(value, Path) else value for key, value in more.items()}
    trains = port is not None and not port.own
    return of_pair(f"{name}, verified", pair, kept, trains=trains)


def of_pair(title: str, pair: Pair, more: Mapping[str, Any], *, trains: bool = False) -> Report:
    """The report of one pair. more: of the environment. trains: whether training is another computation that nothing compares."""
    open_ = (*unconfirmed([pair]), *_left_out(pair, trains))
    return Report(title, now(), (pair,), open=open_, environment=environment(more))


def sides_of(port: Port, settings: Hyperparameters) -> dict[str, str]:
    """What was compared, for a page's head: the class of the torch module, and names, shapes and types of the inputs."""
    made = port.torch
    if inspect.isroutine(made):
        with contextlib.suppress(Exception):  # of the person's code; then the function's name says what it is
            made = port.reference(settings)
    kind = made if isinstance(made, type) or inspect.isroutine(made) else type(made)
    found = {} if made is None else {"torch module": f"{kind.__module__}.{kind.__qualname__}"}
    leaves = jax.tree.leaves_with_path(port.arguments(settings), is_leaf=lambda node: isinstance(node, Edges))
    given = [f"{jax.tree_util.keystr(at, simple=True, separator='/')} {_outlined(leaf)}" for at, leaf in leaves]
    return {**found, "inputs": ", ".join(given)}


def _outlined(value: Any) -> str:
    """An input in words."""
    return f"graph of {value.num_nodes} nodes" if isinstance(value, Edges) else f"{list(np.shape(value))} {np.asarray(value).dtype}"


def _left_out(pair: Pair, trains: bool) -> Iterator[Open]:
    """What the level leaves out. Of a port of one's own `verify` says itself where training is not compared, from the outputs on."""
    found = {row.level for row in pair.rows}
    if "witness" in found:
        return
    for level, what in (("forward", "outputs"), ("grad", "gradients"), ("step", "steps of the optimizer")):
        if level not in found:
            yield Open(pair.name, what, "not compared at this level")
    if trains or "forward" not in found:
        yield Open(pair.name, "training mode", "dropout and statistics of a batch are compared for ports of one's own, from the outputs on")


def unconfirmed(pairs: Sequence[Pair]) -> Iterator[Open]:
    """The rows that nothing verifies: what, and in brackets why."""
    for pair in pairs:
        for row in pair.rows:
            if not row.verified:
                what, bracket, why = row.what.partition(" (")
                yield Open(pair.name, what, why.removesuffix(")") if bracket else "")


def environment(more: Mapping[str, Any] | None = None) -> dict[str, str]:
    """What the numbers may depend on: versions, the machine without its name, settings of JAX and torch, and `more`."""
    found = {"hyperport": version("hyperport"), "Python": platform.python_version(), **verify.versions()}
    found |= {"system": platform.platform(), "processor": _processor(), "processors": str(os.cpu_count())}
    device = jax.devices()[0]
    found |= {"JAX computes on": f"{device.platform} ({device.device_kind})"}
    found |= {"float64 in JAX": "on" if jax.config.read("jax_enable_x64") else "off"}
    found |= {name: os.environ[name] for name in ("XLA_FLAGS", "PYTORCH_JIT", "OMP_NUM_THREADS") if os.environ.get(name)}
    return found | {name: str(value) for name, value in (more or {}).items() if value not in (None, "")}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not on Linux
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


__all__ = [
    "SCHEMA",
    "Accuracy",
    "Errors",
    "OnPurpose",
    "Open",
    "Pair",
    "Report",
    "environment",
    "now",
    "of_checkpoint",
    "of_pair",
    "sides_of",
    "unconfirmed",
]
