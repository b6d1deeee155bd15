"""Models on a graph in parts give what they give on a whole one. Run by `test_parts.py`, with eight simulated devices in a new process:

XLA_FLAGS=--xla_force_host_platform_device_count=8 python -m parity_tests.graphs.on_parts NAME...
"""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType

from benchmarks.collectives import collectives
from benchmarks.scale_graphs import ring
from parity_tests import draws
from parity_tests.graphs.parts import NODES, drawn
from port_jax.graphs import (
    Graph,
    Partition,
    aggregate,
    edge_dot,
    gather_receivers,
    gather_senders,
    segment_max,
    segment_softmax,
    segment_sum,
)
from port_jax.models import GIL, HGAT, HGCN, HyboNet
from port_jax.optim import riemannian_sgd
from port_jax.training import Plan, TrainingError, distributed, fit, gradient_step, restore, train_state

NEAR = 1e-14
"""Differences of losses and gradients, relative to the largest entry."""
ORDER = draws.rng(5).permutation(NODES)
hgat = partial(HGAT, in_features=5, features=(4, 3), heads=2, curvature=(0.7, 1.3, 0.9), learnable_curvature=True, num_classes=3)
BLANKET = {"preset": "markov_blanket", "edge_features": 2, "node_features": 2, "distance": True}
MODELS = {
    "hgat htgn": hgat(),
    "hgat hat": hgat(preset="hat"),
    "hgat gil": hgat(preset="gil", distance=True),
    "hgat markov_blanket": hgat(**BLANKET),
    "hgat hyperboloid": hgat(manifold="Lorentz"),
    "hgcn": HGCN(feat_dim=5, dim=4, num_layers=3, n_classes=3, manifold="PoincareBall", c=None),
    "hgcn local": HGCN(feat_dim=5, dim=4, num_layers=3, n_classes=3, manifold="PoincareBall", c=0.7, use_att=True, local_agg=True),
    "hgcn hyperboloid": HGCN(feat_dim=6, dim=4, num_layers=3, n_classes=3, manifold="Hyperboloid", c=None, use_att=True),
    "hybonet": HyboNet(feat_dim=6, dim=5, num_layers=3, n_classes=3, use_att=True, act="relu"),
    "gil": GIL(in_features=5, features=(4,), heads=2, num_classes=3, learnable_curvature=True),
}


def plan_of(count: int = 8, kind: str = "Auto") -> Plan:
    return Plan(jax.make_mesh((count,), ("x",), axis_types=(AxisType[kind],), devices=jax.devices()[:count]))


def variables_of(model: Any, seed: int, *inputs: Any) -> Any:
    """Variables in general position, drawn for their shapes, which costs less than to compile how the model draws its own."""
    rng, shapes = draws.rng(seed), jax.eval_shape(partial(model.init, draws.key(0)), *inputs)
    scales = lambda a: 0.8 + 0.1 * rng.standard_normal(a.shape) if a.size == 1 else 0.3 * rng.standard_normal(a.shape)  # noqa: E731
    return jax.tree.map(lambda a: jnp.asarray(scales(a)), shapes)


def apart(found: Any, expected: Any) -> float:
    """The largest difference of two trees, relative to the largest entry of all."""
    pairs = list(zip(map(np.asarray, jax.tree.leaves(found)), map(np.asarray, jax.tree.leaves(expected)), strict=True))
    assert all(np.isfinite(a).all() for pair in pairs for a in pair)
    return max(np.abs(a - b).max(initial=0) for a, b in pairs) / max(np.abs(b).max(initial=0) for _, b in pairs)


