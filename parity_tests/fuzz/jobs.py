"""What is stopped in the middle and run on full disks: convert, export, embed, plot and fit, with what each leaves before and after."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

import weights
import weights.views.disk_picture  # which plot imports: here, and not in each process again
from parity_tests.fuzz.trial import command
from parity_tests.training.problem import count, counting
from port_jax.manifolds import Euclidean
from port_jax.training import TrainingError, fit, restore
from weights.files.outputs import entry
from weights.files.reader import read
from weights.files.tensors import from_array
from weights.files.writer import write

ROWS = 1_000_000
"""Of the table: so many that writing them takes a moment."""
STEPS, EVERY, SIZE = 40, 5, 20_000
"""Of the runs of fit: steps, and those between two checkpoints; numbers in the state."""
OLD, NEW, NONE = "old", "new", "none"


@dataclasses.dataclass(frozen=True)
class Job:
    """Work in a folder: `first` leaves the old output, `run` makes the new one of it, as often as it is called.

    run: gives the exit code and the message. state: says which output is there, OLD, NEW, NONE, or a word of its own for one in between;
    raises an error if it is half an output. leaves: the names that may then be in the folder.
    """

    name: str
    first: Callable[[Path], None]
    run: Callable[[Path], tuple[int, str]]
    state: Callable[[Path], str]
    leaves: frozenset[str]
    between: bool = False
    """Whether states between the old and the new one are whole."""


def table(rows: int, scale: float) -> np.ndarray:
    """Points of a disk."""
    return (scale * np.linspace(-0.5, 0.5, 2 * rows, dtype=np.float32)).reshape(rows, 2)


def inputs(folder: Path, rows: int = ROWS) -> None:
    """Writes the torch files of the old and of the new output."""
    for name, scale in ((OLD, 1.0), (NEW, 0.5)):
        write(folder / f"{name}.pth", {"w": from_array(table(rows, scale))})


def _shell(*argv: str) -> tuple[int, str]:
    code, _, err = command(*argv)
    return code, err


def _said(which: np.ndarray) -> str:
    """Which of the two tables this is."""
    for name, scale in ((OLD, 1.0), (NEW, 0.5)):
        if np.array_equal(which, table(len(which), scale)) and which.dtype == np.float32:
            return name
    raise AssertionError(f"neither the old nor the new numbers: {which.dtype}{which.shape} {which[:2]}")


def _convert(suffix: str) -> Job:
    def run(which: str, folder: Path) -> tuple[int, str]:
        out = f"{folder}/out{suffix}"
        return _shell("convert", f"{folder}/{which}.pth", "--arch", "tree", "--manifold", "w=Euclidean", "--out", out, "--force")

    def state(folder: Path) -> str:
        path = folder / f"out{suffix}"
        if not (path if suffix else entry(path, "torch.json")).exists():
            return NONE
        found = weights.restore(path)
        said = _said(np.asarray(found.variables["params"]["w"]))
        assert found.report["sha256"].keys() == {f"{said}.pth"}, "the report is of another file"
        return said

    return Job(
        f"convert to {suffix or 'a folder'}", partial(_succeeds, partial(run, OLD)), partial(run, NEW), state, frozenset({f"out{suffix}"})
    )


def _succeeds(run: Callable[[Path], tuple[int, str]], folder: Path) -> None:
    code, err = run(folder)
    assert code == 0, err


def _export() -> Job:
    def first(folder: Path) -> None:
        for which in (OLD, NEW):
            weights.load(folder / f"{which}.pth", arch="tree", manifolds={"w": Euclidean()}).save(folder / f"{which}.npz", overwrite=True)
        _succeeds(partial(run, OLD), folder)

    def run(which: str, folder: Path) -> tuple[int, str]:
        return _shell("export", f"{folder}/{which}.npz", f"{folder}/out.pth", "--force")

    def state(folder: Path) -> str:
        return _said(read(folder / "out.pth").root["w"].array()) if (folder / "out.pth").exists() else NONE  # pyright: ignore[reportIndexIssue]

    return Job("export", first, partial(run, NEW), state, frozenset({"out.pth", "old.npz", "new.npz"}))


def value(number: float) -> float:
    """What the runs monitor: it goes up and down."""
    return 7 * number % 13


def _fit_to(steps: int, folder: Path) -> tuple[int, str]:
    def evaluate(params: Any) -> dict[str, float]:
        return {"value": value(float(params["w"][0]))}

    try:
        done = fit(
            count,
            counting(w=jnp.zeros(SIZE)),
            steps=steps,
            batch=jnp.zeros(1),
            chunk=EVERY,
            every=EVERY,
            evaluate=evaluate,
            monitor="value",
            folder=folder / "out",
            progress=False,
        )
    except TrainingError as error:
        return 6, f"error: {error}\n"
    assert float(done.state.params["w"][0]) == steps
    return 0, ""


def _fit_state(folder: Path) -> str:
    """The latest and the best state are those of the steps that they say, and the history is that of an undisturbed run."""
    try:
        latest = restore(folder / "out")
    except TrainingError as error:
        if "contains no saved state" in str(error):
            return NONE
        raise
    step = int(latest.state.step)
    assert (np.asarray(latest.state.params["w"]) == step).all(), "the latest state is not that of its step"
    made = [{"step": n, "value": value(n)} for n in range(EVERY, step + 1, EVERY)]
    assert latest.history.evaluations == made, f"{latest.history.evaluations} at step {step}"
    if made:
        best = restore(folder / "out", "best")
        assert (np.asarray(best.state.params["w"]) == latest.best_step).all(), "the best state is not that of its step"
        assert latest.best_step == max(made, key=lambda row: row["value"])["step"]
    return {0: NONE, STEPS // 2: OLD, STEPS: NEW}.get(step, f"step {step}")


def fitting() -> Job:
    """A run of 40 steps, of which 20 are made before."""
    return Job(
        "fit", partial(_succeeds, partial(_fit_to, STEPS // 2)), partial(_fit_to, STEPS), _fit_state, frozenset({"out"}), between=True
    )


def _view(name: str, *argv: str, leaves: tuple[str, ...]) -> Job:
    """embed or plot. Which output is there is told by its bytes, which `first` and a run elsewhere have made before."""

    def run(which: str, folder: Path) -> tuple[int, str]:
        given = ("--arch", "tree", "--manifold", "w=PoincareBall:0.7", "--key", "w")
        return _shell(name, f"{folder}/{which}.pth", *given, *argv, "--out", f"{folder}/{leaves[0]}", "--force")

    def state(folder: Path) -> str:
        there = [folder / leaf for leaf in leaves if (folder / leaf).exists()]
        assert len(there) in (0, len(leaves)), f"only {there} of a pair"
        return "there" if there else NONE

    words = " ".join(word for word in argv if not word.startswith("--"))
    return Job(f"{name} {words or leaves[0]}", partial(_succeeds, partial(run, OLD)), partial(run, NEW), state, frozenset(leaves))


CONVERSIONS = (_convert(""), _convert(".safetensors"), _convert(".npz"))
KILLED = (*CONVERSIONS, _export(), fitting())
ON_DISK = (
    *KILLED,
    _view("embed", "--format", "csv", leaves=("out.csv",)),
    _view("embed", "--format", "npy", leaves=("out.npy", "out.npy.names.txt")),
    _view("embed", "--format", "word2vec", leaves=("out.txt",)),
    _view("embed", "--format", "tensorboard", leaves=("out",)),
    _view("plot", leaves=("out.png",)),
    _view("plot", leaves=("out.svg",)),
)
