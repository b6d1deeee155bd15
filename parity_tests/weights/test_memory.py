"""Large files in bounded memory: one copy of the numbers, and what the libraries take."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reference_torch.models import meru
from weights.files.tensors import BLOCK, deferred, same_bits
from weights.mapping.leaves import leaf_of

BASE = 300
"""MiB that the goal allows above the size of the file, for 2 GiB as for this: jax, flax, Orbax, tensorstore and buffers."""
BUFFERS = 32
"""MiB more for a folder: importing Orbax takes a hundred of `BASE`, and the buffers of its threads are larger where a machine is busy."""
FORMS = """
import sys
from pathlib import Path
import weights
from benchmarks.weights import peak_mib
source, folder = sys.argv[1], Path(sys.argv[2])
forms = [folder / name for name in sys.argv[3:]]
"""
CONVERT = """
ckpt = weights.load(source, {said})
print("load", peak_mib())
for form in forms:
    ckpt.save(form)
    print("save", form.name, peak_mib())
"""
EXPORT = """
weights.export(forms[0], folder / "back.pth")
print("export", peak_mib())
"""
MERU = {"class": "MERU", "heads": 6, "textual": {"arch": "L4_W512"}}
FOLDER, FILES = ("out",), ("out.safetensors", "out.npz")


def require_one_copy(path: Path, least: int, said: str, forms: Sequence[str] = FOLDER + FILES) -> None:
    """Converts a file to each of the forms, and the first of them back, in processes whose peaks stay within its size and BASE.

    least: what a further copy of the parameters or of a moment would take, in MiB, which is far more than how peaks vary.
    """
    size = path.stat().st_size / (1 << 20)
    assert size > 3 * least > 3 * BUFFERS
    allowed = size + BASE + (BUFFERS if set(forms) & set(FOLDER) else 0)
    for work in (CONVERT.format(said=said), EXPORT):
        command = [sys.executable, "-c", FORMS + work, str(path), str(path.parent), *forms]
        done = subprocess.run(command, env={**os.environ, "JAX_PLATFORMS": "cpu"}, check=True, capture_output=True, text=True,
                              cwd=Path(__file__).parents[2])  # fmt: skip
        *_, peak = done.stdout.split()
        assert float(peak) < allowed, f"{size:.0f} MiB: {done.stdout}"


def save_after_a_step(path: Path, parameters: dict[str, Any], optimizer: Callable[[Any], torch.optim.Optimizer]) -> None:
    """A file of parameters, and of what their optimizer keeps of one step."""
    moved = optimizer(list(parameters.values()))
    for parameter in parameters.values():
        parameter.grad = torch.rand_like(parameter)  # in the order of the parameter's elements, which is also that of the moments
    moved.step()
    torch.save({"model": {name: p.detach() for name, p in parameters.items()}, "optimizer": moved.state_dict()}, path)


def numbers() -> dict[str, torch.Tensor]:
    """A table, as node embeddings are, of a size that no power of two divides; and transposed weights, which have to be copied."""
    return {"table": torch.rand(65_551, 100)} | {f"w{i}": torch.rand(801, 1024).t() for i in range(8)}


@pytest.mark.slow  # with the moments below
def test_one_copy_of_the_numbers(tmp_path: Path):
    torch.save(numbers() | {"more": torch.rand(65_551, 400)}, tmp_path / "x.pth")
    require_one_copy(tmp_path / "x.pth", 48, 'arch="tree"')


def test_one_copy_of_the_numbers_and_moments(tmp_path: Path):
    path = tmp_path / "x.pth"
    save_after_a_step(path, {name: torch.nn.Parameter(x) for name, x in numbers().items()}, torch.optim.Adam)
    require_one_copy(path, 48, 'arch="tree"', FILES)


MORE = "352 MiB take 739: Orbax is imported, and what it writes waits in its buffers; a file takes 613"


@pytest.mark.slow  # as the test above, on the file of a model with its optimizer
@pytest.mark.parametrize(
    "forms",
    [FILES, pytest.param(FOLDER, marks=pytest.mark.xfail(reason=MORE, strict=True, raises=AssertionError))],
    ids=["files", "folder"],
)
def test_one_copy_of_a_models_numbers_and_moments(tmp_path: Path, forms: Sequence[str]):
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
    require_one_copy(path, 110, f"config={str(config)!r}", forms)


def test_elements_are_made_when_they_are_read():
    """What is written of an optimizer's state, a tensor after the other: nobody keeps the elements."""
    made: list[weakref.ref] = []

    def elements() -> np.ndarray:
        array = np.arange(6.0, dtype=np.float32).reshape(2, 3).T
        made.append(weakref.ref(array.base))
        return array

    tensor = deferred(np.dtype(np.float32), (3, 2), elements)
    assert not made
    assert (tensor.dtype, tensor.shape, tensor.stride) == ("float32", (3, 2), (2, 1))
    for count in (1, 2):
        assert np.array_equal(tensor.array(), [[0, 3], [1, 4], [2, 5]])
        assert len(made) == count
        assert made[-1]() is None


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
