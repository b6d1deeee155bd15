"""One epoch of Poincaré embeddings (arXiv 1705.08039) over the closure of a hierarchy: `python -m benchmarks poincare [--quick]`.

The hierarchy is a random recursive tree with as many nodes as WordNet has nouns; the parent of each node is drawn from the nodes before it.
A batch has 1,024 pairs of the closure with 50 random negatives each. The loss is the cross entropy of the negated distances, and Riemannian
SGD updates the rows of the batch. A call does `BATCHES` batches, including the drawing of negatives, and the figure is scaled to an epoch.
torch can do this with sparse gradients and geoopt's SparseRiemannianSGD, or with dense gradients and its RiemannianSGD; each has a row.
In JAX, the batches of a call are one `lax.scan`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import geoopt
import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks.case import Case, Side
from port_jax.data import ranking_batch, transitive_closure
from port_jax.losses import cross_entropy
from port_jax.models import PoincareEmbeddings
from port_jax.optim import RowGradients, sparse_riemannian_sgd
from reference_torch.models.poincare_embeddings import PoincareEmbeddings as TorchEmbeddings

NODES, WIDTH, BATCH, NEGATIVES, RATE = 82_115, 10, 1_024, 50, 0.3
BATCHES = 10


def cases(quick: bool = False) -> Iterator[Case]:
    """One case for sparse and one for dense gradients in torch; `quick` takes a tenth of the nodes."""
    nodes = NODES // 10 if quick else NODES
    for way, goal in (("sparse", 10.0), ("dense", 5.0)):
        yield case(nodes, way)._replace(goal=goal)


def case(nodes: int, way: str) -> Case:
    """An epoch with sparse or dense gradients in torch. A batch reads its rows for the loss, and reads and writes them for the step."""
    pairs = len(closure(nodes))
    work = f"Poincaré embeddings, an epoch over the {pairs:,} pairs of a tree of {nodes:,} nodes, geoopt with {way} gradients"
    moved = 4 * BATCHES * BATCH * (NEGATIVES + 2) * (3 * WIDTH + 1)
    return Case(work, Side(torch_batches, (nodes, way)), Side(jax_batches, (nodes,)), scale=pairs / (BATCH * BATCHES), moved=moved,
                notes={"batches_timed": BATCHES, "batches": -(-pairs // BATCH)})  # fmt: skip


def closure(nodes: int) -> np.ndarray:
    """The pairs of a node and one of its ancestors, int32 [P, 2], in random order."""
    rng = np.random.default_rng(0)
    parents = rng.integers(0, np.arange(1, nodes))
    return rng.permutation(transitive_closure(np.stack([np.arange(1, nodes), parents]), nodes))


def torch_batches(nodes: int, way: str) -> Callable[[], None]:
    """The torch side: a loop over batches."""
    model = TorchEmbeddings(nodes, WIDTH)
    model.lt.sparse = way == "sparse"
    kind = geoopt.optim.SparseRiemannianSGD if way == "sparse" else geoopt.optim.RiemannianSGD
    optimizer = kind(model.parameters(), lr=RATE)
    batches = torch.from_numpy(closure(nodes)[: BATCH * BATCHES]).long().split(BATCH)
    first = torch.zeros(BATCH, dtype=torch.long)

    def step() -> None:
        for pairs in batches:
            optimizer.zero_grad()
            inputs = torch.cat([pairs, torch.randint(nodes, (BATCH, NEGATIVES))], 1)
            torch.nn.functional.cross_entropy(-model(inputs), first).backward()
            optimizer.step()

    return step


def jax_batches(nodes: int) -> Callable[[], None]:
    """The JAX side: a scan over batches, with the table donated."""
    model = PoincareEmbeddings(size=nodes, dim=WIDTH)
    table = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 2), jnp.int32))["params"]["embedding"]
    optimizer = sparse_riemannian_sgd(RATE, manifolds=model.geometry)
    batches = jnp.asarray(closure(nodes)[: BATCH * BATCHES]).reshape(BATCHES, BATCH, 2)

    def loss(rows: jax.Array, table: jax.Array) -> jax.Array:
        energies: Any = model.apply({"params": {"embedding": table}}, rows, method="energies")
        return cross_entropy(-energies, jnp.zeros(BATCH, jnp.int32))

    def one(carry: Any, batch: Any) -> Any:
        table, state = carry
        key, pairs = batch
        inputs = ranking_batch(key, pairs, nodes, NEGATIVES)
        gradient = jax.grad(loss)(table[inputs], table)
        return optimizer.step(table, state, RowGradients(inputs.ravel(), gradient.reshape(-1, WIDTH))), None

    @jax.jit
    def several(carry: Any, key: jax.Array, batches: jax.Array) -> Any:
        return jax.lax.scan(one, carry, (jax.random.split(key, BATCHES), batches))[0]

    compiled = jax.jit(several, donate_argnums=0)
    carry = [((table, optimizer.init(table)), jax.random.key(1))]

    def step() -> None:
        held, key = carry[0]
        key, now = jax.random.split(key)
        carry[0] = jax.block_until_ready(compiled(held, now, batches)), key

    return step
