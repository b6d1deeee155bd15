"""The states of a run on disk, written by Orbax while training continues, and read again with or without the program that wrote them.

`folder/checkpoints/<step>` is one state with everything that the run knew when it was there: history, best value, and the step that had it.
A checkpoint appears by one rename, complete. The best state is the checkpoint of the step that the newest one names, so the two cannot
disagree, whenever a run is killed: a checkpoint is deleted only after a newer one no longer needs it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from port_jax.arguments import PATH, either, one_of, optional, takes, whole
from port_jax.training.history import History
from port_jax.training.state import STATE, TrainingError, TrainState, is_key, named
from port_jax.training.writer import Writer

__all__ = ["Checkpoints", "Progress", "Saved", "restore"]

KEPT = 2
"""The newest checkpoints that are kept, each with those that it names."""
FILE = "progress.json"
Leaves = Mapping[str, Sequence[Any]]
"""The name of an array -> its type, its shape, and whether its type is weak, as that of a Python number is."""


@dataclasses.dataclass
class Progress:
    """The part of a run that is not in its `TrainState`."""

    history: History
    best: float | None = None
    """The best value of the monitored number so far, and its step."""
    best_step: int = 0
    waited: int = 0
    """Evaluations since then."""
    before: tuple[float | None, int, int] | None = None
    """`judged` before an evaluation that took place only because the run ended there."""
    monitor: str | None = None
    mode: str = "max"

    @property
    def judged(self) -> tuple[float | None, int, int]:
        """What an evaluation changes: `best`, `best_step` and `waited`."""
        return self.best, self.best_step, self.waited

    def needs(self) -> set[int]:
        """The steps with the best states, after and before an evaluation at the run's end."""
        found = {self.best_step} if self.best is not None else set()
        return found | ({self.before[1]} if self.before is not None and self.before[0] is not None else set())


class Saved(NamedTuple):
    """What `restore` read."""

    state: TrainState
    history: History
    """The record of the run up to that step."""
    best_step: int | None
    """The best step up to then, if a number was monitored."""


@takes(folder=PATH, which=either(one_of("latest", "best"), whole(0)), like=optional(STATE))
def restore(folder: str | Path, which: str | int = "latest", like: TrainState | None = None) -> Saved:
    """A state of a run of `fit` from its folder: "latest", "best", or that of a step which is kept.

    Without `like`, the program that trained is not needed: parameters and collections are nested dicts and lists of numpy arrays with
    their saved types, and so is the optimizer's state, whose named tuples are dicts by the names of their fields. With `like`, a state
    of the same model and optimizer, the result has its structure, and the arrays are on its devices.

    A run that is still training may be read. Errors: ValueError for another `which`; TrainingError if nothing is saved in the folder,
    nothing was monitored, the step is not kept, the checkpoint is damaged, or `like` differs from what was saved.
    """
    with Checkpoints(folder, write=False) as checkpoints:
        found = checkpoints.progress()
        if found is None:
            raise TrainingError(f"{folder} contains no saved state; give the folder that was passed to fit")
        if which == "best" and found.best is None:
            raise TrainingError(f"{folder} has no best state, as its run monitored nothing; give which='latest'")
        step = {"latest": None, "best": found.best_step}.get(str(which), which)
        saved = checkpoints.restore(None if like is None else jax.tree.map(jnp.asarray, like), None if step is None else int(step))
        assert saved is not None
        state, progress = saved
        return Saved(state, progress.history, None if progress.best is None else progress.best_step)


