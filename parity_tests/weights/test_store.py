"""Saving, restoring, exporting: bit by bit, whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import geoopt
import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy
import torch

import weights
from parity_tests import draws, slow
from parity_tests.weights.helpers import assert_deep_equal, trained
from port_jax.manifolds import Euclidean, PoincareBall
from weights import NotWritten, Refused, Unreadable, Usage
from weights.files import outputs
from weights.files.dtypes import NUMPY, SAFETENSORS


def tree_file(path, **kwargs):
    net, opt = trained(**kwargs)
    torch.save({"model": net.state_dict(), "optimizer": opt.state_dict(), "epoch": 3}, path)
    return weights.load(path, arch="tree", manifolds={"emb": PoincareBall(0.7)})


def assert_same(a, b):
    leaves = [jax.tree.leaves(x) for x in ((a.variables, a.opt_state, a.constants), (b.variables, b.opt_state, b.constants))]
    assert len(leaves[0]) == len(leaves[1])
    for x, y in zip(*leaves):
        assert type(x) is type(y)
        assert x.dtype == y.dtype
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()
    assert jax.tree.structure(a.opt_state) == jax.tree.structure(b.opt_state)
    assert (a.arch, a.config, a.epoch, a.report, a.settings, a.entries, a.plan) == (
        b.arch,
        b.config,
        b.epoch,
        b.report,
        b.settings,
        b.entries,
        b.plan,
    )


FORMS = ("out", "out.safetensors", "out.npz")
VERSION_0_1_0 = Path(__file__).parent / "version_0_1_0"
"""A torch file of an HGAT and its RiemannianAdam after three steps, and what hyperport 0.1.0 converted it to."""


def test_what_version_0_1_0_converted_comes_back(tmp_path):
    ckpt = weights.restore(VERSION_0_1_0 / "hgat.safetensors")
    ckpt.export(tmp_path / "back.pth")
    assert_deep_equal(torch.load(VERSION_0_1_0 / "hgat.pth"), torch.load(tmp_path / "back.pth"))
    ckpt.save(tmp_path / "again.safetensors")
    old, new = (safetensors.safe_open(path, "numpy") for path in (VERSION_0_1_0 / "hgat.safetensors", tmp_path / "again.safetensors"))
    assert sorted(old.keys()) == sorted(new.keys())
    texts = [{name: json.loads(file.metadata()[name]) for name in ("config", "report", "torch")} for file in (old, new)]
    plan = texts[1]["torch"]["plan"]
    assert (plan.pop("carried"), plan.pop("guessed")) == ([], False)  # which version 0.1.0 did not write
    assert texts[0] == texts[1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_restore_and_export(tmp_path, dtype):
    ckpt = tree_file(tmp_path / "x.pth", dtype=dtype)
    for form in FORMS:
        out = tmp_path / form
        ckpt.save(out)
        restored = weights.restore(out)
        assert_same(ckpt, restored)
        assert restored.manifolds["emb"] == ckpt.manifolds["emb"]
        weights.export(out, tmp_path / "y.pth", overwrite=True)
        assert_deep_equal(torch.load(tmp_path / "x.pth"), torch.load(tmp_path / "y.pth", weights_only=True))
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "arrays",
        "config.json",
        "report.json",
        "torch.json",
    ]


def test_float64_stays_in_numpy_where_jax_computes_in_float32(tmp_path):
    tree_file(tmp_path / "x.pth", dtype=torch.float64).save(tmp_path / "out")
    with jax.enable_x64(False):
        restored = weights.restore(tmp_path / "out")
    emb = restored.variables["params"]["emb"]
    assert (type(emb), emb.dtype) == (np.ndarray, np.float64)
    assert not any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(restored.variables))


def odd_file(path):
    net, _ = trained()
    tree = {
        **dict(net.named_parameters()),
        "half": torch.randn(3).half(),
        "b": torch.randn(2, 2).bfloat16().t(),
        "scalar": torch.tensor(0.5),
        "empty": torch.zeros(0, 3),
        "n": torch.arange(4),
        "flags": torch.tensor([True, False]),
    }
    torch.save(tree, path)
    return tree, weights.load(path, arch="tree")


@pytest.mark.parametrize("form", FORMS)
def test_manifold_parameters_and_odd_types_come_back(tmp_path, form):
    tree, ckpt = odd_file(tmp_path / "x.pth")
    assert ckpt.manifolds["emb"].c == pytest.approx(0.7, rel=1e-6)
    ckpt.save(tmp_path / form)
    assert_same(ckpt, weights.restore(tmp_path / form))
    weights.export(tmp_path / form, tmp_path / "y.pth")
    back = torch.load(tmp_path / "y.pth", weights_only=False)
    assert isinstance(back["emb"], geoopt.ManifoldParameter)
    assert_deep_equal(tree, back)


@pytest.mark.parametrize("form", slow.all_but(FORMS[1:], FORMS))
def test_every_type_comes_back_to_torch(tmp_path, form):
    """Those without a class of storages too: whole, transposed, a part of a storage, and tied."""
    lacking = {n for n in NUMPY if n not in SAFETENSORS.values()} if form == "out.safetensors" else set()
    made = {n: torch.arange(12).reshape(3, 4).to(getattr(torch, n)) for n in NUMPY if n not in lacking}
    tree = {f"{n}_{name}": t for n, w in made.items() for name, t in (("w", w), ("tied", w), ("rows", w[1:]), ("empty", w[:0].clone()))}
    tree |= {f"{n}_turned": w.clone().t() for n, w in made.items()} | {f"{n}_row": w.clone()[1] for n, w in made.items()}
    torch.save(tree, tmp_path / "x.pth")
    weights.load(tmp_path / "x.pth", arch="tree", manifolds={"*": Euclidean()}).save(tmp_path / form)
    weights.export(tmp_path / form, tmp_path / "y.pth")
    assert_deep_equal(tree, torch.load(tmp_path / "y.pth", weights_only=True))
    for name in lacking:
        torch.save({"w": torch.ones(2).to(getattr(torch, name))}, tmp_path / "x.pth")
        with pytest.raises(NotWritten, match=f"w is {name}, which safetensors does not have"):
            weights.load(tmp_path / "x.pth", arch="tree").save(tmp_path / form, overwrite=True)


def test_a_file_is_read_by_its_own_library(tmp_path):
    tree, ckpt = odd_file(tmp_path / "x.pth")
    for form in FORMS[1:]:
        ckpt.save(tmp_path / form)
    whole = tree_file(tmp_path / "z.pth")
    whole.save(tmp_path / "whole.safetensors")
    found = safetensors.numpy.load_file(tmp_path / "out.safetensors")
    with np.load(tmp_path / "out.npz") as archive:
        zipped = dict(archive)
    assert set(zipped) == {*found, "config.json", "report.json", "torch.json"}
    assert json.loads(zipped["report.json"].item())["arch"] == "tree"
    for key, value in {"lin/weight": "lin.weight", "half": "half", "b": "b", "scalar": "scalar", "empty": "empty"}.items():
        want = np.asarray(ckpt.variables["params"]["lin"]["weight"] if "/" in key else ckpt.variables["params"][key])
        assert found[f"params/{key}"].dtype == want.dtype
        assert found[f"params/{key}"].tobytes() == want.tobytes() == zipped[f"params/{key}"].tobytes(), value
        assert found[f"params/{key}"].shape == want.shape == zipped[f"params/{key}"].shape
    data = (tmp_path / "out.safetensors").read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    for key, entry in json.loads(data[8:start]).items():  # where a map of the file can be used as it is
        assert key == "__metadata__" or (start + entry["data_offsets"][0]) % found[key].itemsize == 0
    assert zipped["params/b"].view(ml_dtypes.bfloat16).dtype == found["params/b"].dtype
    assert found["constants/n"].tolist() == zipped["constants/n"].tolist() == tree["n"].tolist()
    with safetensors.safe_open(tmp_path / "whole.safetensors", "numpy") as file:
        assert json.loads(file.metadata()["report"])["optimizer"]["name"] == "RiemannianAdam"
        assert "opt_state/mu/emb" in file.keys()  # noqa: SIM118
        assert np.array_equal(file.get_tensor("opt_state/mu/emb"), whole.opt_state.mu["emb"])


def test_files_of_others_are_left_alone(tmp_path):
    ckpt = tree_file(tmp_path / "x.pth")
    safetensors.numpy.save_file({"a": np.ones(2)}, tmp_path / "mine.safetensors")
    np.savez(tmp_path / "mine.npz", a=np.ones(2))
    for name in ("mine.safetensors", "mine.npz"):
        before = (tmp_path / name).read_bytes()
        with pytest.raises(NotWritten, match="exists"):
            ckpt.save(tmp_path / name)
        with pytest.raises(Unreadable, match="not a converted checkpoint"):
            weights.restore(tmp_path / name)
        assert (tmp_path / name).read_bytes() == before
    for form in FORMS[1:]:
        ckpt.save(tmp_path / form)
        with pytest.raises(Usage, match=r"converted checkpoint.*weights\.restore"):
            weights.load(tmp_path / form)
    torch.save({"z": torch.ones(2, dtype=torch.complex128)}, tmp_path / "z.pth")
    with pytest.raises(NotWritten, match=r"params/z is complex128.*folder or \.npz"):
        weights.load(tmp_path / "z.pth", arch="tree").save(tmp_path / "z.safetensors")
    assert not (tmp_path / "z.safetensors").exists()


def file_with(numbers: bytes, out: Path) -> Path:
    """A file of a folder's arrays that has these bytes, and without which the folder cannot be read."""
    for path in out.glob("arrays/**/d/*"):
        if numbers in (data := path.read_bytes()):
            path.write_bytes(b"")
            try:
                weights.restore(out)
            except Unreadable:
                return path
            finally:
                path.write_bytes(data)
    raise AssertionError("no file of the arrays has the numbers that are read")