class Problem:
    """A model, its variables and inputs, for a whole graph and for one in parts."""

    def __init__(self, name: str, count: int = 8, kind: str = "Auto", order: Any = ORDER):
        rng = draws.rng(1)
        self.model = MODELS[name]
        self.plan = plan_of(count, kind)
        graph = drawn()
        self.graph = graph if name.startswith("hgat") or name == "gil" else graph.with_weights(abs(graph.weights)).normalized()
        self.parts = self.graph.partition(count, order)
        self.there = Graph.from_partition(self.parts, self.plan.split)
        self.arrays = {"x": 0.1 * rng.standard_normal((NODES, 5)), "cotangent": rng.standard_normal((NODES, 3))}
        if name == "hgat markov_blanket":
            self.arrays["node_features"] = rng.random((NODES, 2))
        self.drop = None
        if name == "hgat htgn":
            self.drop = [
                {"weight": rng.random((i, o)) < 0.8, "edge": rng.random((graph.num_edges, 2)) < 0.8, "self": rng.random((NODES, 2)) < 0.8}
                for i, o in ((5, 8), (8, 6))
            ]
        self.variables = variables_of(self.model, 2, self.arrays["x"], self.graph, *self.more(self.arrays))

    def more(self, arrays: Any) -> tuple[Any, ...]:
        return (arrays["node_features"],) if "node_features" in self.arrays else ()

    def loss(self, variables: Any, arrays: Any, graph: Graph, masks: Any) -> Any:
        given = {} if masks is None else {"masks": jax.tree.map(lambda m: m / 0.8, masks)}
        out = self.model.apply(variables, arrays["x"], graph, *self.more(arrays), **given)
        return jnp.sum(out * arrays["cotangent"]), out

    def whole(self) -> Any:
        masks = self.drop and [{**m, "edge": self.graph.to_graph_order(m["edge"])} for m in self.drop]
        return self.variables, self.arrays, self.graph, masks

    def divided(self) -> Any:
        split, split_edges = (partial(f, sharding=self.plan.split) for f in (self.parts.split, self.parts.split_edges))
        masks = self.drop and [{**m, "edge": split_edges(m["edge"]), "self": split(m["self"])} for m in self.drop]
        put = jax.device_put(self.variables, self.plan.whole)
        return put, {name: split(a) for name, a in self.arrays.items()}, self.there, masks

    def compare(self) -> str:
        """Loss, outputs, and gradients by variables and inputs."""
        run = jax.jit(jax.value_and_grad(self.loss, argnums=(0, 1), has_aux=True))
        (loss, out), (by_variables, by_arrays) = run(*self.whole())
        with jax.set_mesh(self.plan.mesh):
            (loss_there, out_there), (by_variables_there, by_arrays_there) = run(*self.divided())
        scale = float(jnp.sum(jnp.abs(out * self.arrays["cotangent"])))
        found = {
            "loss": abs(float(loss_there - loss)) / scale,
            "outputs": apart(self.parts.join(out_there), out),
            "variables": apart(by_variables_there, by_variables),
            "inputs": apart({name: self.parts.join(a) for name, a in by_arrays_there.items()}, by_arrays),
        }
        assert max(found.values()) <= NEAR, found
        return ", ".join(f"{name} {value:.1e}" for name, value in found.items())


def models(*names: str) -> None:
    """All models, or those that are named."""
    for name in names or MODELS:
        print(name, Problem(name).compare(), flush=True)


def explicit() -> None:
    """A mesh with explicit axes, and a graph in other numbers of parts than devices of the process."""
    print("explicit", Problem("hgcn", kind="Explicit").compare())
    print("three parts", Problem("hgcn", count=3, order=None).compare())


def points() -> None:
    """A model that trains a point for each node: rows of the table are divided as the nodes are, and rows of padding stay."""
    graph, plan, rng = drawn(), plan_of(), draws.rng(8)
    parts = graph.partition(8, ORDER)
    there = Graph.from_partition(parts, plan.split)
    table, cotangent = 0.1 * rng.standard_normal((NODES, 5)), rng.standard_normal((NODES, 3))
    whole, divided = hgat(num_nodes=NODES, preset="gil"), hgat(num_nodes=there.num_nodes, preset="gil")
    params = variables_of(whole, 2, None, graph)["params"] | {"embedding": jnp.asarray(table)}

    def gradient(model: Any, params: Any, graph: Graph, cotangent: Any) -> Any:
        return jax.jit(jax.grad(lambda params: jnp.sum(model.apply({"params": params}, None, graph) * cotangent)))(params)

    expected = gradient(whole, params, graph, cotangent)
    rows = jax.device_put(params, plan.whole) | {"embedding": parts.split(table, plan.split, padding=table[0])}
    found = gradient(divided, rows, there, parts.split(cotangent, plan.split))
    assert not np.delete(np.asarray(found["embedding"]), parts.places, axis=0).any()
    worst = apart(found | {"embedding": parts.join(found["embedding"])}, expected)
    print("points", f"{worst:.1e}")
    assert worst <= NEAR, worst