class Checkpoints:
    """The checkpoints in a folder, as a context that ends with everything on disk. With `write=False` nothing in the folder changes."""

    def __init__(self, folder: str | Path, write: bool = True):
        self.folder = Path(folder).absolute()
        self.root = self.folder / "checkpoints"
        with self._writing("cannot be used for checkpoints"):
            old = not self.root.is_dir() and any((self.folder / name).is_dir() for name in ("latest", "best"))
        if old:
            raise TrainingError(
                f"{self.folder} contains a run of version 0.1.0, whose best and latest states may disagree; finish it with that version, "
                "or give another folder"
            )
        self._needs: dict[int, set[int]] = {}
        writing = {"create": True, "preservation_policy": _Preserved(self._needs)}
        options: dict[str, Any] = writing if write else {"create": False}
        self.ocp = ocp = _orbax()
        handlers = {"state": ocp.StandardCheckpointHandler(), "progress": ocp.JsonCheckpointHandler(FILE)}
        with self._writing("cannot be used for checkpoints"):
            self.manager = ocp.CheckpointManager(self.root, options=ocp.CheckpointManagerOptions(**options), item_handlers=handlers)
        logging.getLogger("absl").addFilter(_is_news)
        for step in self.manager.all_steps()[-KEPT:] if write else ():
            with contextlib.suppress(TrainingError):  # a damaged one is named by whoever wants to read it
                self._needs[step] = self._progress(step)[0].needs()
        with self._writing("cannot be used for checkpoints"):
            self.writer = Writer(self.folder, self.root) if write and jax.process_index() == 0 else None

    def save(self, state: TrainState, progress: Progress) -> None:
        """Begin to write a state; its arrays are copied to the host before this returns. If its step is there, only the progress is new."""
        step = int(state.step)
        content = {**dataclasses.asdict(progress), "leaves": _described(state)}
        with self._writing(f"cannot keep the state of step {step}"):
            self._needs[step] = progress.needs()
            if step not in self.manager.all_steps():
                items = {"state": self.ocp.args.StandardSave(_plain(state)), "progress": self.ocp.args.JsonSave(content)}
                if self.writer is not None:
                    self.writer.begin(step)
                self.manager.save(step, args=self.ocp.args.Composite(**items))
            elif jax.process_index() == 0:
                self.manager.wait_until_finished()
                path = self.root / str(step) / "progress" / FILE
                part = path.with_suffix(".part")
                part.write_text(json.dumps(content))
                os.replace(part, path)

    def progress(self) -> Progress | None:
        """That of the latest state, or None if nothing is saved."""
        step = self.manager.latest_step()
        return None if step is None else self._progress(step)[0]

    def restore(self, like: TrainState | None = None, step: int | None = None) -> tuple[TrainState, Progress] | None:
        """The state of a step (by default the latest) and its progress, or None if nothing is saved. `like`: as above, of JAX's arrays."""
        step = self.manager.latest_step() if step is None else step
        if step is None:
            return None
        if step not in self.manager.all_steps():
            kept = ", ".join(map(str, self.manager.all_steps()))
            raise TrainingError(f"{self.folder} has no state of step {step}, only of {kept}; restore(folder) reads the latest one")
        progress, leaves = self._progress(step)
        with self._reading(step):
            if like is None:
                saved = self.manager.item_metadata(step)["state"]
                if saved is None:
                    raise ValueError("the description of the state is missing")
                # Views of one number: Orbax asks for arrays where it shall give some of numpy.
                abstract = jax.tree.map(lambda x: np.broadcast_to(np.zeros((), x.dtype), x.shape), saved.tree)
                return _by_name(self._arrays(step, abstract), leaves), progress
            self._compare(leaves, _described(like))
            abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), _plain(like))
            weak = jax.tree.unflatten(jax.tree.structure(like), [leaves[name][2] for name in named(like)])
            return jax.tree.map(_typed, like, self._arrays(step, abstract), weak), progress

    def place(self) -> str:
        """Where the last good state lies, as the end of a message."""
        with contextlib.suppress(TrainingError):
            self.wait()
        steps = self.manager.all_steps(read=True)
        return f"the last good state, of step {max(steps)}, is in {self.root / str(max(steps))}" if steps else "no state is saved"

    def wait(self) -> None:
        """Wait until everything is on disk."""
        with self._writing("cannot keep the latest state"):
            self.manager.wait_until_finished()

    def close(self) -> None:
        """`wait`, then stop saving."""
        try:
            with self._writing("cannot keep the latest state"):
                self.manager.close()
        finally:
            logging.getLogger("absl").removeFilter(_is_news)
            if self.writer is not None:
                self.writer.close()

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind: Any, *rest: Any) -> None:
        # An error that is on its way says more than that of a save in the background, which follows from it or comes again.
        with contextlib.suppress(TrainingError) if kind else contextlib.nullcontext():
            self.close()

    def _progress(self, step: int) -> tuple[Progress, Leaves]:
        with self._reading(step):
            content = self.manager.restore(step, args=self.ocp.args.Composite(progress=self.ocp.args.JsonRestore()))["progress"]
            leaves = content.pop("leaves")
            return Progress(**{**content, "history": History(**content["history"])}), leaves

    def _arrays(self, step: int, abstract: Any) -> Any:
        return self.manager.restore(step, args=self.ocp.args.Composite(state=self.ocp.args.StandardRestore(abstract)))["state"]

    def _compare(self, has: Leaves, wants: Leaves) -> None:
        """Raise TrainingError if the folder contains the state of another model or optimizer, or one of other types."""
        for name in [*wants, *has]:
            there, here = (f"{found[name][0]}{found[name][1]}" if name in found else "missing" for found in (has, wants))
            if there != here:
                raise TrainingError(
                    f"{self.folder} contains another run: {name} is {there} there, {here} here; give another folder, or the model, "
                    f"optimizer and types with which it was made (JAX_ENABLE_X64 is {jax.config.read('jax_enable_x64')} here)"
                )

    @contextlib.contextmanager
    def _writing(self, what: str) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, RuntimeError) as error:  # how Orbax and tensorstore say that a disk is full
            if isinstance(error, TrainingError):
                raise
            raise TrainingError(
                f"{self.folder} {what}: {_line(error)}; check its disk, or give another folder; what was saved there before is still there"
            ) from None

    @contextlib.contextmanager
    def _reading(self, step: int) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, KeyError, TypeError) as error:
            *others, latest = self.manager.all_steps()
            if step != latest:
                remedy = "restore(folder) reads the latest state, with which a run in another folder can begin"
            else:
                remedy = f"delete it to go on from step {others[-1]}" if others else "give another folder"
            raise TrainingError(f"{self.root / str(step)} is damaged ({_line(error)}); {remedy}") from None


