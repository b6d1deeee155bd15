"""What a person waits for, from the start of the process: the first step, 200 steps, a run of the accuracy table, a command of the shell.

`python -m benchmarks startup` runs each piece of work in processes of its own, which take turns: in torch, in JAX with an empty folder of
compiled programs (cold), and in JAX with that folder as the first left it (warm). `python -m benchmarks.startup WORK SIDE ...` is one
process; it prints the seconds since its parent started it.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

ROUNDS = 5
STEPS = 200
NODES, EDGES, WIDTH, CLASSES = 3_188, 40_448, 32, 8
CONFIG: dict[str, Any] = {"in_features": WIDTH, "features": (16, 16), "heads": 4, "preset": "htgn", "num_classes": CLASSES,
                          "classifier": "hyperplanes", "learnable_curvature": True}  # fmt: skip
ACCURACY = [(model, graph) for graph in ("airport", "cora", "disease_lp") for model in ("HGCN", "HGAT", "HyboNet")]
HERE = Path(__file__).parent.parent
BEGUN = "HYPERPORT_BENCHMARK_BEGUN"

Seconds = Mapping[str, float]


def rows(quick: bool) -> Iterator[dict[str, Any]]:
    """Medians over five processes of each kind, one with `quick`."""
    rounds = 1 if quick else ROUNDS
    for name, seconds in both("hgat", [], rounds).items():
        cold, warm = (8.0, 4.0) if name == "the first step" else (seconds["torch"], seconds["torch"] / 2)
        yield row(f"HGAT, {NODES:,} nodes, {EDGES:,} edges, to {name}", seconds, cold, warm)
    data = Path(os.environ.get("DATA") or HERE.parent / "shared" / "data")
    if (data / "cora.npz").exists():
        for model, graph in ACCURACY[:1] if quick else ACCURACY:
            seconds = both("accuracy", [str(data), model, graph], rounds)["the end"]
            yield row(f"{model}, {graph}, {STEPS} steps", seconds, seconds["torch"], seconds["torch"] / 2)
    yield from commands(rounds)


def row(work: str, seconds: Seconds, cold: float | None, warm: float | None) -> dict[str, Any]:
    """One line of the table, with the goals in seconds."""
    goals = {"cold_goal_s": cold, "warm_goal_s": warm}
    return {"work": work, **{f"{side}_s": s for side, s in seconds.items()}, **{k: v for k, v in goals.items() if v is not None}}


def both(work: str, arguments: list[str], rounds: int) -> dict[str, Seconds]:
    """What was waited for -> side -> the median of its seconds."""
    found: dict[str, dict[str, list[float]]] = {}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as programs:
            for side, kind in (("torch", "torch"), ("cold", "jax"), ("warm", "jax")):
                command = [sys.executable, "-m", "benchmarks.startup", work, kind, *arguments]
                for name, seconds in json.loads(started(command, programs).stdout.splitlines()[-1]).items():
                    found.setdefault(name, {}).setdefault(side, []).append(seconds)
    return {name: {side: statistics.median(times) for side, times in sides.items()} for name, sides in found.items()}


def commands(rounds: int) -> Iterator[dict[str, Any]]:
    """hyperport on the checkpoint of the demo."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        demo = [sys.executable, "examples/migrate_hgat.py", "--out", str(folder / "demo")]
        yield row("make demo, after installation", taken(demo, rounds), 40.0, None)
        started([sys.executable, "-m", "benchmarks.startup", "checkpoint", "torch", name], name)
        file, out = str(folder / "hgat.pth"), str(folder / "converted")
        words = {"inspect": ([file], 1.5), "convert": ([file, "--out", out, "--force"], 3.0), "verify": ([file, "--converted", out], 10.0)}
        for command, (arguments, goal) in words.items():
            seconds = taken([str(Path(sys.executable).parent / "hyperport"), command, *arguments], rounds)
            yield row(f"hyperport {command}", seconds, None, goal)


def taken(command: list[str], rounds: int) -> Seconds:
    """Medians of the seconds of a whole process, with an empty folder of programs and again."""
    times: dict[str, list[float]] = {"cold": [], "warm": []}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as programs:
            for found in times.values():
                begun = time.perf_counter()
                started(command, programs)
                found.append(time.perf_counter() - begun)
    return {side: statistics.median(found) for side, found in times.items()}


