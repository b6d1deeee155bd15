"""Embeds a large tree in hyperbolic space: one program for a laptop, for one machine with many devices, and for a cluster.

    python -m examples.cluster.embed_tree                                  # on what there is
    python -m examples.cluster.embed_tree --simulate 8                     # on eight simulated devices
    srun python -m examples.cluster.embed_tree --out /shared/tree          # as tree.sbatch has it; tree.yaml is for Kubernetes

Each node of a complete tree is a point of the Poincaré ball. A step draws nodes, and for each of them one of its ancestors and some other
nodes, and moves the points so that the ancestor is the nearest (Nickel and Kiela, "Poincaré embeddings", NIPS 2017, equation 6). Batches
depend on the number of the step alone, so runs on any number of devices and processes differ by rounding only.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

import numpy as np

from examples.cluster.options import parsed


def ancestors(nodes: np.ndarray, branching: int, rng: np.random.Generator) -> np.ndarray:
    """An ancestor of each node; the root, which has none, keeps itself."""
    depth = np.zeros(len(nodes), int)
    above = nodes
    while (above > 0).any():
        depth += above > 0
        above = np.maximum(above - 1, 0) // branching
    steps, found = rng.integers(1, np.maximum(depth, 1) + 1), nodes
    for step in range(depth.max(initial=0)):
        found = np.where(step < steps, np.maximum(found - 1, 0) // branching, found)
    return found


def lines(number: int, size: int, branching: int, count: int, negatives: int) -> np.ndarray:
    """`count` lines of a node, one of its ancestors, and `negatives` other nodes."""
    rng = np.random.default_rng([7, number])
    nodes = rng.integers(1, size, count)
    others = rng.integers(0, size, (count, negatives))
    return np.concatenate([nodes[:, None], ancestors(nodes, branching, rng)[:, None], others], 1).astype(np.int32)


def main() -> None:
    parser = argparse.ArgumentParser(description="Embeds a complete tree in the Poincaré ball.")
    parser.add_argument("--branching", type=int, default=8, help="children of each node")
    parser.add_argument("--depth", type=int, default=6, help="of the tree; the default has 299,593 nodes")
    parser.add_argument("--dim", type=int, default=10)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=1024, help="lines of a batch, on all devices together")
    parser.add_argument("--negatives", type=int, default=10)
    parser.add_argument("--lr", type=float, default=0.02)
    given = parsed(parser)

    import jax
    import jax.numpy as jnp
    from jax.sharding import AxisType

    from port_jax.manifolds import PoincareBall
    from port_jax.optim import sparse_riemannian_adam
    from port_jax.training import Plan, distributed, fit, sparse_step, train_state

    index, processes = distributed()
    ball = PoincareBall(1.0)
    plan = Plan(jax.make_mesh((jax.device_count(),), ("x",), axis_types=(AxisType.Auto,)), tables=("points",))
    if given.batch % jax.device_count():
        sys.exit(f"--batch is {given.batch}, which {jax.device_count()} devices do not divide; give a multiple")
    nodes = sum(given.branching**level for level in range(given.depth + 1))
    rows = -(-nodes // jax.device_count()) * jax.device_count()  # the last rows stand for no node, and are never named
    optimizer = sparse_riemannian_adam(given.lr, manifolds={"points": ball})

    def energy(points: Any) -> Any:
        return ball.dist(points[:, :1], points[:, 1:])

    def loss(found: Any, batch: Any, key: Any) -> Any:
        scores = -energy(found["points"])
        return jnp.mean(jax.nn.logsumexp(scores, axis=1) - scores[:, 0])

    def batches(number: int) -> np.ndarray:
        return np.split(lines(number, nodes, given.branching, given.batch, given.negatives), processes)[index]

    @jax.jit
    def nearest(points: Any, seen: Any) -> Any:
        far = energy(points[seen])
        return jnp.mean(far[:, 0] < far[:, 1:].min(1))

    def evaluate(params: Any) -> dict[str, float]:
        """The share of lines, always the same ones, whose ancestor is nearer than all others."""
        return {"nearest": float(nearest(params["points"], lines(2**31, nodes, given.branching, 512, given.negatives)))}

    def begun() -> Any:
        points = ball.expmap0(1e-2 * jax.random.normal(jax.random.key(0), (rows, given.dim)))  # a node's numbers depend on the key alone
        return train_state({"points": points}, optimizer, jax.random.key(1))

    result = fit(
        sparse_step(loss, optimizer, lambda batch: {"points": batch}, plan=plan),
        plan.made(begun),
        steps=given.steps,
        batches=batches,
        plan=plan,
        evaluate=evaluate,
        every=max(1, given.steps // 4),
        monitor="nearest",
        folder=None if given.out is None else given.out / "run",
    )
    last = {name: values[-1] for name, values in result.history.steps.items() if values}
    told = {"nodes": nodes, "devices": jax.device_count(), "processes": processes, "step": int(result.state.step), **last}
    told |= {name: value for name, value in result.history.evaluations[-1].items() if name != "step"}
    if index == 0:
        print(json.dumps(told))
    if given.out is not None:
        result.history.save(given.out / "history.csv")


if __name__ == "__main__":
    main()
