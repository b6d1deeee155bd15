"""Models on a graph in parts give what they give on a whole one. Run by `test_parts.py`, with eight simulated devices in a new process:

XLA_FLAGS=--xla_force_host_platform_device_count=8 python -m parity_tests.graphs.on_parts models|bytes|training [explicit] NAME...

`parity_tests.processes` runs it in several processes, too.
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
from parity_tests.processes import begin
from port_jax.graphs import Graph, Partition
from port_jax.models import GIL, HGAT, HGCN, HyboNet
from port_jax.optim import riemannian_sgd
from port_jax.training import Plan, TrainingError, fit, gradient_step, restore, train_state

NEAR = 1e-14
"""Differences of losses and gradients, relative to the largest entry; for HyboNet, whose points are far out, those by one ulp if larger."""
ORDER = draws.rng(5).permutation(NODES)
hgat = partial(HGAT, in_features=5, features=(4, 3), heads=2, curvature=(0.7, 1.3, 0.9), learnable_curvature=True, num_classes=3)
MODELS = {
    "hgat htgn": hgat(),
    "hgcn": HGCN(feat_dim=5, dim=4, num_layers=3, n_classes=3, manifold="PoincareBall", c=None),
    "gil": GIL(in_features=5, features=(4,), heads=2, num_classes=3, learnable_curvature=True),
    "hgat hat": hgat(preset="hat"),
    "hgat gil": hgat(preset="gil", manifold="Lorentz"),
    "hgat markov_blanket": hgat(preset="markov_blanket", edge_features=2),
    "hybonet": HyboNet(feat_dim=6, dim=4, num_layers=3, n_classes=3),
    "hybonet attention": HyboNet(feat_dim=6, dim=4, num_layers=2, n_classes=3, use_att=True),
}


KIND = AxisType.Auto
"""Of the mesh's axis: with the argument "explicit" the other one."""


def plan_of(count: int = 8) -> Plan:
    return Plan(jax.make_mesh((count,), ("x",), axis_types=(KIND,), devices=jax.devices()[:count]))


def moved(tree: Any, seed: int) -> Any:
    """In general position and in double precision."""
    rng = draws.rng(seed)
    return jax.tree.map(lambda a: jnp.asarray(np.asarray(a, np.float64) + 0.05 * rng.standard_normal(np.shape(a))), tree)


def apart(found: Any, expected: Any) -> float:
    """The largest difference of two trees, relative to the largest entry of all."""
    pairs = list(zip(map(np.asarray, jax.tree.leaves(found)), map(np.asarray, jax.tree.leaves(expected)), strict=True))
    assert all(np.isfinite(a).all() for pair in pairs for a in pair)
    return max(np.abs(a - b).max(initial=0) for a, b in pairs) / max(np.abs(b).max(initial=0) for _, b in pairs)


class Problem:
    """A model, its variables and inputs, for a whole graph and for one in parts."""

    def __init__(self, name: str, count: int = 8, order: Any = ORDER):
        rng = draws.rng(1)
        self.model, self.far = MODELS[name], name.startswith("hybonet")
        self.plan = plan_of(count)
        graph = drawn()
        self.graph = graph if name.startswith("hgat") or name == "gil" else graph.with_weights(abs(graph.weights)).normalized()
        self.parts = self.graph.partition(count, order)
        self.there = Graph.from_partition(self.parts, self.plan.split)
        self.arrays = {"x": 0.1 * rng.standard_normal((NODES, 5)), "cotangent": rng.standard_normal((NODES, 3))}
        self.drop = None
        if name == "hgat htgn":
            self.drop = [
                {"weight": rng.random((i, o)) < 0.8, "edge": rng.random((graph.num_edges, 2)) < 0.8, "self": rng.random((NODES, 2)) < 0.8}
                for i, o in ((5, 8), (8, 6))
            ]
        self.variables = moved(jax.jit(self.model.init)(draws.key(0), self.arrays["x"], self.graph), 2)

    def one_ulp(self, run: Any) -> float:
        """How far outputs and gradients of the whole graph move when each variable and feature does by one ulp."""
        variables, arrays, *rest = self.whole()
        (_, out), expected = run(variables, arrays, *rest)
        rng, worst = draws.rng(6), 0.0
        for _ in range(4):
            beside, x = jax.tree.map(lambda a: np.nextafter(a, rng.choice([-np.inf, np.inf], np.shape(a))), (variables, arrays["x"]))
            (_, moved_out), found = run(beside, {**arrays, "x": x}, *rest)
            worst = max(worst, apart(moved_out, out), apart(found[0], expected[0]), apart(found[1], expected[1]))
        return worst

    def loss(self, variables: Any, arrays: Any, graph: Graph, masks: Any) -> Any:
        given = {} if masks is None else {"masks": jax.tree.map(lambda m: m / 0.8, masks)}
        out = self.model.apply(variables, arrays["x"], graph, **given)
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
        near = max(NEAR, self.one_ulp(run)) if self.far else NEAR
        assert max(found.values()) <= near, (found, near)
        return ", ".join(f"{name} {value:.1e}" for name, value in found.items())


def models(*names: str) -> None:
    """All models, or those that are named."""
    for name in names or MODELS:
        print(name, Problem(name).compare(), flush=True)


def bytes_and_memory() -> None:
    """What the compiled program of a step sends is what the formula says, and neither nodes nor edges travel as a whole."""
    graph, count = ring(), 8
    model = HGAT(in_features=6, features=(8, 8), heads=2, num_classes=3)
    plan, parts = plan_of(count), graph.partition(count)
    there = Graph.from_partition(parts, plan.split)
    x, labels = 0.1 * draws.rng(0).standard_normal((1024, 6)), draws.rng(1).integers(0, 3, 1024)
    variables = moved(jax.jit(model.init)(draws.key(0), x, graph), 2)

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
    variables = moved(jax.jit(model.init)(draws.key(0), x, graph), 2)
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
    if jax.process_count() > 1:  # folders of runs in several processes: training/test_processes.py
        return
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
    if names[-1:] and names[-1].isdigit():
        begin(*names[-3:])
        names = names[:-3]
    if names[:1] == ["explicit"]:
        KIND, names = AxisType.Explicit, names[1:]
    commands = {
        "models": models,
        "bytes": bytes_and_memory,
        "training": training,
    }
    commands[what](*names)