def started(command: list[str], programs: str) -> subprocess.CompletedProcess[str]:
    """Runs a process that keeps its compiled programs in a folder."""
    home = {"JAX_COMPILATION_CACHE_DIR": programs, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    env = {**os.environ, **home, BEGUN: repr(time.time())}
    return subprocess.run(command, env=env, cwd=HERE, check=True, capture_output=True, text=True)


def since() -> float:
    """Seconds since the parent started this process."""
    return time.time() - float(os.environ[BEGUN])


# What one process does.


def hgat(kind: str) -> Seconds:
    """Training steps of an HGAT on a power-law graph."""
    import numpy as np

    from benchmarks.powerlaw import powerlaw_edges

    senders, receivers = powerlaw_edges(NODES, EDGES)
    rng = np.random.default_rng(0)
    features, labels = 0.1 * rng.standard_normal((NODES, WIDTH), dtype=np.float32), rng.integers(0, CLASSES, NODES)
    return (hgat_torch if kind == "torch" else hgat_jax)(senders, receivers, features, labels)


def hgat_torch(senders: Any, receivers: Any, features: Any, labels: Any) -> Seconds:
    """In torch, as a user of geoopt writes it."""
    import torch
    from geoopt.optim import RiemannianAdam

    from reference_torch.graphs.graph import Graph
    from reference_torch.models.hgat import HGAT

    model = HGAT(**CONFIG)
    graph = Graph(torch.from_numpy(senders).long(), torch.from_numpy(receivers).long(), NODES)
    x, y, optimizer = torch.from_numpy(features), torch.from_numpy(labels), RiemannianAdam(model.parameters(), lr=1e-2)
    first = 0.0
    for number in range(STEPS):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x, graph), y).backward()
        optimizer.step()
        first = since() if number == 0 else first
    return {"the first step": first, f"the end of {STEPS} steps": since()}


def hgat_jax(senders: Any, receivers: Any, features: Any, labels: Any) -> Seconds:
    """In JAX, as the README writes it."""
    import jax

    from port_jax.graphs import Graph
    from port_jax.losses import cross_entropy
    from port_jax.models import HGAT
    from port_jax.optim import riemannian_adam
    from port_jax.training import fit, gradient_step, train_state

    graph, model = Graph.from_edges(senders, receivers, num_nodes=NODES), HGAT(**CONFIG)
    params = jax.jit(model.init)(jax.random.key(0), features, graph)["params"]
    optimizer = riemannian_adam(1e-2, manifolds=model.manifolds)

    def loss(params: Any, batch: Any, key: Any) -> jax.Array:
        x, graph, y = batch
        return cross_entropy(cast(jax.Array, model.apply({"params": params}, x, graph)), y)

    step, batch = gradient_step(loss, optimizer), (features, graph, labels)
    state = fit(step, train_state(params, optimizer, jax.random.key(1)), steps=1, batch=batch, progress=False).state
    first = since()
    jax.block_until_ready(fit(step, state, steps=STEPS, batch=batch, progress=False).state)
    return {"the first step": first, f"the end of {STEPS} steps": since()}


def accuracy(kind: str, data: str, model: str, graph: str) -> Seconds:
    """A run of the accuracy table, without early stopping."""
    from dataclasses import replace

    import benchmarks.accuracy as table

    name, task, settings = next((n, t, s[model]) for n, t, s in table.CASES if n == graph)
    given = table.problem(Path(data), name, task, model != "HGAT", settings.normalize, 0)
    train = table.train_torch if kind == "torch" else table.train_jax
    train(model, given, replace(settings, patience=10 * STEPS), 0, STEPS, 5)
    return {"the end": since()}


def checkpoint(kind: str, folder: str) -> Seconds:
    """The demo's file, after a few steps."""
    command = [sys.executable, "examples/migrate_hgat.py", "--out", folder, "--steps", "10", "--level", "bits"]
    subprocess.run(command, cwd=HERE, check=True, capture_output=True)
    return {"the end": since()}


if __name__ == "__main__":
    print(json.dumps({"hgat": hgat, "accuracy": accuracy, "checkpoint": checkpoint}[sys.argv[1]](*sys.argv[2:])))
