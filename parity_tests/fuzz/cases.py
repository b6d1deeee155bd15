"""Cases by number, and many of them in a row, in processes that are begun anew from time to time."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from parity_tests import draws
from parity_tests.fuzz import archives, configs, damage, folders, headers, pickles, seeds, states
from parity_tests.fuzz.trial import CODES, UNFORESEEN, Case, Outcome, tried

KINDS: dict[str, Callable[[np.random.Generator, Path, Path], Case]] = {
    "bytes": damage.case,
    "pickles from a grammar": pickles.drawn,
    "operations of pickles": pickles.moved,
    "zip archives": archives.case,
    "safetensors headers": headers.header,
    "indices of shards": headers.shards,
    "configurations": configs.case,
    "keys": states.keys,
    "groups of optimizers": states.groups,
    "documents of conversions": folders.documents,
    "folders of conversions": folders.entries,
}
SEVERAL = {"pickles from a grammar": 4, "zip archives": 4, "operations of pickles": 2, "safetensors headers": 2, "groups of optimizers": 2}
OFTEN = tuple(kind for turn in range(4) for kind in KINDS if turn < SEVERAL.get(kind, 1))
BLOCK = 5000
"""Cases of one process."""
HANGING = 300.0
"""Seconds without a word after which a process is stopped."""
ADDRESSES = 6 << 30
"""Bytes beyond its start that a process may ask for."""
SHOWN = 40


def kind_of(number: int) -> str:
    """The kind of a case."""
    return OFTEN[number % len(OFTEN)]


def one(number: int, source: Path, folder: Path) -> tuple[Case, Outcome]:
    """Makes a case in an empty folder, and tries it."""
    random = draws.rng(number)
    case = KINDS[kind_of(number)](random, source, folder)
    return case, tried(case, random, folder)


def in_a_row(numbers: Iterable[int], source: Path) -> Iterator[dict[str, Any]]:
    """What became of cases, one after the other, in this process."""
    with tempfile.TemporaryDirectory() as name:
        for number in numbers:
            folder = Path(name, str(number))
            folder.mkdir()
            case, outcome = one(number, source, folder)
            shutil.rmtree(folder)
            yield {"number": number, "kind": kind_of(number), "what": case.what[:300], **outcome._asdict()}


def show(number: int, keep: Path | None) -> int:
    """Prints one case; 1 if it does not end as it has to."""
    with tempfile.TemporaryDirectory() as name:
        source, folder = Path(name, "seeds"), Path(name, "case")
        source.mkdir()
        folder.mkdir()
        seeds.make(source)
        case, outcome = one(number, source, folder)
        print(f"case {number}: {kind_of(number)}\nchanged: {case.what!r}\ngiven: {dict(case.given)}")
        print(f"outcome: {outcome.result}, {outcome.seconds:.2f} s, {outcome.memory} MiB\n{outcome.message}")
        print(f"FAULT: {outcome.fault}" if outcome.fault else "as it has to be")
        if keep is not None:
            shutil.copytree(folder, keep, symlinks=True)
    return int(bool(outcome.fault))


def run(numbers: range, kind: str | None = None) -> int:
    """Tries cases with a bar, prints a table of what became of them and the faults, and returns how many those are. An interrupt ends it
    with the table so far."""
    chosen = [number for number in numbers if kind in (None, kind_of(number))]
    table, slowest, most = Counter(), dict.fromkeys(KINDS, (0.0, 0)), dict.fromkeys(KINDS, (0, 0))
    faults: list[dict[str, Any]] = []
    begun = time.monotonic()
    bar = tqdm(total=len(chosen), unit="case", disable=None)
    with contextlib.suppress(KeyboardInterrupt), tempfile.TemporaryDirectory() as name, bar:
        source = Path(name)
        seeds.make(source)
        while chosen:
            block, chosen = chosen[:BLOCK], chosen[BLOCK:]
            for done, row in enumerate(_of_a_child(partial(in_a_row, block, source))):
                if "ended" in row:
                    row = {
                        "number": block[done],
                        "kind": kind_of(block[done]),
                        "what": "",
                        "result": UNFORESEEN,
                        "seconds": 0.0,
                        "memory": 0,
                        "fault": f"ends the process ({row['ended']})",
                        "message": "",
                    }
                    chosen = block[done + 1 :] + chosen
                bar.update()
                what = row["kind"]
                table[what, row["result"]] += 1
                slowest[what] = max(slowest[what], (row["seconds"], row["number"]))
                most[what] = max(most[what], (row["memory"], row["number"]))
                if row["fault"]:
                    faults.append(row)
                    bar.write(f"case {row['number']} ({what}): {row['fault']!r:.400}", file=sys.stderr)
    _print(table, slowest, most, time.monotonic() - begun)
    for text, count in Counter(f"{row['kind']}: {row['fault'][:120]}" for row in faults).most_common(SHOWN):
        print(f"{count} x {text!r}")
    return len(faults)


def _print(table: Counter, slowest: dict, most: dict, seconds: float) -> None:
    out, results = Table(title=f"{sum(table.values())} cases in {seconds:.0f} s"), [*CODES.values(), UNFORESEEN]
    for name in ("changed", *results, "slowest s", "case", "most MiB", "case"):
        out.add_column(name, justify="left" if name == "changed" else "right")
    for kind in KINDS:
        counts = [table[kind, result] for result in results]
        if sum(counts):
            (longest, slow), (memory, large) = slowest[kind], most[kind]
            out.add_row(kind, *map(str, counts), f"{longest:.2f}", str(slow), str(memory), str(large))
    out.add_row("all", *(str(sum(n for (_, result), n in table.items() if result == wanted)) for wanted in results), "", "", "", "")
    Console(width=170).print(out)


def _of_a_child(rows: Callable[[], Iterable[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    """The rows that a new process makes; {"ended": why} last if it does not come to their end."""
    output, given = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        os.close(output)
        code = 1
        try:
            pages = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            with contextlib.suppress(ValueError):
                resource.setrlimit(resource.RLIMIT_AS, (pages + ADDRESSES, pages + ADDRESSES))
            with os.fdopen(given, "w") as pipe:
                for row in rows():
                    pipe.write(json.dumps(row) + "\n")
                    pipe.flush()
                pipe.write("{}\n")
            code = 0
        finally:
            if code:
                sys.excepthook(*sys.exc_info())  # pyright: ignore[reportArgumentType]
            os._exit(code)
    os.close(given)
    with os.fdopen(output) as pipe:
        watch = _Watch(child)
        for line in pipe:
            watch.heard()
            if row := json.loads(line):
                yield row
            else:
                break
        else:
            yield {"ended": "no word for five minutes" if watch.killed else "see above"}
        watch.stop()
    os.waitpid(child, 0)


class _Watch:
    """Kills a process from which nothing is heard."""

    def __init__(self, child: int):
        self.child, self.killed = child, False
        signal.signal(signal.SIGALRM, self._late)
        self.heard()

    def heard(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, HANGING)

    def stop(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _late(self, *_: object) -> None:
        self.killed = True
        os.kill(self.child, signal.SIGKILL)
