"""Trains a hyperbolic graph attention network on samples of a graph on disk: for a laptop, for many devices, and for a cluster.

    python -m examples.cluster.train_hgat                                  # a graph that it draws itself, on what there is
    python -m examples.cluster.train_hgat --simulate 8                     # on eight simulated devices
    python -m examples.cluster.train_hgat --edges edges.parquet --features x.npy --labels y.npy --out run
    srun python -m examples.cluster.train_hgat ... --out /shared/hgat      # as hgat.sbatch has it; hgat.yaml is for Kubernetes

The first process writes the edges by receiver (`port_jax.data.store_graph`), and all map them into memory, as they do the features [N, F]
and the labels [N], -1 where a node has none. A step takes `--batches` samples of neighbourhoods (Hamilton, Ying, Leskovec 2017), one or
more on each device, and adds their gradients. Samples depend on their number alone, so runs on any number of devices and processes
differ by rounding only.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from examples.cluster.options import parsed


def drawn(folder: Path, nodes: int, classes: int) -> list[Path]:
    """A graph whose nodes have as class the subtree of a random tree in which they are, with features that say little of it."""
    rng = np.random.default_rng(7)
    above = rng.integers(0, np.maximum(np.arange(nodes), 1))
    labels = np.arange(nodes) % classes
    for node in range(classes, nodes):
        labels[node] = labels[above[node]]
    features = rng.normal(size=(nodes, 16)) + 0.5 * np.eye(classes, 16)[labels]
    paths = [folder / name for name in ("edges.npz", "features.npy", "labels.npy")]
    np.savez(paths[0], edges=np.stack([np.arange(1, nodes), above[1:]]))
    np.save(paths[1], features.astype(np.float32))
    np.save(paths[2], labels.astype(np.int32))
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description="Trains a hyperbolic graph attention network on samples of a graph on disk.")
    parser.add_argument("--edges", type=Path, nargs="+", help="edge lists: .parquet, .npz, .csv, .tsv or .txt; by default a graph is drawn")
    parser.add_argument("--features", type=Path, help="of the nodes, .npy [N, F]")
    parser.add_argument("--labels", type=Path, help="of the nodes, .npy [N], from 0; -1 for none")
    parser.add_argument("--nodes", type=int, default=20000, help="of the graph that is drawn")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batches", type=int, default=8, help="samples of a step, on all devices together")
    parser.add_argument("--batch", type=int, default=64, help="nodes of a sample whose classes are learned")
    parser.add_argument("--fanouts", type=int, nargs="+", default=[10, 10], help="neighbours of each node, hop by hop")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--lr", type=float, default=0.01)
    given = parsed(parser)
    if (given.edges is None) != (given.features is None) or (given.edges is None) != (given.labels is None):
        sys.exit("--edges, --features and --labels belong together; give all of them, or none to draw a graph")

    from port_jax.training import distributed

    index, processes = distributed()
    if given.out is None and processes > 1:
        sys.exit("--out is missing; several processes need a folder that all of them see")
    with tempfile.TemporaryDirectory() as scratch:
        run(given, Path(scratch) if given.out is None else given.out, index, processes)


def run(given: Any, out: Path, index: int, processes: int) -> None:
    import jax
    import jax.numpy as jnp
    import optax
    from jax.experimental import multihost_utils
    from jax.sharding import AxisType

    from port_jax.data import NeighborSampler, StoredGraph, store_graph
    from port_jax.models import HGAT
    from port_jax.optim import riemannian_adam
    from port_jax.training import Plan, StackedBatches, fit, gradient_step, mean_over_batches, train_state

    if given.batches % jax.device_count():
        sys.exit(f"--batches is {given.batches}, which {jax.device_count()} devices do not divide; give a multiple")
    if index == 0 and (out / "graph").exists():
        print(f"The graph is that in {out / 'graph'}, which an earlier run wrote.", file=sys.stderr)
    elif index == 0:
        out.mkdir(parents=True, exist_ok=True)
        edges = given.edges or drawn(out, given.nodes, 4)[:1]
        store_graph(edges, out / "graph", directed=False)
    if processes > 1:
        multihost_utils.sync_global_devices("the graph is written")
    graph = StoredGraph.open(out / "graph")
    features, labels = (np.load(path or out / name, mmap_mode="r") for path, name in
                        ((given.features, "features.npy"), (given.labels, "labels.npy")))  # fmt: skip
    for name, array in (("features", features), ("labels", labels)):
        if len(array) != graph.num_nodes:
            sys.exit(f"--{name} has {len(array)} rows, and the graph has {graph.num_nodes} nodes; give a row for each node")
    known = np.random.default_rng(1).permutation(np.flatnonzero(np.asarray(labels) >= 0))
    train, held_out = known[len(known) // 5 :], known[: len(known) // 5]

    def samples(seeds: np.ndarray) -> tuple[NeighborSampler, Any]:
        sampler = NeighborSampler(graph, fanouts=given.fanouts, batch_size=given.batch, seeds=seeds)

        def batch(number: int) -> tuple[Any, ...]:
            part = sampler(number)
            return features[part.nodes], part.graph, labels[part.nodes[: given.batch]], part.mask

        return sampler, batch

    model = HGAT(in_features=features.shape[1], features=(given.width, given.width), num_classes=int(np.max(labels)) + 1, dropout=0.1)
    (sampler, batches), (_, others) = samples(train), samples(held_out)
    plan = Plan(jax.make_mesh((jax.device_count(),), ("x",), axis_types=(AxisType.Auto,)))

    def loss(params: Any, batch: Any, key: Any) -> Any:
        x, graph, labels, mask = batch
        logits: Any = model.apply({"params": params}, x, graph, deterministic=False, rngs={"dropout": key})
        logits = logits[: len(mask)]
        found = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return jnp.sum(found * mask) / jnp.sum(mask)

    @jax.jit
    def right(params: Any, batch: Any) -> Any:
        x, graph, labels, mask = batch
        logits: Any = model.apply({"params": params}, x, graph)
        return jnp.sum((logits[: len(mask)].argmax(1) == labels) & mask), jnp.sum(mask)

    def evaluate(params: Any) -> dict[str, float]:
        """The share of nodes that were held out, of some samples that are always the same, whose class is found."""
        found = [right(params, others(number)) for number in range(4)]
        return {"accuracy": float(sum(int(ok) for ok, _ in found) / sum(int(all_) for _, all_ in found))}

    x, part, _, _ = batches(0)
    params = jax.jit(model.init)(jax.random.key(0), x, part)["params"]
    optimizer = riemannian_adam(given.lr, manifolds=model.manifolds(params))
    stacked = StackedBatches(batches, count=given.batches)
    result = fit(
        gradient_step(mean_over_batches(loss, plan), optimizer),
        train_state(params, optimizer, jax.random.key(1)),
        steps=given.steps,
        batches=stacked,
        plan=plan,
        evaluate=evaluate,
        every=max(1, given.steps // 4),
        monitor="accuracy",
        folder=None if given.out is None else out / "run",
    )
    last = {name: values[-1] for name, values in result.history.steps.items() if values}
    told = {"nodes": graph.num_nodes, "edges": len(graph.senders), "devices": jax.device_count(), "processes": processes,
            "step": int(result.state.step), "epochs": int(result.state.step) * given.batches / sampler.steps_per_epoch, **last}  # fmt: skip
    told |= {name: value for name, value in result.history.evaluations[-1].items() if name != "step"}
    if index == 0:
        print(json.dumps(told))
    if given.out is not None:
        result.history.save(out / "history.csv")


if __name__ == "__main__":
    main()