def operations() -> None:
    """Each operation beside the whole graph: values of several types, several trailing axes, first and second derivatives."""
    graph, plan = drawn(), plan_of()
    parts = graph.partition(8, ORDER)
    there = Graph.from_partition(parts, plan.split)
    rng = draws.rng(4)
    nodes, others = rng.standard_normal((2, NODES, 2, 3))
    edges, cotangent = rng.standard_normal((graph.num_edges, 2)), rng.standard_normal((NODES, 2, 3))

    def everything(graph: Graph, nodes: Any, others: Any, edges: Any, cotangent: Any) -> Any:
        """What each node gets, by operations on edges."""
        alpha = segment_softmax(edges + edge_dot(nodes, others, graph), graph, mask=~graph.loop_mask)
        between = gather_senders(nodes, graph) * gather_receivers(others, graph)
        far = segment_max(between, graph, empty=0.0) + segment_sum(alpha[..., None] * between, graph)
        flat = aggregate(alpha[:, 0], nodes[:, 0], graph)
        out = aggregate(alpha * edges, jnp.sin(nodes), graph) + far + flat[:, None]
        return jnp.sum(jnp.where(cotangent != 0, jnp.tanh(out) * cotangent, 0))

    gradient = jax.jit(jax.grad(everything, argnums=(1, 2, 3)))
    expected = gradient(graph, nodes, others, graph.to_graph_order(edges), cotangent)
    split = partial(parts.split, sharding=plan.split)
    given = split(nodes), split(others), parts.split_edges(edges, plan.split), split(cotangent)
    found = gradient(there, *given)
    for a, b in zip(found[:2], expected[:2], strict=True):
        assert apart(parts.join(a), b) <= NEAR, apart(parts.join(a), b)
    assert apart(found[2], parts.edge_rows(graph.to_user_order(expected[2]))) <= NEAR
    print("operations", [apart(parts.join(a), b) for a, b in zip(found[:2], expected[:2], strict=True)], flush=True)

    def bent(graph: Graph, nodes: Any, edges: Any) -> Any:
        """The second derivative along `nodes`, which crosses devices twice."""
        slope = jax.grad(lambda n: jnp.sum(jnp.tanh(aggregate(edges, n, graph))))
        return jax.jvp(slope, (nodes,), (jnp.sin(nodes),))[1]

    second = jax.jit(bent)
    expected = second(graph, nodes, graph.to_graph_order(edges))
    assert apart(parts.join(second(there, given[0], given[2])), expected) <= NEAR
    ids = jax.jit(gather_senders)(parts.split(np.arange(NODES), plan.split), there)
    np.testing.assert_array_equal(ids, parts.edge_rows(graph.host_arrays()[0]))
    single = jax.jit(aggregate)(*(a.astype(jnp.float32) for a in (given[2], given[0])), there)
    assert single.dtype == jnp.float32
    assert apart(parts.join(single), jax.jit(aggregate)(graph.to_graph_order(edges), nodes, graph)) <= 1e-6


def processes(index: str, port: str) -> None:
    """Two processes with two devices each: both have the whole graph on the host, and the values of all nodes at the end."""
    distributed(f"localhost:{port}", 2, int(index))
    graph, plan, rng = drawn(), plan_of(jax.device_count()), draws.rng(4)
    parts = graph.partition(plan.count, ORDER)
    nodes, cotangent = rng.standard_normal((2, NODES, 3))

    def value(nodes: Any, graph: Graph, cotangent: Any) -> Any:
        assert graph.weights is not None
        return jnp.sum(jnp.tanh(aggregate(graph.weights, nodes, graph)) * cotangent)

    gradient = jax.jit(jax.grad(value))
    split = partial(parts.split, sharding=plan.split)
    found = gradient(split(nodes), Graph.from_partition(parts, plan.split), split(cotangent))
    assert not found.is_fully_addressable
    worst = apart(parts.join(found), gradient(nodes, graph, cotangent))
    print("processes", f"{worst:.1e}")
    assert worst <= NEAR, worst


def bytes_and_memory() -> None:
    """What the compiled program of a step sends is what the formula says, and neither nodes nor edges travel as a whole."""
    graph, count = ring(), 8
    model = HGAT(in_features=6, features=(8, 8), heads=2, num_classes=3)
    plan, parts = plan_of(count), graph.partition(count)
    there = Graph.from_partition(parts, plan.split)
    x, labels = 0.1 * draws.rng(0).standard_normal((1024, 6)), draws.rng(1).integers(0, 3, 1024)
    variables = variables_of(model, 2, x, graph)

    def loss(variables: Any, x: Any, graph: Graph, labels: Any) -> Any:
        return optax.softmax_cross_entropy_with_integer_labels(model.apply(variables, x, graph), labels).mean()

    step = jax.jit(jax.value_and_grad(loss))
    split = partial(parts.split, sharding=plan.split)
    arguments = jax.device_put(variables, plan.whole), split(x), there, split(labels)
    alone = step.lower(variables, x, graph, labels).compile()
    compiled = step.lower(*arguments).compile()
    found = collectives(compiled.as_text())
    sent = sum(one.bytes for one in found if one.kind == "collective-permute")
    rows = parts.send.shape[1]
    assert sent == sum(2 * rows * (2 * 8 + 2) * 8 for _ in range(2)), (sent, rows)
    others = [one for one in found if one.kind != "collective-permute"]
    assert {one.kind for one in others} <= {"all-reduce"}, others
    assert sum(one.bytes for one in others) <= 2 * sum(a.nbytes for a in jax.tree.leaves(variables)) + 1024, others
    assert not any({1024, 8192, 128} & set(one.rows) for one in found), found
    print("sent", sent, "other", sum(one.bytes for one in others))
    one, many = (c.memory_analysis().temp_size_in_bytes for c in (alone, compiled))
    print("temporaries", one, many, one / many)
    assert 6 * many <= one, (one, many)
    assert apart(compiled(*arguments), alone(variables, x, graph, labels)) <= NEAR


