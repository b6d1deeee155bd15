"""One case: a file that was changed, what is done with it, and whether it ends as it has to.

It has to end in a result, or in a `ConversionError` with a message of one line, within a second of processor time and 300 MiB of memory,
with nothing written but whole outputs. Where the change keeps the meaning, the numbers are the same to the bit.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import resource
import shutil
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import weights
import weights.checkpoint
import weights.files.folder
import weights.proof.diff
import weights.views.embed_formats
import weights.views.inspect  # what reads and what the commands import: here, and not in each process again
from parity_tests.fuzz.checks import (
    Fault,
    require,
    require_safetensors_agrees,
    require_same,
    require_sums,
    require_torch_agrees,
    wrong_message,
)
from weights import cli
from weights.contents import Contents
from weights.errors import ConversionError
from weights.files.reader import read
from weights.files.tensors import Tensor, same_bits
from weights.mapping.entries import flatten, inverse

SECONDS, MEMORY = 1.0, 300
"""Of processor time, and MiB beyond the start."""
READ, UNFORESEEN = "read", "unforeseen"
CODES = {0: READ, 2: "Usage", 3: "Unreadable", 4: "Refused", 5: "Unmatched", 6: "NotWritten"}
OPTIONS = {"arch": "--arch", "config": "--config", "manifolds": "--manifold", "section": "--section", "prefix": "--prefix"}
"""What the command line is told of `Case.given`."""


@dataclasses.dataclass
class Case:
    """A changed file. `what` says how it was changed."""

    path: Path
    what: str
    given: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """What `weights.load` is told beside the path."""
    converted: bool = False
    """Whether it is for `weights.restore` rather than for `weights.load`."""
    same: Mapping[str, np.ndarray] | None = None
    """The parameters by torch's keys that the file has if it is read."""
    perhaps: frozenset[str] = frozenset()
    """Keys that may be parameters, too: curvatures of which the change says that they are trained."""
    must: bool = False
    """Whether the change keeps the meaning, so that the file has to be read."""
    twice: bool = False
    """Whether a key of its JSON is there twice, so that it is not to be read."""
    sums: bool = False
    """Whether the checksums of its members tell whether it is whole."""
    torch: bool = False
    """Whether torch may read it, too, and then has to find the same."""


class Outcome(NamedTuple):
    """What became of a case: "read", the kind of the error, or "unforeseen"; what is wrong with that, or ""."""

    result: str
    fault: str
    seconds: float
    memory: int
    message: str


def tried(case: Case, random: np.random.Generator, folder: Path) -> Outcome:
    """Reads a case whose files are in `folder`, and goes on with what was read.

    A case beyond the limits is tried again: the first time compiles, and a loaded machine counts more time.
    """
    further = FURTHER[int(random.integers(0, len(FURTHER)))] if random.random() < 0.25 else ""
    before, state = _files(folder), random.bit_generator.state
    outcome = _once(case, further, random, folder)
    for _ in range(2):
        if outcome.seconds <= SECONDS and outcome.memory <= MEMORY:
            break
        random.bit_generator.state = state
        outcome = _once(case, further, random, folder)
    fault = outcome.fault
    if outcome.seconds > SECONDS or outcome.memory > MEMORY:
        fault = fault or f"takes {outcome.seconds:.1f} s and {outcome.memory} MiB"
    if left := _files(folder) ^ before:
        fault = fault or f"leaves or takes away {sorted(left)}"
    return outcome._replace(fault=fault)


def _once(case: Case, further: str, random: np.random.Generator, folder: Path) -> Outcome:
    message, fault = "", ""
    with _measured() as cost:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                result = _done(case, further, random, folder)
        except ConversionError as error:
            result, message, fault = type(error).__name__, str(error), wrong_message(error, folder)
        except Fault as error:
            result, fault = READ, f"{further or 'read'}: {error}"
        except Exception as error:
            result, fault = UNFORESEEN, f"{further or 'read'}: {type(error).__name__}: {str(error)[:300]}"
            message = traceback.format_exc()
    if case.must and result != READ and not fault:
        fault = f"{further or 'read'}: refused, although it means what the file before did: {message}"
    shutil.rmtree(folder / "out", ignore_errors=True)
    return Outcome(result, fault, *cost, message)


def _done(case: Case, further: str, random: np.random.Generator, folder: Path) -> str:
    out = folder / "out"
    out.mkdir()
    if (
        further == SHELL
        and case.given.keys() <= {"optimizer", *OPTIONS}
        and case.given.get("optimizer") in (None, False)
        and isinstance(case.given.get("config", ""), (str, Path))
    ):
        return _command(case, random, out)
    found = weights.restore(case.path) if case.converted else weights.load(case.path, **case.given)
    if case.same is not None:
        there = {key: array for key, array in arrays(found).items() if key in case.same or key not in case.perhaps}
        require_same(there, case.same, "the result")
    require(not case.twice, "a key is there twice, and one of the two is lost")
    if case.sums:
        require_sums(case.path)
    if case.path.suffix == ".safetensors" and not case.converted:
        require_safetensors_agrees(case.path)
    if case.torch:
        require_torch_agrees(case.path)
    if further in AFTER:
        AFTER[further](found, out)
    return READ


