"""Large files in bounded memory: one copy of the numbers, and what the libraries take."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch

from reference_torch.models import meru
from weights.files.tensors import BLOCK, same_bits
from weights.mapping.leaves import leaf_of

MEBIBYTES = 200
BASE = 300
"""What the goal allows above the size of the file, for 2 GiB as for this: jax, flax, Orbax, tensorstore and buffers."""


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A table, as node embeddings are, of a size that no power of two divides; and transposed weights, which have to be copied."""
    path = tmp_path_factory.mktemp("memory") / "x.pth"
    state = {"table": torch.full((131_101, 100), 0.1)} | {f"w{i}": torch.full((1024, 1601), 0.2).t() for i in range(24)}
    torch.save(state, path)
    return path


FORMS = """
import sys
import weakref
from pathlib import Path
import weights
from benchmarks.weights import peak_mib
source, folder = sys.argv[1], Path(sys.argv[2])
forms = [folder / name for name in ("out", "out.safetensors", "out.npz")]
"""
CONVERT = """
ckpt = weights.load(source, arch="tree")
print("load", peak_mib())
for form in forms:
    ckpt.save(form)
    print("save", form.name, peak_mib())
"""
EXPORT = """
weights.export(forms[0], folder / "back.pth")
print("export", peak_mib())
"""


def test_one_copy_of_the_numbers(file, tmp_path):
    size = file.stat().st_size / (1 << 20)
    assert size > MEBIBYTES
    env = {**os.environ, "JAX_PLATFORMS": "cpu"}
    for work in (CONVERT, EXPORT):
        command = [sys.executable, "-c", FORMS + work, str(file), str(tmp_path)]
        done = subprocess.run(command, env=env, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2])
        *_, peak = done.stdout.split()
        assert float(peak) < size + BASE, done.stdout


def test_what_jax_would_copy_is_let_go():
    """Transposed arrays and those that begin anywhere: jax copies them and holds on to the originals for a while."""
    for view in (lambda base: base.reshape(1000, 300).T, lambda base: base[1:]):
        base = np.arange(300_000, dtype=np.float32)
        given, held = view(base), weakref.ref(base)
        expected = given.copy()
        leaf = leaf_of(given)
        del base, given
        assert held() is None
        assert np.array_equal(leaf, expected)


def test_blocks_compare_as_the_whole_does():
    """Arrays above the size of a block, contiguous or not, equal or different in one bit anywhere."""
    a = np.arange(BLOCK // 4 * 2 + 12, dtype=np.float32).reshape(4, -1)
    for x in (a, a.T, a[:, ::2], a.reshape(-1)[: a.size // 1031 * 1031].reshape(1031, -1)):
        assert same_bits(x, x.copy())
        assert same_bits(x.copy(), x)
        for at in (0, x.size // 2, x.size - 1):
            y = x.copy()
            y[np.unravel_index(at, y.shape)] += 1
            assert not same_bits(x, y)
    assert not same_bits(a, a.astype(np.float64))
    assert not same_bits(a, a.reshape(2, -1))
    assert not same_bits(np.zeros(2, np.float32), np.array([0.0, -0.0], np.float32))


MERU = {"class": "MERU", "heads": 6, "textual": {"arch": "L4_W512"}}


@pytest.mark.slow  # as the test above, on the file of a model with its optimizer
@pytest.mark.xfail(reason="a file of 352 MiB takes 890 to 930: parameters and moments are copied once more on their way", strict=True)
def test_one_copy_of_a_models_numbers_and_moments(tmp_path):
    """MERU with a vision transformer of width 384 and a vocabulary of 20000: a third of the smallest one that its authors publish."""
    sizes = {"image_size": 224, "patch_size": 16, "width": 384, "depth": 4, "embed_dim": 512, "vocab_size": 20000, "context_length": 77}
    more = {"textual_layers": 4, "textual_width": 512, "textual_heads": 8, "curv_init": 1.0, "learn_curv": True, "entail_weight": 0.2}
    module = meru.MERU({**MERU, **sizes, **more})
    optimizer, scheduler = meru.optimizer_of(module)
    for parameter in module.parameters():
        parameter.grad = torch.full_like(parameter, 1e-3) if parameter.requires_grad else None
    optimizer.step()
    scheduler.step()
    path, config = tmp_path / "x.pth", tmp_path / "config.json"
    sections = {"model": module, "optimizer": optimizer, "scheduler": scheduler}
    torch.save({name: part.state_dict() for name, part in sections.items()}, path)
    config.write_text(json.dumps(MERU))
    del module, optimizer, scheduler, sections
    size = path.stat().st_size / (1 << 20)
    assert size > MEBIBYTES
    load = CONVERT.replace('arch="tree"', f"config={str(config)!r}")
    for work in (load, EXPORT):
        command = [sys.executable, "-c", FORMS + work, str(path), str(tmp_path)]
        done = subprocess.run(command, env={**os.environ, "JAX_PLATFORMS": "cpu"}, check=True, capture_output=True, text=True,
                              cwd=Path(__file__).parents[2])  # fmt: skip
        *_, peak = done.stdout.split()
        assert float(peak) < size + BASE, done.stdout
