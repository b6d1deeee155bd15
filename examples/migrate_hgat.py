"""Moves an HGAT from PyTorch to JAX: trains, converts and verifies it, continues the training on both sides, and compares them.

    python examples/migrate_hgat.py                                  # the class hierarchy of Python's standard library
    python examples/migrate_hgat.py --data airport.npz
    python examples/migrate_hgat.py --preset gil --manifold Lorentz

The folder --out then contains hgat.pth (torch), graph.npz, converted/ (JAX), report.json, losses.png and disk.png.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import optax
import torch
from geoopt.optim import RiemannianAdam
from torch.nn import functional as F
from tqdm import tqdm

import port_jax
import weights
from port_jax.data import DataError, GraphData, load_graph, row_normalized, sample_negatives, split_edges, split_nodes
from port_jax.graphs import Graph
from port_jax.losses import binary_cross_entropy, cross_entropy
from port_jax.manifolds import Lorentz, lorentz_to_poincare
from port_jax.memory import keep_pages
from port_jax.metrics import accuracy, roc_auc
from port_jax.plots import plot_disk
from reference_torch.graphs.graph import Graph as TorchGraph
from reference_torch.models.hgat import HGAT
from weights.views.disk_picture import legend

mpl.use("agg")
import matplotlib.pyplot as plt

CHUNK = 10  # steps in each compiled scan
LR = 0.01


class Problem:
    """Link prediction and node classification on one graph, in numpy arrays that both sides use."""

    def __init__(self, data: GraphData, steps: int):
        self.links = split_edges(data.edges, data.num_nodes, seed=0)
        if data.labels is None:
            raise SystemExit(f"{data.name}: the file has no labels, which this example needs to classify nodes")
        self.labels, self.label_names, self.nodes = data.labels, data.label_names, split_nodes(data.labels, seed=0)
        self.x = row_normalized(data.features)
        self.edges, self.train = data.edges, self.links.train
        self.graph = Graph.from_edges(self.train[:, 0], self.train[:, 1], num_nodes=data.num_nodes).undirected()
        every = sample_negatives(data.edges, data.num_nodes, min(steps, 8) * len(self.train), seed=1)
        self.negatives = np.array_split(every, min(steps, 8))

    def false_pairs(self, step: int) -> np.ndarray:
        """The pairs without a link for one step; eight sets of them are used in turn."""
        return self.negatives[step % len(self.negatives)][: len(self.train)]

    def scores(self, score: Any, logits: np.ndarray) -> dict[str, float]:
        """The ROC AUC on the test links and the accuracy on the test nodes."""
        pairs = np.concatenate([self.links.test, self.links.test_false])
        truth = np.arange(len(pairs)) < len(self.links.test)
        found = {"test ROC AUC, links": roc_auc(truth, np.asarray(score(pairs)))}
        return {**found, "test accuracy, classes": accuracy(self.labels[self.nodes.test], np.argmax(logits, 1)[self.nodes.test])}


class TorchSide:
    """The reference model, its optimizer, and one training step."""

    def __init__(self, problem: Problem, config: dict[str, Any], lr: float):
        torch.manual_seed(0)
        self.problem, self.model = problem, HGAT(**config)
        self.optimizer = RiemannianAdam(self.model.parameters(), lr=lr, stabilize=10)
        self.x, self.graph = torch.as_tensor(problem.x), TorchGraph.from_arrays(problem.graph)
        self.labels, self.nodes = torch.as_tensor(problem.labels).long(), torch.as_tensor(problem.nodes.train).long()

    def step(self, number: int) -> float:
        self.optimizer.zero_grad()
        h = self.model.encode(self.x, self.graph)
        near, far = (self.model.score(h, torch.as_tensor(p).long()) for p in (self.problem.train, self.problem.false_pairs(number)))
        links = F.binary_cross_entropy(near, torch.ones_like(near)) + F.binary_cross_entropy(far, torch.zeros_like(far))
        logits = self.model.classify(h)
        loss = links + F.cross_entropy(logits[self.nodes], self.labels[self.nodes])
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def run(self, first: int, count: int, what: str) -> tuple[list[float], float]:
        """The losses of `count` steps, and the seconds per step."""
        losses, start = [], time.perf_counter()
        with tqdm(range(first, first + count), desc=what, unit="step", disable=None) as bar:
            for number in bar:
                losses.append(self.step(number))
                bar.set_postfix(loss=f"{losses[-1]:.4f}")
        return losses, (time.perf_counter() - start) / count


def nudged(problem: Problem, config: dict[str, Any], lr: float, file: Path) -> TorchSide:
    """A second torch run from the checkpoint in which all parameters are moved by one ulp; it shows the effect of rounding alone."""
    twin, saved = TorchSide(problem, config, lr), torch.load(file, weights_only=True)
    twin.model.load_state_dict(saved["model"])
    twin.optimizer.load_state_dict(saved["optimizer"])
    with torch.no_grad():
        for parameter in twin.model.parameters():
            parameter.copy_(torch.nextafter(parameter, torch.full_like(parameter, float("inf"))))
    return twin


def apart(a: list[float], b: list[float]) -> float:
    """The largest relative difference of two curves."""
    return float(np.max(np.abs(np.subtract(a, b)) / np.abs(a)))


class JaxSide:
    """The converted model and optimizer state, and the same training step under jit and scan."""

    def __init__(self, problem: Problem, checkpoint: weights.Checkpoint):
        self.problem, self.checkpoint = problem, checkpoint
        self.params, self.state = checkpoint.variables["params"], checkpoint.opt_state
        self.x, self.pairs = jnp.asarray(problem.x), jnp.asarray(problem.train)
        self.run_chunk = jax.jit(self._chunk, donate_argnums=0)

    def loss(self, params: Any, graph: Graph, far_pairs: jax.Array) -> jax.Array:
        model, nodes = self.checkpoint.model, self.problem.nodes.train
        variables = {**self.checkpoint.variables, "params": params}
        h = model.apply(variables, self.x, graph, method="encode")
        near, far = (model.apply(variables, h, pairs, method="score") for pairs in (self.pairs, far_pairs))
        logits = model.apply(variables, h, method="classify")
        links = binary_cross_entropy(near, 1.0) + binary_cross_entropy(far, 0.0)
        return links + cross_entropy(logits[nodes], jnp.asarray(self.problem.labels[nodes]))

    def _chunk(self, carry: Any, graph: Graph, far_pairs: jax.Array) -> tuple[Any, jax.Array]:
        def step(carry: Any, far: jax.Array) -> tuple[Any, jax.Array]:
            params, state = carry
            value, grads = jax.value_and_grad(self.loss)(params, graph, far)
            updates, state = self.checkpoint.optimizer.update(grads, state, params)
            return (optax.apply_updates(params, updates), state), value

        return jax.lax.scan(step, carry, far_pairs)

    def run(self, first: int, count: int, what: str) -> tuple[list[float], float, float]:
        """The losses, the seconds per step, and the seconds of the compilation."""
        false = np.stack([self.problem.false_pairs(first + i) for i in range(count)]).reshape(-1, CHUNK, *self.pairs.shape)
        carry = (self.params, self.state)
        start = time.perf_counter()
        compiled = self.run_chunk.lower(carry, self.problem.graph, jnp.asarray(false[0])).compile()
        compiling, losses = time.perf_counter() - start, []
        start = time.perf_counter()
        with tqdm(total=count, desc=what, unit="step", disable=None) as bar:
            for chunk in false:
                carry, values = compiled(carry, self.problem.graph, jnp.asarray(chunk))
                losses += np.asarray(values).tolist()
                bar.update(CHUNK)
                bar.set_postfix(loss=f"{losses[-1]:.4f}")
        self.params, self.state = jax.block_until_ready(carry)
        return losses, (time.perf_counter() - start) / count, compiling


def shell(*arguments: str | Path) -> None:
    """Runs a `hyperport` command in a shell of its own, and stops if it fails."""
    print("\n$ hyperport", *arguments, flush=True)
    done = subprocess.run([Path(sys.executable).parent / "hyperport", *map(str, arguments)], check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


def draw_losses(path: Path, start: list[float], theirs: list[float], ours: list[float]) -> None:
    fig, ax = plt.subplots(figsize=(7, 4), layout="constrained")
    after = np.arange(len(start), len(start) + len(theirs))
    ax.plot(np.arange(len(start)), start, color="0.6", label="torch, before the conversion")
    ax.plot(after, theirs, color="C0", lw=4, alpha=0.4, label="torch, continued")
    ax.plot(after, ours, color="C3", lw=1.2, label="JAX, from the converted checkpoint")
    ax.axvline(len(start), color="0.8", lw=0.8)
    ax.set(xlabel="step", ylabel="loss", title="Training continued from one checkpoint")
    ax.legend()
    fig.savefig(path, dpi=130)


def draw_disk(path: Path, problem: Problem, manifold: Any, h: jax.Array) -> None:
    points, c = (lorentz_to_poincare(h, manifold.k), 1.0) if isinstance(manifold, Lorentz) else (h, float(manifold.c))
    fig, ax = plt.subplots(figsize=(7, 7), layout="constrained")
    plot_disk(points, problem.edges, problem.labels, ax, c=c, s=4)
    legend(ax, problem.labels, problem.label_names)
    fig.savefig(path, dpi=130)


def main() -> None:
    keep_pages()  # for both sides
    port_jax.compilation_cache()  # a second run finds the programs of the first
    about = (__doc__ or "").split("\n")[0]
    parser = argparse.ArgumentParser(description=about, epilog="example: python examples/migrate_hgat.py --data airport.npz")
    parser.add_argument("--data", type=Path, help="graph as an .npz file (default: the class hierarchy of Python's standard library)")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the results (default: out)")
    parser.add_argument("--preset", default="htgn", choices=["hat", "htgn", "gil", "markov_blanket"])
    parser.add_argument("--manifold", default="PoincareBall", choices=["PoincareBall", "Lorentz"])
    parser.add_argument("--hidden", type=int, nargs="*", default=[16], help="widths of all layers except the last (default: 16)")
    parser.add_argument("--steps", type=int, default=100, help="number of steps before the conversion, and again after it (default: 100)")
    parser.add_argument("--level", default="step", help="level of `hyperport verify` (default: step, which includes all others)")
    args = parser.parse_args()
    if args.steps % CHUNK:
        parser.error(f"--steps is {args.steps}; it must be a multiple of {CHUNK}")
    try:
        data = load_graph(args.data)
    except DataError as error:
        raise SystemExit(f"error: {error}") from None
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "graph.npz").touch()
    except OSError as error:
        raise SystemExit(f"error: {args.out}: {error.strerror}; choose another folder: --out FOLDER, or make demo OUT=FOLDER") from None
    jax.config.update("jax_platforms", "cpu")
    torch.set_num_threads(2)
    problem = Problem(data, args.steps)
    print(f"{data.name}: {data.num_nodes} nodes, {data.edges.shape[1]} edges, {data.num_classes} classes")
    np.savez(args.out / "graph.npz", edges=problem.train.T, features=problem.x)
    c = 0.3 if args.manifold == "PoincareBall" else 1 / 0.3  # the same curvature, because k is a squared radius
    config = {"in_features": problem.x.shape[1], "features": [*args.hidden, 2], "heads": 4, "preset": args.preset,
              "manifold": args.manifold, "curvature": c, "learnable_curvature": True, "num_classes": data.num_classes,
              "classifier": "hyperplanes"}  # fmt: skip
    theirs = TorchSide(problem, config, LR)
    before, _ = theirs.run(0, args.steps, "training in torch")
    file = args.out / "hgat.pth"
    stated = {**config, "arch": "hgat", "optimizer": {"name": "RiemannianAdam"}}
    saved = {"model": theirs.model.state_dict(), "optimizer": theirs.optimizer.state_dict(), "epoch": args.steps, "config": stated}
    torch.save(saved, file)

    shell("convert", file, "--out", args.out / "converted")
    shell("verify", file, "--converted", args.out / "converted", "--graph", args.out / "graph.npz", "--level", args.level,
          "--report", args.out / "verify.json", "--force")  # fmt: skip

    print()
    checkpoint = weights.restore(args.out / "converted")
    ours = JaxSide(problem, checkpoint)
    losses_jax, seconds_jax, compiling = ours.run(args.steps, args.steps, "continuing in JAX")
    losses_torch, seconds_torch = theirs.run(args.steps, args.steps, "continuing in torch")
    losses_twin, _ = nudged(problem, config, LR, file).run(args.steps, args.steps, "torch, parameters moved by one ulp")

    variables = {**checkpoint.variables, "params": ours.params}
    encode, score, classify = (jax.jit(partial(checkpoint.model.apply, method=name)) for name in ("encode", "score", "classify"))
    h = encode(variables, ours.x, problem.graph)
    metrics = problem.scores(lambda pairs: score(variables, h, pairs), np.asarray(classify(variables, h)))
    gap, drift = apart(losses_torch, losses_jax), apart(losses_torch, losses_twin)
    report = {
        "graph": {"name": data.name, "nodes": data.num_nodes, "edges": int(data.edges.shape[1])},
        "config": stated,
        "verify": json.loads((args.out / "verify.json").read_text()),
        "losses": {"torch before": before, "torch after": losses_torch, "JAX after": losses_jax},
        "largest relative difference of the losses after the conversion": gap,
        "the same between two torch runs whose parameters differ by one ulp at the start": drift,
        "seconds per step": {"torch": seconds_torch, "JAX": seconds_jax, "ratio": seconds_torch / seconds_jax},
        "seconds to compile": compiling,
        "metrics in JAX": metrics,
    }
    (args.out / "report.json").write_text(json.dumps(report, indent=1))
    draw_losses(args.out / "losses.png", before, losses_torch, losses_jax)
    draw_disk(args.out / "disk.png", problem, checkpoint.model.manifold_at(-1, ours.params), h)
    print(f"\nAfter the conversion, the float32 losses of torch and JAX differ by at most {gap:.1e} (relative) in {args.steps} steps.")
    print(f"In torch alone, they differ by {drift:.1e} if all parameters are first moved by one unit in the last place.")
    ratio = seconds_torch / seconds_jax
    print(f"Seconds per step: torch {seconds_torch:.4f}, JAX {seconds_jax:.4f}, ratio {ratio:.1f}; compilation took {compiling:.0f} s.")
    print(", ".join(f"{name} {value:.3f}" for name, value in metrics.items()))
    print(f"{args.out} contains report.json, losses.png, disk.png, hgat.pth and converted/.")


if __name__ == "__main__":
    main()