def training() -> None:
    """`fit` over the parts: numbers, evaluations, scores of links and embeddings are those of one device; a run goes on in other parts."""
    model = HGCN(feat_dim=5, dim=4, num_layers=2, n_classes=3, manifold="PoincareBall", c=None)
    graph, rng = drawn(), draws.rng(7)
    graph = graph.with_weights(abs(graph.weights)).normalized()
    x, labels, train = 0.1 * rng.standard_normal((NODES, 5)), rng.integers(0, 3, NODES), rng.random(NODES) < 0.6
    pairs = rng.integers(0, NODES, (20, 2))
    variables = variables_of(model, 2, x, graph)
    tx = riemannian_sgd(0.1, momentum=0.9, manifolds=model.manifolds)

    def loss(params: Any, batch: Any, key: Any) -> Any:
        x, graph, labels, train = batch
        each = optax.softmax_cross_entropy_with_integer_labels(model.apply({"params": params}, x, graph), labels)
        return jnp.where(train, each, 0).sum() / train.sum()

    step = gradient_step(loss, tx)
    encode = jax.jit(lambda params, x, graph: model.apply({"params": params}, x, graph, method="encode"))
    score = jax.jit(lambda params, h, pairs: model.apply({"params": params}, h, pairs, method="score"))

    def run(steps: int, count: int | None, folder: Any = None) -> Any:
        plan = None if count is None else plan_of(count)
        parts: Partition | None = None if count is None else graph.partition(count, ORDER if count == 8 else None)
        batch: Any = (x, graph, labels, train)
        if plan is not None and parts is not None:
            split = partial(parts.split, sharding=plan.split)
            batch = (split(x), Graph.from_partition(parts, plan.split), split(labels), split(train))
        seen = {}

        def evaluate(params: Any) -> dict[str, float]:
            h = encode(params, *batch[:2])
            seen["h"] = np.asarray(h) if parts is None else parts.join(h)
            seen["scores"] = np.asarray(score(params, h, pairs if parts is None else parts.places[pairs]))
            return {"score": float(seen["scores"].mean())}

        state = train_state(variables["params"], tx, draws.key(3))
        return fit(step, state, steps=steps, batch=batch, plan=plan, every=2, chunk=2, evaluate=evaluate, monitor="score", folder=folder,
                   progress=False), seen  # fmt: skip

    alone, expected = run(4, None)
    found, seen = run(4, 8)
    assert found.compilations == 1
    np.testing.assert_allclose(found.history.steps["loss"], alone.history.steps["loss"], rtol=1e-12)
    scores = [[row["score"] for row in result.history.evaluations] for result in (found, alone)]
    np.testing.assert_allclose(*scores, rtol=1e-12)
    worst = {name: apart(seen[name], expected[name]) for name in seen} | {"params": apart(found.state.params, alone.state.params)}
    print("training", {name: f"{value:.1e}" for name, value in worst.items()})
    assert max(worst.values()) <= 1e-12, worst
    assert apart(found.state.params, variables["params"]) > 1e-3
    with tempfile.TemporaryDirectory() as folder:
        run(2, 8, folder)
        resumed, _ = run(4, 4, folder)
        assert apart(resumed.state.params, alone.state.params) <= 1e-12
        assert apart(restore(folder).state.params, alone.state.params) <= 1e-12
    parts = graph.partition(8)
    split = partial(parts.split, sharding=plan_of(8).split)
    batch = split(x), Graph.from_partition(parts, plan_of(8).split), split(labels), split(train)
    with pytest.raises(TrainingError, match=r"is divided among 8 devices, and the plan is for 4, .* after graph\.partition\(4\)"):
        fit(step, train_state(variables["params"], tx, draws.key(3)), steps=1, batch=batch, plan=plan_of(4), progress=False)


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    what, *names = sys.argv[1:]
    commands = {
        "models": models,
        "explicit": explicit,
        "points": points,
        "operations": operations,
        "bytes": bytes_and_memory,
        "training": training,
        "processes": processes,
    }
    commands[what](*names)
