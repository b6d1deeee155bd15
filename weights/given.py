"""What a command of the shell is given: a torch file, a converted checkpoint, or the folder of a run of training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from weights import fresh_optimizer, store, training_run
from weights.checkpoint import Checkpoint, load, restore
from weights.errors import Usage
from weights.files.config import read_config
from weights.files.other_formats import is_run
from weights.mapping.port import TREE
from weights.options import Reading, Resuming, Run

LIKE = (
    "Give --like with the converted checkpoint or torch file that the run began with, or for a model made in JAX --arch and a --config "
    "with its settings"
)


def checkpoint(file: Path, reading: Reading, run: Run) -> Checkpoint:
    """The checkpoint of a torch file without its optimizer, of what `convert` wrote, or of a run's state.

    Raises Usage for options that say what the file itself does, and for a run of which nothing says what model it is.
    """
    if is_run(file):
        return _began(file, reading, run, False, None).after(file, run.chosen, optimizer=False)
    require_no_run(file, run)
    return _stored(file, reading, False)


def exported(file: Path, reading: Reading, resuming: Resuming, run: Run, optimizer: bool, made_with: Path | None) -> Checkpoint:
    """The checkpoint that `export` writes: what `convert` wrote, or a run's state in the torch file that it began with.

    optimizer: whether the optimizer's state is that of the run. made_with: a JSON file with the run's optimizer, for a model that was made
    in JAX and for a file that has none.
    """
    if is_run(file):
        asked = (resuming.named or True) if optimizer else False
        return _began(file, reading, run, asked, made_with, **resuming.said).after(file, run.chosen, optimizer=optimizer)
    require_no_run(file, run)
    said = [*_without_port(reading), *resuming.given, *["--no-optimizer"] * (not optimizer), *["--made-with"] * (made_with is not None)]
    if said:
        raise Usage("what convert wrote already contains all that", f"Omit {', '.join(said)}", path=file)
    return restore(file, reading.own_port)


def _without_port(reading: Reading) -> list[str]:
    """The options that were used but for --port, which a converted checkpoint of one's own model needs."""
    return [option for option in reading.given if option != "--port"]


def require_no_run(file: Path, run: Run) -> None:
    """Raises Usage for options about a run where there is none."""
    if run.given:
        raise Usage("not the folder of a run of port_jax.training.fit", f"Omit {', '.join(run.given)}", path=file)


def _stored(file: Path, reading: Reading, optimizer: Any, **resuming: Any) -> Checkpoint:
    if store.form_of(file) is None:
        return load(file, optimizer=optimizer, **reading.said, **resuming)
    if said := _without_port(reading):
        raise Usage("a converted checkpoint already contains its settings", f"Omit {', '.join(said)}", path=file)
    return restore(file, reading.own_port)


def _began(file: Path, reading: Reading, run: Run, optimizer: Any, made_with: Path | None, **resuming: Any) -> Checkpoint:
    """The checkpoint that a run began with."""
    if run.like is not None:
        if is_run(run.like):
            raise Usage("--like is the folder of a run itself", LIKE, path=run.like)
        began = _stored(run.like, reading, optimizer, **resuming)
        return began if made_with is None else fresh_optimizer.made_with(began, read_config(made_with, None) or {})
    if reading.arch is not None and reading.arch != TREE:
        return _born(file, reading, run, made_with)
    raise Usage("a run of port_jax.training.fit has the numbers of a model, and not what model it is", LIKE, path=file)


def _born(file: Path, reading: Reading, run: Run, optimizer: Path | None) -> Checkpoint:
    """A model made in JAX, as if its torch reference had saved it. optimizer: a JSON file with the class's "name" and its arguments."""
    assert reading.arch is not None
    others = [option for option in reading.given if option not in ("--arch", "--config")]
    if reading.config is None or others:
        what = f"{', '.join(others)} is for a torch file" if others else "the settings of the model are not given"
        raise Usage(what, LIKE, path=file)
    params = training_run.read(file, run.chosen).state.params
    made = None if optimizer is None else read_config(optimizer, None)
    return Checkpoint.of(reading.arch, params, read_config(reading.config, None) or {}, optimizer=made)


__all__ = ["LIKE", "checkpoint", "exported", "require_no_run"]