def _orbax() -> Any:
    """Orbax, which takes longer to import than all the rest but JAX; a run without a folder does without it."""
    import orbax.checkpoint as ocp

    return ocp


class _Preserved:
    """Orbax's PreservationPolicy: keeps the newest checkpoints, and those that they need."""

    def __init__(self, needs: Mapping[int, set[int]]):
        self.needs = needs

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Of each checkpoint, oldest first."""
        newest = {info.step for info in checkpoints[-KEPT:]}
        kept = newest.union(*(self.needs.get(step, ()) for step in newest))
        return [info.step in kept for info in checkpoints]


def _plain(state: TrainState) -> TrainState:
    """The state as Orbax takes it: keys as numbers, and nothing for an empty array, which it refuses."""
    return jax.tree.map(lambda x: (jax.random.key_data(x) if is_key(x) else x) if x.size else None, state)


def _described(state: TrainState) -> dict[str, list[Any]]:
    """What `_plain` and Orbax lose, and what has to be the same for a run to go on."""
    return {
        name: [f"key<{jax.random.key_impl(x)}>", list(x.shape), False] if is_key(x) else [str(x.dtype), list(x.shape), x.weak_type]
        for name, x in named(state).items()
    }


def _typed(like: Any, found: Any, weak: bool) -> Any:
    """The array that `_plain` made into what was found. A weak type decides in which type a step computes, and so its bits."""
    if not like.size:
        return like
    if is_key(like):
        return jax.random.wrap_key_data(found, impl=jax.random.key_impl(like))
    return jnp.full(found.shape, found.dtype.type(0).item()).at[...].set(found) if weak else found


def _by_name(found: Any, leaves: Leaves) -> TrainState:
    """The same without an array that is like it, by the description of its name."""

    def fill(path: Any, x: Any) -> Any:
        dtype, shape, _ = leaves.get(jax.tree_util.keystr(path, simple=True, separator="/"), (None, None, None))
        if dtype is None:
            return x
        if dtype.startswith("key<"):
            return jax.random.wrap_key_data(x, impl=dtype[4:-1])
        return np.zeros(shape, jnp.dtype(dtype)) if x is None else x

    return TrainState(**jax.tree_util.tree_map_with_path(fill, found, is_leaf=lambda x: x is None))


def _line(error: BaseException) -> str:
    """What an error of another library says, on one line, without tensorstore's lists of files and places in its source."""
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return first.partition(" [")[0].rpartition('": ')[2][-160:]


def _is_news(record: logging.LogRecord) -> bool:
    """Not a traceback that Orbax logs of an error which it raises, too."""
    return not (record.exc_info and "orbax" in record.pathname)