@pytest.mark.parametrize("form", FORMS)
def test_damage_anywhere_is_found(tmp_path, form):
    """Cut off anywhere, or a bit turned in the arrays or what describes them: Unreadable, with the file's name.

    Of a folder it is a file that is read: Orbax's threads may leave one, or the end of one, that another replaces. Without it all numbers
    come back.
    """
    tree_file(tmp_path / "x.pth").save(tmp_path / form)
    out = tmp_path / form
    want = weights.load(tmp_path / "x.pth", arch="tree", manifolds={"emb": PoincareBall(0.7)})
    numbers = np.asarray(want.variables["params"]["emb"]).tobytes()
    path = file_with(numbers, out) if out.is_dir() else out
    data = path.read_bytes()
    for end in [*range(0, len(data), max(1, len(data) // 12)), len(data) - 1]:
        path.write_bytes(data[:end])
        if out.is_dir() and end >= data.index(numbers) + len(numbers):
            with contextlib.suppress(Unreadable):
                assert_same(weights.restore(out), want)
            continue
        with pytest.raises(Unreadable) as caught:
            weights.restore(out)
        assert str(out) in str(caught.value)
    at = data.index(numbers) + 5
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    with pytest.raises(Unreadable, match=r"checksum|damaged"):
        weights.restore(out)
    random = draws.rng(0)
    messages = []
    for at in random.integers(8, len(data), 16):
        turned = bytearray(data)
        turned[at] ^= 1 << int(random.integers(0, 8))
        path.write_bytes(turned)
        try:
            assert_same(weights.restore(out), want)
        except (Unreadable, Refused) as error:
            messages.append(str(error))
    assert len(messages) > 8
    assert all(str(out) in message for message in messages)


def test_saving_again_replaces_whole(tmp_path):
    ckpt = tree_file(tmp_path / "x.pth")
    ckpt.save(tmp_path / "out")
    first = weights.restore(tmp_path / "out")
    tree_file(tmp_path / "x.pth", steps=5).save(tmp_path / "out")
    assert int(weights.restore(tmp_path / "out").opt_state.step) == 5
    assert int(first.opt_state.step) == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "x.pth"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(NotWritten, match="was not written by this command"):
        ckpt.save(tmp_path / "mine")
    with pytest.raises(NotWritten, match="does not exist"):
        ckpt.save(tmp_path / "absent" / "out")
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "x"


def test_a_damaged_folder_is_named(tmp_path):
    ckpt = tree_file(tmp_path / "x.pth")
    for damage in ("torch.json", "report.json"):
        ckpt.save(tmp_path / "out", overwrite=True)
        (tmp_path / "out" / damage).write_text("{")
        with pytest.raises(Unreadable, match="damaged"):
            weights.restore(tmp_path / "out")
    with pytest.raises(Unreadable, match="not a converted checkpoint"):
        weights.restore(tmp_path)


@pytest.mark.parametrize("name", ["manifest.ocdbt", "ocdbt.process_0/manifest.ocdbt"])
def test_a_pipe_among_the_arrays_is_not_waited_for(tmp_path, name):
    tree_file(tmp_path / "x.pth").save(tmp_path / "out")
    file = tmp_path / "out" / "arrays" / name
    file.unlink()
    for put, why in (
        (os.mkfifo, "a pipe"),
        (partial(os.symlink, "/dev/zero"), "a device"),
        (partial(os.symlink, "nothing"), "No such file"),
    ):
        put(file)
        with pytest.raises(Unreadable, match=f"the arrays are damaged: '{name}' cannot be opened .{why}"):
            weights.restore(tmp_path / "out")
        file.unlink()


@pytest.mark.parametrize("form", [*FORMS, "back.pth"])
def test_what_is_there_stays_until_the_new_is_on_disk(monkeypatch, tmp_path, form):
    """Stopped when all is written and not yet flushed to disk, the old output stands bit by bit."""

    def written(ckpt):
        (ckpt.export if form == "back.pth" else ckpt.save)(tmp_path / form, overwrite=True)
        return {p: p.read_bytes() for p in sorted([tmp_path / form, *(tmp_path / form).rglob("*")]) if p.is_file()}

    def stop(path):
        raise KeyboardInterrupt

    old = written(tree_file(tmp_path / "x.pth"))
    newer = tree_file(tmp_path / "x.pth", steps=5)
    with monkeypatch.context() as patch:
        patch.setattr(outputs, "synced", stop)
        with pytest.raises(KeyboardInterrupt):
            written(newer)
    assert {p: p.read_bytes() for p in old} == old
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([form, "x.pth"])
    assert written(newer) != old


KILLED = """
import os, sys, numpy as np
import weights, torch
from port_jax.manifolds import Euclidean, PoincareBall
ckpt = weights.load(sys.argv[1], arch="tree", manifolds={"emb": PoincareBall(0.7)})
print("ready", flush=True)
while True:
    for path in sys.argv[3:]:
        ckpt.save(path, overwrite=True)
    ckpt.export(sys.argv[2], overwrite=True)
    print("saved", flush=True)
"""


def test_killed_at_any_moment_it_leaves_a_whole_output(tmp_path):
    """At random moments, of the whole process. Four are too few to meet a short write to the output itself, which the test above sees."""
    net, opt = trained()
    heavy = {**net.state_dict(), "heavy": torch.zeros(1_000_000, dtype=torch.int64)}  # so that most of the time is writing
    torch.save({"model": heavy, "optimizer": opt.state_dict(), "epoch": 3}, tmp_path / "x.pth")
    args = [sys.executable, "-c", KILLED, *(str(tmp_path / n) for n in ("x.pth", "back.pth", *FORMS))]
    process = subprocess.Popen(args, stdout=subprocess.PIPE, text=True, env={**os.environ, "JAX_PLATFORMS": "cpu"})
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "ready"
    assert process.stdout.readline().strip() == "saved"
    random = draws.rng(0)
    for _ in range(4):  # stopped in the middle of things, what stands at the place is whole
        time.sleep(float(random.uniform(0.01, 0.15)))
        process.send_signal(signal.SIGSTOP)
        for form in FORMS:
            assert int(weights.restore(tmp_path / form).opt_state.step) == 3
        torch.load(tmp_path / "back.pth")
        process.send_signal(signal.SIGCONT)
    process.kill()
    process.wait()
    for form in FORMS:
        weights.restore(tmp_path / form)
    for form in FORMS:
        tree_file(tmp_path / "x.pth").save(tmp_path / form, overwrite=True)
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]
