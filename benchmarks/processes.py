"""What one process of the start-up times does: `python -m benchmarks.processes WORK ARGUMENT ...`.

Its parent (`benchmarks/startup.py`) puts the time at which it started the process into the environment; the process prints the seconds
since then, or the numbers of programs that it compiled, as JSON. Imports stand in the functions, because they are part of what is measured.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

NODES, EDGES, WIDTH, CLASSES = 3_188, 40_448, 32, 8
CONFIG: dict[str, Any] = {"in_features": WIDTH, "features": (16, 16), "heads": 4, "preset": "htgn", "num_classes": CLASSES,
                          "classifier": "hyperplanes", "learnable_curvature": True}  # fmt: skip
RATE = 1e-2
HERE = Path(__file__).parent.parent
BEGUN = "HYPERPORT_BENCHMARK_BEGUN"
EXPORTED = "step.bin", "arrays.npz"
"""The exported training step, and the arrays that it begins with."""

Numbers = Mapping[str, float]


def since() -> float:
    """Seconds since the parent started this process."""
    return time.time() - float(os.environ[BEGUN])


def hgat_arrays() -> tuple[Any, Any, Any, Any]:
    """Senders, receivers, features and labels of a power-law graph."""
    import numpy as np

    from benchmarks.powerlaw import powerlaw_edges

    rng = np.random.default_rng(0)
    features, labels = 0.1 * rng.standard_normal((NODES, WIDTH), dtype=np.float32), rng.integers(0, CLASSES, NODES)
    return *powerlaw_edges(NODES, EDGES), features, labels


def hgat(kind: str, steps: str) -> Numbers:
    """The first training step of an HGAT, and the last."""
    return (hgat_torch if kind == "torch" else hgat_jax)(int(steps))


def hgat_torch(steps: int) -> Numbers:
    """In torch, as a user of geoopt writes it."""
    import torch
    from geoopt.optim import RiemannianAdam

    from reference_torch.graphs.graph import Graph
    from reference_torch.models.hgat import HGAT

    senders, receivers, features, labels = hgat_arrays()
    model = HGAT(**CONFIG)
    graph = Graph(torch.from_numpy(senders).long(), torch.from_numpy(receivers).long(), NODES)
    x, y, optimizer = torch.from_numpy(features), torch.from_numpy(labels), RiemannianAdam(model.parameters(), lr=RATE)
    first = 0.0
    for number in range(steps):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x, graph), y).backward()
        optimizer.step()
        first = since() if number == 0 else first
    return {"first": first, "last": since()}


class Training(NamedTuple):
    """An HGAT in JAX, as the README writes it."""

    model: Any
    params: Any
    optimizer: Any
    loss: Callable[..., Any]
    """(params, batch, key) -> a number."""
    batch: tuple[Any, ...]
    """Features, graph and labels."""


def training() -> Training:
    """Model, initial parameters, optimizer, loss and data."""
    import jax

    from port_jax.graphs import Graph
    from port_jax.losses import cross_entropy
    from port_jax.models import HGAT
    from port_jax.optim import riemannian_adam

    senders, receivers, features, labels = hgat_arrays()
    graph, model = Graph.from_edges(senders, receivers, num_nodes=NODES), HGAT(**CONFIG)
    params = jax.jit(model.init)(jax.random.key(0), features, graph)["params"]

    def loss(params: Any, batch: Any, key: Any) -> jax.Array:
        x, graph, y = batch
        return cross_entropy(cast(jax.Array, model.apply({"params": params}, x, graph)), y)

    return Training(model, params, riemannian_adam(RATE, manifolds=model.manifolds), loss, (features, graph, labels))


def hgat_jax(steps: int) -> Numbers:
    """In JAX, by `fit`."""
    import jax

    from port_jax.training import fit, gradient_step, train_state

    given = training()
    step = gradient_step(given.loss, given.optimizer)
    state = train_state(given.params, given.optimizer, jax.random.key(1))
    state = fit(step, state, steps=1, batch=given.batch, progress=False).state
    first = since()
    jax.block_until_ready(fit(step, state, steps=steps, batch=given.batch, progress=False).state)
    return {"first": first, "last": since()}


def tidhy(kind: str, sequences: str, times: str, iterations: str, updates: str) -> Numbers:
    """The first training step of TiDHy, and the last."""
    from benchmarks import tidhy as work

    sizes, count = (int(sequences), int(times), int(iterations)), int(updates)
    if kind == "torch":
        once, first = work.torch_training(*sizes), 0.0
        for number in range(count):
            once()
            first = since() if number == 0 else first
        return {"first": first, "last": since()}
    import jax

    from port_jax.models import TiDHy
    from port_jax.models.tidhy_inference import Inference
    from port_jax.training import fit

    model, x = TiDHy(work.WIDTH, inference=Inference(**work.RATES)), jax.numpy.asarray(work.sequences(*sizes[:2]))
    params = jax.jit(model.init)(jax.random.key(0), x)["params"]
    step, state = work.begun(model, params, sizes[2])
    state = fit(step, state, steps=1, batch=x, progress=False).state
    first = since()
    jax.block_until_ready(fit(step, state, steps=count, batch=x, progress=False).state)
    return {"first": first, "last": since()}


def export(folder: str) -> Numbers:
    """Writes the training step as a program of its own (`jax.export`) to a folder, with the arrays that it begins with."""
    import jax
    import numpy as np
    import optax
    from jax import export as jax_export

    given = training()
    carry = given.params, given.optimizer.init(given.params)
    leaves, structure = jax.tree.flatten((carry, given.batch))

    @jax.jit
    def step(*leaves: Any) -> Any:
        (params, state), batch = jax.tree.unflatten(structure, leaves)
        updates, state = given.optimizer.update(jax.grad(given.loss)(params, batch, None), state, params)
        return jax.tree.leaves((optax.apply_updates(params, updates), state))

    leaves = [np.asarray(leaf) for leaf in leaves]
    program, arrays = (Path(folder) / name for name in EXPORTED)
    program.write_bytes(jax_export.export(step)(*leaves).serialize())
    np.savez(arrays, *leaves)
    return {"first": since()}


def exported(folder: str) -> Numbers:
    """Reads the program and its arrays, and makes a step."""
    import jax
    import numpy as np
    from jax import export as jax_export

    program, arrays = (Path(folder) / name for name in EXPORTED)
    with np.load(arrays) as data:
        leaves = [data[name] for name in data.files]
    step = jax.jit(jax_export.deserialize(bytearray(program.read_bytes())).call)
    jax.block_until_ready(step(*leaves))
    return {"first": since()}


def problem(data: str, model: str, graph: str, path: str) -> Numbers:
    """Writes the arrays of a row of the accuracy table, with which both sides begin."""
    from benchmarks import accuracy_problems as table

    name, task, settings = next((n, t, s[model]) for n, t, s in table.CASES if n == graph)
    table.problem(Path(data), name, task, model != "HGAT", settings.normalize, 0).save(Path(path))
    return {"last": since()}


def accuracy(kind: str, path: str, model: str, graph: str, steps: str) -> Numbers:
    """A run of the accuracy table, without early stopping. The process imports what its side needs."""
    from dataclasses import replace
    from importlib import import_module

    from benchmarks import accuracy_problems as table

    side = import_module(f"benchmarks.accuracy_{kind}")
    settings = next(s[model] for n, _, s in table.CASES if n == graph)
    side.train(model, table.Problem.load(Path(path)), replace(settings, patience=10 * int(steps)), 0, int(steps), 5)
    return {"last": since()}


def checkpoint(folder: str) -> Numbers:
    """The demo's file, after a few steps."""
    command = [sys.executable, "examples/migrate_hgat.py", "--out", folder, "--steps", "10", "--level", "bits"]
    subprocess.run(command, cwd=HERE, check=True, capture_output=True)
    return {"last": since()}


