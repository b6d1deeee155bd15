"""The files that are changed: one of every format, small, and what is in them. `python -m parity_tests.fuzz.seeds FOLDER` writes them.

What makes them begins threads, and a process with threads cannot be forked.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import torch

import weights
from parity_tests.fuzz.draw import Random, chance
from port_jax.manifolds import PoincareBall

GIVEN: Mapping[str, Any] = {"arch": "tree", "manifolds": {"emb": PoincareBall(0.7)}}
"""What `weights.load` has to be told of the seeds that are no model of ours."""
WITHOUT: Mapping[str, Any] = {**GIVEN, "optimizer": False}
"""The same without the optimizer, which takes most of the time."""
TREES = ("tree.pth", "legacy.pth", "adam.pth", "sgd.pth")
"""{"model", "optimizer", "epoch", "args"} of torch."""
MODELS = ("poincare_embeddings", "shallow", "gcn", "mlp")
"""Models of ours whose conversion does not take long."""
CONVERTED = {"converted.npz": "adam.pth", "converted.safetensors": "sgd.pth", "converted": "tree.pth"}
"""Conversions of these."""


def make(folder: Path) -> None:
    """Writes all seeds into a folder, in a process of its own."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "1"}
    subprocess.run([sys.executable, "-m", "parity_tests.fuzz.seeds", str(folder)], env=environment, check=True)


def write(folder: Path) -> None:
    """Writes all seeds into a folder, in this process."""
    from parity_tests.models.small_models import CASES
    from parity_tests.weights.helpers import trained

    optimizers = {"tree.pth": None, "adam.pth": torch.optim.Adam, "sgd.pth": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, optimizer in optimizers.items():
            net, opt = trained(optimizer)
            tree = {"model": net.state_dict(), "optimizer": opt.state_dict(), "epoch": 3, "args": {"lr": 0.1}}
            torch.save(tree, folder / name)
        net, opt = trained()
        tree = {"model": net.state_dict(), "optimizer": opt.state_dict(), "epoch": 3, "args": {"lr": 0.1}}
        torch.save(tree, folder / "legacy.pth", _use_new_zipfile_serialization=False)
        for zipped, suffix in ((True, "pth"), (False, "legacy.pth")):
            torch.save(dict(net.named_parameters()), folder / f"named.{suffix}", _use_new_zipfile_serialization=zipped)
            torch.save(net, folder / f"module.{suffix}", _use_new_zipfile_serialization=zipped)
    safetensors.numpy.save_file({key: value.numpy() for key, value in net.state_dict().items()}, folder / "plain.safetensors")
    for name, tree in CONVERTED.items():
        weights.load(folder / tree, **GIVEN).save(folder / name)
    for name in MODELS:
        module, config = CASES[name][0]()
        torch.save({"model": module.state_dict()}, folder / f"{name}.pth")
        (folder / f"{name}.json").write_text(json.dumps(config))


def given(random: Random) -> Mapping[str, Any]:
    """GIVEN, and most often WITHOUT."""
    return WITHOUT if chance(random, 0.7) else GIVEN


@functools.cache
def data(path: Path) -> bytes:
    """The bytes of a seed."""
    return path.read_bytes()


@functools.cache
def objects(path: Path) -> Any:
    """What torch reads from a seed; not to be changed."""
    return torch.load(path, weights_only=True)


@functools.cache
def arrays(path: Path) -> dict[str, np.ndarray]:
    """The parameters of a seed by torch's keys; of one of the models' seeds those of its conversion."""
    from parity_tests.fuzz.trial import arrays

    config = path.with_suffix(".json")
    if path.name in CONVERTED:
        return arrays(weights.restore(path))
    return arrays(weights.load(path, **({"config": config, "arch": path.stem} if config.exists() else GIVEN)))


def copied(path: Path, folder: Path) -> Path:
    """A copy of a seed in another folder."""
    if path.is_dir():
        return Path(shutil.copytree(path, folder / path.name))
    return Path(shutil.copyfile(path, folder / path.name))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