def arrays(found: Contents) -> dict[str, np.ndarray]:
    """The parameters as torch has them, by its keys."""
    flat = flatten(found.variables)
    own = [entry for entry in found.entries if entry.role == "parameter" and entry.path is not None]
    return {entry.key: np.asarray(inverse(entry, np.asarray(flat[str(entry.path)]), "")) for entry in own}


def _saved(suffix: str) -> Callable[[Any, Path], None]:
    def save(found: Any, out: Path) -> None:
        found.save(out / f"c{suffix}")
        again = weights.restore(out / f"c{suffix}")
        require_same(flatten(again.variables), flatten(found.variables), suffix)
        one, other = (dict(enumerate(jax.tree.leaves(contents.opt_state))) for contents in (again, found))
        require_same(one, other, f"the optimizer in {suffix}")

    return save


def _exported(found: Any, out: Path) -> None:
    found.export(out / "back.pth")
    back = dict(_named(read(out / "back.pth").root))
    for key, value in arrays(found).items():
        there = [tensor.array() for name, tensor in back.items() if name == key or name.endswith(f".{key}")]
        require(not there or any(same_bits(array, value) for array in there), f"other numbers in {key}")


def _named(root: object, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    for name, value in root.items() if isinstance(root, dict) and depth < 20 else ():
        if isinstance(value, Tensor):
            yield f"{prefix}{name}", value
        else:
            yield from _named(value, f"{prefix}{name}.", depth + 1)


AFTER: dict[str, Callable[[Any, Path], None]] = {
    "save .npz": _saved(".npz"),
    "save .safetensors": _saved(".safetensors"),
    "export": _exported,
}
SHELL = "the command line"
FURTHER = (*AFTER, SHELL)


def _command(case: Case, random: np.random.Generator, out: Path) -> str:
    """The same from the shell: a code and a line, no control characters, and an output if and only if it succeeds."""
    names = ["export", "diff"] if case.converted else ["inspect", "convert", "diff"]
    name = str(random.choice(names if case.must else [*names, "embed"]))
    said: list[str] = []
    for option, value in case.given.items() if name != "diff" else ():
        if option == "optimizer":
            said += ["--no-optimizer"] if name == "convert" else []
            continue
        texts = [f"{key}=PoincareBall:{float(ball.c)}" for key, ball in value.items()] if option == "manifolds" else [str(value)]
        said += [word for text in texts for word in (OPTIONS[option], text)]
    more = {
        "inspect": [*said, *(["--json"] if random.random() < 0.3 else [])],
        "convert": [*said, "--out", str(out / "c.npz")],
        "export": [str(out / "back.pth")],
        "embed": [*said, "--key", "emb", "--out", str(out / "e.csv")],
        "diff": [str(case.path)],
    }
    code, text, err = command(name, str(case.path), *more[name])
    require(code in CODES, f"{name} exits with {code}: {err or text[-300:]}")
    require(err.startswith("error: ") if code else not err, f"{name} exits with {code} and says {err!r:.300}")
    require(code == 0 or not case.must, f"{name}: refused, although it means what the file before did: {err}")
    require((text + err).replace("\n", "").isprintable() and err.count("\n") <= 1, f"{name} prints {text + err!r:.500}")
    wrote = [path.name for path in out.iterdir()]
    require(len(wrote) == (code == 0 and name not in ("inspect", "diff")), f"{name} exits with {code} and leaves {wrote}")
    if wrote and name == "convert":
        weights.restore(out / wrote[0])
    return CODES[code]


def command(*argv: str) -> tuple[int, str, str]:
    """hyperport in this process: exit code, stdout, stderr."""
    before, out, err = sys.argv, io.StringIO(), io.StringIO()
    sys.argv = ["hyperport", *argv]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            cli.main()
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    finally:
        sys.argv = before
    return code, out.getvalue(), err.getvalue()


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@contextlib.contextmanager
def _measured() -> Iterator[list]:
    """A list that gets the seconds of processor time of the block, and the MiB of its memory beyond the start."""
    cost: list = []
    start, before = time.process_time(), _resident(reset=True)
    yield cost
    cost += [time.process_time() - start, max(_resident() - before, 0) >> 10]


def _resident(reset: bool = False) -> int:
    """The KiB that the process has had at most since the last reset."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
    except (OSError, IndexError):  # not this system: since the start of the process
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
