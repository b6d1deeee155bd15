"""The converter brings no torch, and importing it brings nearly nothing; test_house.py has the library."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch

import weights
from parity_tests.weights.helpers import trained

CHECK = "import sys; bad = {m.partition('.')[0] for m in sys.modules} & {'torch', 'geoopt'}; assert not bad, bad"


def python(code: str, *args: str) -> None:
    subprocess.run([sys.executable, "-c", code, *args], check=True, capture_output=True, text=True)


def test_importing_the_converter_is_light():
    python(f"import weights\n{CHECK}\nassert 'jax' not in sys.modules and 'numpy' not in sys.modules")


def test_a_conversion_brings_no_torch(tmp_path):
    net, opt = trained()
    torch.save({"model": net.state_dict(), "optimizer": opt.state_dict()}, tmp_path / "x.pth")
    python(
        "import sys, weights\nfrom port_jax.manifolds import PoincareBall\n"
        "ckpt = weights.load(sys.argv[1] + '/x.pth', arch='tree', manifolds={'emb': PoincareBall(0.7)})\n"
        "ckpt.save(sys.argv[1] + '/out')\nweights.export(weights.restore(sys.argv[1] + '/out'), sys.argv[1] + '/y.pth')\n"
        f"from weights.views.inspect import inspect\nfrom weights.proof.diff import compare\n{CHECK}",
        str(tmp_path),
    )


def test_no_public_name_is_a_submodule():
    """A submodule of the same name would take the function's place once something imports it."""
    folder = Path(weights.__file__).parent
    assert not [name for name in weights.__all__ if (folder / f"{name}.py").exists() or (folder / name).is_dir()]
