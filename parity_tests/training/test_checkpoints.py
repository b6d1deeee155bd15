"""What a run leaves on disk: whole and of one mind after a kill at any point, read back with and without its program, refused by name."""

from __future__ import annotations

import json
import os
import shutil
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from parity_tests import draws
from parity_tests.training.problem import count, counting, same, same_run
from port_jax.manifolds import PoincareBall
from port_jax.training import TrainingError, TrainState, fit, restore, train_state
from port_jax.training.checkpoints import Checkpoints, Progress
from port_jax.training.history import History

VALUES = [0.0, 0.5, 0.4, 0.3, 0.7, 0.6, 0.2, 0.1]
"""What each step is worth: the best is further back than the two latest, and then it is a new one."""


def valued(params: Any) -> dict[str, float]:
    return {"value": VALUES[int(params["w"][0])]}


def counted(folder: Path | None, steps: int, **settings: Any) -> Any:
    settings = {"every": 1, "chunk": 1, "evaluate": valued, "monitor": "value", **settings}
    return fit(count, counting(), steps=steps, batch=0, folder=folder, **settings)


def steps_in(folder: Path) -> list[int]:
    return sorted(int(path.name) for path in (folder / "checkpoints").iterdir() if path.name.isdigit())


def truth(folder: Path) -> str:
    """What stands in a folder: names, and what the progress of each checkpoint says that has one."""
    found = {path.name: path / "progress" / "progress.json" for path in sorted((folder / "checkpoints").iterdir())}
    return repr({name: path.read_text() if path.exists() else None for name, path in found.items()})


def snapshots(monkeypatch: pytest.MonkeyPatch, folder: Path, copies: Path) -> None:
    """From now on, copies the folder before any thread changes a name in it, if it is new: what a kill there would leave."""
    lock, busy, seen = threading.RLock(), [], set()

    def copy(source: str, target: str) -> None:
        with suppress(FileNotFoundError):  # tensorstore's own temporary files come and go in its threads
            shutil.copyfile(source, target)

    def copied(change: Any) -> Any:
        def call(*args: Any, **named: Any) -> Any:
            with lock:
                if not busy and (now := truth(folder)) not in seen:
                    seen.add(now)
                    busy.append(True)
                    shutil.copytree(folder, copies / str(len(seen)), copy_function=copy)
                    busy.clear()
                return change(*args, **named)

        return call

    for name in ("rename", "replace", "unlink", "remove", "rmdir"):
        monkeypatch.setattr(os, name, copied(getattr(os, name)))


def test_a_kill_between_any_two_writes_leaves_one_truth(monkeypatch, tmp_path):
    """Latest, best and history agree in whatever a kill leaves, a half-deleted checkpoint included, and the run goes on from there."""
    folder, copies = tmp_path / "run", tmp_path / "copies"
    counted(folder, 1)
    copies.mkdir()
    with monkeypatch.context() as patch:
        snapshots(patch, folder, copies)
        counted(folder, 5)
    different = sorted(copies.iterdir(), key=lambda copy: int(copy.name))
    half = [copy for copy in different if any(not (copy / f"checkpoints/{n}/progress/progress.json").exists() for n in steps_in(copy))]
    assert len(half) >= 2  # killed while a checkpoint was deleted
    seen = set()
    for copy in different:
        latest, best = restore(copy), restore(copy, "best")
        step = int(latest.state.step)
        seen.add((step, latest.best_step))
        assert [row["step"] for row in latest.history.evaluations] == [*range(1, step + 1)]
        assert len(latest.history.steps["loss"]) == step
        assert latest.best_step == best.best_step == best.state.step == int(np.argmax(VALUES[: step + 1]))
        assert best.state.params["w"][0] == best.state.step
        assert latest.state.params["w"][0] == step
    assert {(1, 1), (2, 1), (3, 1), (4, 4)} <= seen
    for copy in (different[3], half[-1]):
        (copy / "checkpoints" / "9.orbax-checkpoint-tmp").mkdir()  # left by a kill at a step that the run does not come to again
        (copy / ".writer").write_text("9\n")
        same_run(counted(copy, 7), counted(None, 7))
        assert steps_in(copy) == [4, 6, 7]
        assert not list((copy / "checkpoints").glob("*tmp*"))


