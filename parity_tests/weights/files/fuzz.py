"""Mutated checkpoints: every one is read, or refused with a message. `python -m parity_tests.weights.files.fuzz [COUNT] [SEED]`."""

from __future__ import annotations

import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import safetensors.numpy
import torch
from tqdm import tqdm

import weights
from parity_tests import draws
from parity_tests.weights.helpers import trained
from port_jax.manifolds import PoincareBall
from weights import ConversionError

SLOW = 20.0


def seeds(folder: Path) -> list[tuple[str, bytes]]:
    """Files of every format, small, with how each is read."""
    net, opt = trained()
    tree = {"model": net.state_dict(), "optimizer": opt.state_dict(), "epoch": 3, "args": {"lr": 0.1}}
    files = []
    for zipped in (True, False):
        for content in (tree, dict(net.named_parameters()), net):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.save(content, folder / "seed.pth", _use_new_zipfile_serialization=zipped)
            files.append(("load", (folder / "seed.pth").read_bytes()))
    safetensors.numpy.save_file({k: v.numpy() for k, v in net.state_dict().items()}, folder / "seed.safetensors")
    files.append(("load", (folder / "seed.safetensors").read_bytes()))
    torch.save(tree, folder / "seed.pth")
    for name in ("seed.npz", "converted.safetensors"):
        weights.load(folder / "seed.pth", arch="tree", manifolds={"emb": PoincareBall(0.7)}).save(folder / name)
        files.append(("restore", (folder / name).read_bytes()))
    for path in folder.iterdir():
        path.unlink()
    return files


def mutated(data: bytes, random: np.random.Generator) -> bytes:
    """One to four changes: bytes flipped, set, cut out, inserted, repeated, swapped, or the end lost."""
    out = bytearray(data)
    for _ in range(random.integers(1, 5)):
        at, length = int(random.integers(0, max(len(out), 1))), int(random.integers(1, 17))
        kind = random.integers(0, 7)
        if kind == 0 and out:
            out[at] ^= 1 << int(random.integers(0, 8))
        elif kind == 1 and out:
            out[at] = int(random.choice([0, 1, 0x7F, 0x80, 0xFF, *b"cRbQ.(t}]KMJq"]))
        elif kind == 2:
            del out[at : at + length]
        elif kind == 3:
            out[at:at] = random.bytes(length)
        elif kind == 4:
            out[at:at] = out[at : at + length]
        elif kind == 5:
            other = int(random.integers(0, max(len(out), 1)))
            out[at : at + length], out[other : other + length] = out[other : other + length], out[at : at + length]
        elif random.random() < 0.2:
            del out[at:]
    return bytes(out)


def attempt(path: Path, way: str = "load") -> str:
    """What became of a file by `weights.load` or `weights.restore`: "read", or the kind of error; anything else is raised."""
    try:
        given = {"arch": "tree", "manifolds": {"emb": PoincareBall(0.7)}}
        ckpt = weights.restore(path) if way == "restore" else weights.load(path, **given)
    except ConversionError as error:
        if not str(error).startswith(str(path)) or not error.remedy:
            raise RuntimeError(f"a message without file or remedy: {error}") from error
        return type(error).__name__
    assert ckpt.variables["params"]
    return "read"


def main(count: int = 10_000, seed: int = 0, quiet: bool = False) -> dict[str, int]:
    """Runs `count` mutations and counts what became of them. Raises for a crash, a hang, or anything written."""
    random = draws.rng(seed)
    outcome: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = seeds(folder)
        path = folder / "fuzzed.pth"
        for number in tqdm(range(count), disable=quiet or None):
            way, data = files[int(random.integers(0, len(files)))]
            path.write_bytes(mutated(data, random))
            start = time.process_time()
            try:
                kind = attempt(path, way)
            except BaseException:
                print(f"mutation {number} of seed {seed} crashes the reader", file=sys.stderr)
                raise
            assert time.process_time() - start < SLOW, f"mutation {number} of seed {seed} takes {time.process_time() - start:.0f} s"
            outcome[kind] = outcome.get(kind, 0) + 1
        assert {p.name for p in folder.iterdir()} == {"fuzzed.pth"}
    return outcome


if __name__ == "__main__":
    print(main(*map(int, sys.argv[1:])))