def again(file: str, converted: str) -> Numbers:
    """Programs compiled by an evaluation, by `fit` with evaluations, and by `verify`, the first time and the second."""
    import jax

    import weights
    from port_jax.training import fit, gradient_step, train_state
    from weights.proof.verify import verify

    count = 0

    def note(event: str, duration_secs: float, **kwargs: Any) -> None:
        nonlocal count
        count += event == "/jax/core/compile/backend_compile_duration"

    jax.monitoring.register_event_duration_secs_listener(note)
    given = training()
    x, graph, labels = given.batch
    step, predict = gradient_step(given.loss, given.optimizer), jax.jit(given.model.apply)
    states = [train_state(given.params, given.optimizer, jax.random.key(1))]

    def evaluate(params: Any) -> dict[str, float]:
        return {"right": float((predict({"params": params}, x, graph).argmax(-1) == labels).mean())}

    def trained() -> None:
        found = fit(step, states[-1], steps=4 * len(states), batch=given.batch, evaluate=evaluate, progress=False)
        states.append(found.state)

    def verified() -> None:
        with jax.enable_x64(True):
            verify(weights.restore(converted), file)

    work: dict[str, Callable[[], Any]] = {"an evaluation": lambda: evaluate(states[-1].params), "fit": trained, "verify": verified}
    found = {}
    for name, do in work.items():
        for time_ in ("first", "second"):
            before = count
            do()
            found[f"{name}, {time_}"] = count - before
    return found


WORK: dict[str, Callable[..., Numbers]] = {
    "hgat": hgat, "tidhy": tidhy, "export": export, "exported": exported, "problem": problem, "accuracy": accuracy,
    "checkpoint": checkpoint, "again": again,
}  # fmt: skip

if __name__ == "__main__":
    print(json.dumps(WORK[sys.argv[1]](*sys.argv[2:])))