def test_what_is_kept(tmp_path):
    """The two latest states and those that they call the best."""
    kept = []
    for steps in range(1, 8):
        counted(tmp_path, steps)
        kept.append(steps_in(tmp_path))
    assert kept == [[0, 1], [1, 2], [1, 2, 3], [1, 3, 4], [4, 5], [4, 5, 6], [4, 6, 7]]
    for step in kept[-1]:
        assert restore(tmp_path, step).state.params["w"][0] == step
    shutil.rmtree(tmp_path / "checkpoints" / "7")
    assert restore(tmp_path).best_step == restore(tmp_path, "best").state.step == 4
    found = json.loads((tmp_path / "checkpoints" / "6" / "progress" / "progress.json").read_text())
    assert (found["best"], found["best_step"], found["waited"], found["leaves"]["params/w"]) == (0.7, 4, 2, ["float64", [2], False])


def trained() -> TrainState:
    """A state of all kinds of arrays and containers."""
    tx = optax.chain(optax.clip(1.0), optax.adam(0.1), optax.add_noise(0.1, 0.5, draws.key(5)))
    rng = draws.rng(0)
    params = {
        "layers_0": {"kernel": jnp.asarray(rng.normal(size=(2, 3))), "half": jnp.asarray(rng.normal(size=4), jnp.bfloat16)},
        "list": [jnp.asarray(1.5), (jnp.asarray(rng.normal(size=2) + 1j),)],
        "none": None,
        "empty": jnp.zeros((0, 3), jnp.float32),
    }
    collections = {"batch_stats": {"mean": jnp.asarray(rng.normal(size=3)), "none": jnp.zeros(0)}, "ball": PoincareBall(jnp.asarray(0.7))}
    state = train_state(params, tx, draws.key(7, impl="rbg"), collections=collections)
    return state._replace(step=jnp.asarray(12, jnp.int32))


def save(folder: Path, state: TrainState) -> None:
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(state, Progress(History({"loss": [0.1, float("inf")]}, [{"step": 12, "nan": float("nan")}], first=10)))


def test_read_with_and_without_the_program(tmp_path):
    """Every array to the bit with its type, empty ones and keys included; as nested dicts and lists, or as the state that was saved."""
    state = trained()
    save(tmp_path, state)
    read, back = restore(tmp_path), restore(tmp_path, like=trained())
    same(back.state, state)
    assert jax.tree.structure(back.state) == jax.tree.structure(state)
    assert all(isinstance(x, jax.Array) for x in jax.tree.leaves(back.state))
    assert read.history.steps == {"loss": [0.1, float("inf")]}
    assert read.history.first == 10
    assert read.best_step is None
    assert int(read.state.step) == 12
    saved = state.params
    assert type(read.state.params) is dict
    assert read.state.params["none"] is None
    assert isinstance(read.state.params["layers_0"]["half"], np.ndarray)
    same(read.state.params["layers_0"], saved["layers_0"])
    same(read.state.params["list"], [saved["list"][0], [saved["list"][1][0]]])
    same(read.state.params["empty"], np.zeros((0, 3), np.float32))
    same(read.state.opt_state[1][0]["mu"]["layers_0"], state.opt_state[1][0].mu["layers_0"])
    same(read.state.key, state.key)
    same(read.state.collections["batch_stats"], dict(state.collections["batch_stats"]))


def test_empty_arrays_and_keys_are_resumed(tmp_path):
    """Orbax refuses an array without elements, and a run that had one failed at its first evaluation."""

    def state() -> TrainState:
        return counting(w=jnp.zeros(2), empty=jnp.zeros((0, 3), jnp.float32))._replace(opt_state={"noise": draws.key(3)})

    for steps in (2, 4):
        done = fit(count, state(), steps=steps, batch=0, folder=tmp_path)
    same(done.state, fit(count, state(), steps=4, batch=0).state)


def test_weak_types_are_resumed(tmp_path):
    """A number of Python computes in the type of its partner: as an array of float64, it would change the type of the other one."""

    def halve(state: TrainState, batch: Any) -> Any:
        params = {**state.params, "w": state.params["w"] * state.params["rate"]}
        assert params["w"].dtype == jnp.bfloat16
        return state._replace(params=params, step=state.step + 1), {"loss": jnp.zeros(())}

    for steps in (2, 4, 6):
        done = fit(halve, counting(w=jnp.ones(2, jnp.bfloat16), rate=0.5), steps=steps, batch=0, folder=tmp_path)
    assert done.state.params["rate"].weak_type
    same(done.state.params["w"], jnp.full(2, 2.0**-6, jnp.bfloat16))


def other(**changed: Any) -> TrainState:
    return trained()._replace(**changed)


