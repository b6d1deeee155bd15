"""A checkpoint whose table is split over two processes, saved in each form and exported; what each process is told of errors.

python -m parity_tests.weights.saved_by_two FILE.pth FOLDER COUNT INDEX PORT
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

import weights
from parity_tests import processes
from port_jax.manifolds import PoincareBall
from port_jax.training import History


def main(file: str, out: str, count: str, index: str, port: str) -> None:
    processes.begin(count, index, port)
    mesh = jax.make_mesh((jax.device_count(),), ("x",))
    ckpt = weights.load(file, arch="tree", manifolds={"emb": PoincareBall(0.7)}, optimizer=False)
    table = np.asarray(ckpt.variables["params"]["emb"])
    split = jax.make_array_from_callback(table.shape, NamedSharding(mesh, PartitionSpec("x")), lambda at: table[at] / 2)
    assert not split.is_fully_addressable
    ckpt = dataclasses.replace(ckpt, variables={"params": {**ckpt.variables["params"], "emb": split}})
    folder = Path(out)
    for name in ("folder", "one.npz", "one.safetensors"):
        ckpt.save(folder / name)
    ckpt.export(folder / "back.pth")
    weights.export(folder / "folder", folder / "again.pth")
    told = []
    for call in (
        lambda: ckpt.save(folder / "folder" / "config.json" / "x"),
        lambda: ckpt.export(folder / "back.pth"),
        lambda: ckpt.save(folder / f"own_{index}"),
    ):
        try:
            call()
        except weights.ConversionError as error:
            told.append(f"{type(error).__name__}: {error}")
    History(evaluations=[{"step": 1, "loss": 0.5}]).save(folder / "history.csv")
    ckpt.save(folder / "folder")  # over what this wrote
    (folder / f"told_{index}").write_text("\n".join(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
