"""Saving, restoring, exporting: bit by bit, whole or not at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import geoopt
import jax
import numpy as np
import pytest
import torch

import weights
from parity_tests.weights.helpers import assert_deep_equal, trained
from port_jax.manifolds import PoincareBall
from weights import NotWritten, Unreadable


def tree_file(path, **kwargs):
    net, opt = trained(**kwargs)
    torch.save({"model": net.state_dict(), "optimizer": opt.state_dict(), "epoch": 3}, path)
    return weights.load(path, arch="tree", manifolds={"emb": PoincareBall(0.7)})


def assert_same(a, b):
    leaves = [
        jax.tree.leaves(x) for x in ((a.variables, a.opt_state, a.constants), (b.variables, b.opt_state, b.constants))
    ]
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_restore_and_export(tmp_path, dtype):
    ckpt = tree_file(tmp_path / "x.pth", dtype=dtype)
    ckpt.save(tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "arrays",
        "config.json",
        "report.json",
        "torch.json",
    ]
    restored = weights.restore(tmp_path / "out")
    assert_same(ckpt, restored)
    assert restored.manifolds["emb"] == ckpt.manifolds["emb"]
    weights.export(tmp_path / "out", tmp_path / "y.pth")
    assert_deep_equal(torch.load(tmp_path / "x.pth"), torch.load(tmp_path / "y.pth", weights_only=True))


def test_manifold_parameters_and_odd_types_come_back(tmp_path):
    net, _ = trained()
    tree = {
        **dict(net.named_parameters()),
        "half": torch.randn(3).half(),
        "b": torch.randn(2, 2).bfloat16().t(),
        "n": torch.arange(4),
    }
    torch.save(tree, tmp_path / "x.pth")
    ckpt = weights.load(tmp_path / "x.pth", arch="tree")
    assert ckpt.manifolds["emb"].c == pytest.approx(0.7, rel=1e-6)
    ckpt.save(tmp_path / "out")
    weights.export(tmp_path / "out", tmp_path / "y.pth")
    back = torch.load(tmp_path / "y.pth", weights_only=False)
    assert isinstance(back["emb"], geoopt.ManifoldParameter)
    assert_deep_equal(tree, back)


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
    with pytest.raises(NotWritten, match="not a converted checkpoint"):
        ckpt.save(tmp_path / "mine")
    with pytest.raises(NotWritten, match="does not exist"):
        ckpt.save(tmp_path / "absent" / "out")
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "x"


def test_a_damaged_folder_is_named(tmp_path):
    ckpt = tree_file(tmp_path / "x.pth")
    for damage in ("torch.json", "report.json"):
        ckpt.save(tmp_path / "out")
        (tmp_path / "out" / damage).write_text("{")
        with pytest.raises(Unreadable, match="damaged"):
            weights.restore(tmp_path / "out")
    with pytest.raises(Unreadable, match="not a converted checkpoint"):
        weights.restore(tmp_path)


KILLED = """
import os, sys, numpy as np
import weights, torch
from port_jax.manifolds import PoincareBall
ckpt = weights.load(sys.argv[1], arch="tree", manifolds={"emb": PoincareBall(0.7)})
print("ready", flush=True)
while True:
    ckpt.save(sys.argv[2])
    ckpt.export(sys.argv[3])
    print("saved", flush=True)
"""


def test_killed_at_any_moment_it_leaves_a_whole_output(tmp_path):
    tree_file(tmp_path / "x.pth")
    args = [sys.executable, "-c", KILLED, *(str(tmp_path / n) for n in ("x.pth", "out", "back.pth"))]
    process = subprocess.Popen(args, stdout=subprocess.PIPE, text=True, env={**os.environ, "JAX_PLATFORMS": "cpu"})
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "ready"
    assert process.stdout.readline().strip() == "saved"
    random = np.random.default_rng(0)
    for _ in range(8):  # stopped in the middle of things, what stands at the place is whole
        time.sleep(float(random.uniform(0.01, 0.15)))
        process.send_signal(signal.SIGSTOP)
        assert int(weights.restore(tmp_path / "out").opt_state.step) == 3
        torch.load(tmp_path / "back.pth")
        process.send_signal(signal.SIGCONT)
    process.kill()
    process.wait()
    weights.restore(tmp_path / "out")
    tree_file(tmp_path / "x.pth").save(tmp_path / "out")
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".out")]