@pytest.mark.parametrize(
    ("like", "says"),
    [
        (lambda: other(key=draws.key(7)), "key is key<rbg>[] there, key<threefry2x32>[] here"),
        (lambda: other(step=jnp.asarray(12, jnp.int64)), "step is int32[] there, int64[] here"),
        (lambda: other(params={**trained().params, "empty": jnp.zeros((0, 4), jnp.float32)}), "float32[0, 3] there, float32[0, 4] here"),
        (lambda: other(params={**trained().params, "more": jnp.zeros(1)}), "params/more is missing there, float64[1] here"),
        (lambda: other(collections={}), "collections/ball/c is float64[] there, missing here"),
    ],
)
def test_another_model_or_type_is_refused_by_the_name_of_the_array(like, says, tmp_path):
    save(tmp_path, trained())
    with pytest.raises(TrainingError) as error:
        restore(tmp_path, like=like())
    assert f"{tmp_path} contains another run: " in str(error.value)
    assert says in str(error.value)


def test_another_setting_of_x64_is_refused(tmp_path):
    """Both ways: a resumed run would go on in other numbers than those that were saved."""

    def go(folder: Path) -> Any:
        return fit(count, counting(w=jnp.zeros(2, float)), steps=2, batch=0, folder=folder)

    wide, narrow = tmp_path / "wide", tmp_path / "narrow"
    go(wide)
    with jax.enable_x64(False):
        go(narrow)
        with pytest.raises(TrainingError, match=r"params/w is float64\[2\] there, float32\[2\] here.*JAX_ENABLE_X64 is False here"):
            go(wide)
        assert restore(wide).state.params["w"].dtype == np.float64
    with pytest.raises(TrainingError, match=r"params/w is float32\[2\] there, float64\[2\] here.*JAX_ENABLE_X64 is True here"):
        go(narrow)


def test_what_cannot_be_read_is_named(tmp_path):
    run, empty = tmp_path / "run", tmp_path / "empty"
    counted(run, 3, monitor=None)
    for says, call in {
        "which is 'newest'": lambda: restore(run, "newest"),
        "which is True": lambda: restore(run, True),
        f"{empty} contains no saved state": lambda: restore(empty),
        "monitored nothing; give which='latest'": lambda: restore(run, "best"),
        f"{run} has no state of step 1, only of 2, 3": lambda: restore(run, 1),
    }.items():
        with pytest.raises((ValueError, TrainingError)) as error:
            call()
        assert says in str(error.value)
    assert not empty.exists()
    with pytest.raises(TrainingError, match=r"cannot be used for checkpoints: .*Not a directory"):
        counted(run / "checkpoints" / "3" / "progress" / "progress.json", 3)
    (tmp_path / "old" / "latest" / "5").mkdir(parents=True)
    with pytest.raises(TrainingError, match=r"old contains a run of version 0.1.0"):
        counted(tmp_path / "old", 3)


@pytest.mark.parametrize("what", ["progress/progress.json", "state/_METADATA"])
def test_a_damaged_state_is_named_and_the_one_before_it_serves(what, tmp_path):
    counted(tmp_path, 4)
    (tmp_path / "checkpoints" / "4" / what).write_bytes(b"{")
    for call in (lambda: restore(tmp_path), lambda: counted(tmp_path, 5)):
        with pytest.raises(TrainingError, match=r"checkpoints/4 is damaged .*; delete it to go on from step 3$"):
            call()
    shutil.rmtree(tmp_path / "checkpoints" / "4")
    same_run(counted(tmp_path, 5), counted(None, 5))


def test_a_missing_best_state_is_named(tmp_path):
    counted(tmp_path, 7)
    shutil.rmtree(tmp_path / "checkpoints" / "4")
    with pytest.raises(TrainingError, match="has no state of step 4, only of 6, 7"):
        counted(tmp_path, 7)


def test_a_full_disk_is_one_line(monkeypatch, tmp_path, capfd):
    """The save that fails in the background is an error of the next one, and what was there stays."""
    counted(tmp_path, 2)
    rename = os.rename

    def full(source: Any, target: Any) -> None:
        if Path(target).name == "3":
            raise OSError(28, "No space left on device")
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", full)
        with pytest.raises(TrainingError, match=r"cannot keep the state of step 4: .*No space left on device"):
            counted(tmp_path, 7)
    assert "Traceback" not in capfd.readouterr().err
    assert int(restore(tmp_path).state.step) == 2
    same_run(counted(tmp_path, 7), counted(None, 7))


@pytest.mark.parametrize("changed", [{"mode": "min"}, {"monitor": None}, {"monitor": "other"}])
def test_another_judge_of_the_best_is_refused(changed, tmp_path):
    counted(tmp_path, 2)
    evaluate = {"evaluate": lambda params: {**valued(params), "other": 0.0}}
    with pytest.raises(TrainingError, match="chose its best state by monitor='value', mode='max'; here they are"):
        counted(tmp_path, 3, **evaluate, **changed)
