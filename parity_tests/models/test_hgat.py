"""HGAT in Flax against HGAT on geoopt: outputs, gradients, second derivatives, injected masks, optimizer steps, the way back."""

from pathlib import Path

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import torch
from geoopt.optim import RiemannianAdam, RiemannianSGD

from parity_tests import draws, slow
from parity_tests.models.conversion import (
    NODES,
    check_parity,
    check_round_trip,
    check_steps,
    converted,
    encoded_and_called,
    randomised,
)
from parity_tests.models.known_masks import with_known_masks
from parity_tests.models.paper_hgat import PRESETS as PAPERS
from parity_tests.models.paper_hgat import Witness
from parity_tests.oracle.networks import exactly
from parity_tests.tolerances import DEVIATIONS
from port_jax.graphs import Graph
from port_jax.models import HGAT
from reference_torch.graphs.graph import Graph as TorchGraph
from reference_torch.models.hgat import HGAT as TorchHGAT

IN, SIDE, EDGE, EDGES = 5, 3, 2, 70
BASE = {"arch": "hgat", "in_features": IN, "features": [4, 3], "heads": 2}

# Each preset on each manifold; the other options vary along, so that each value of each is met.
CONFIGS = [
    {"preset": "hat", "manifold": "PoincareBall", "num_classes": 3, "curvature": [0.3, 1.7, 0.9]},
    {"preset": "hat", "manifold": "Lorentz", "num_classes": 3, "classifier": "hyperplanes", "learnable_curvature": True,
     "curvature": [1.3, 0.8, 2.0]},
    {"preset": "htgn", "manifold": "PoincareBall", "num_classes": 4, "classifier": "hyperplanes", "learnable_curvature": True,
     "curvature": [2.0, 0.4, 1.3], "activation": "leaky_relu"},
    {"preset": "htgn", "manifold": "Lorentz", "num_classes": 4, "curvature": 2.5, "final_activation": "tanh"},
    {"preset": "gil", "manifold": "PoincareBall", "distance": True, "curvature": 0.6, "num_nodes": NODES, "activation": "elu"},
    {"preset": "gil", "manifold": "Lorentz", "curvature": 1.8, "num_nodes": NODES, "heads": 1},
    {"preset": "gil", "manifold": "PoincareBall", "bias": False, "curvature": 10.0, "features": [4]},
    {"preset": "markov_blanket", "manifold": "PoincareBall", "distance": True, "node_features": SIDE, "edge_features": EDGE,
     "learnable_curvature": True, "curvature": [0.7, 1.9], "num_classes": 2, "features": [4]},
    {"preset": "markov_blanket", "manifold": "Lorentz", "node_features": SIDE, "edge_features": EDGE, "curvature": [0.7, 1.9, 1.2],
     "num_classes": 2, "classifier": "hyperplanes"},
    # One layer: a second would meet nodes that coincide, which geoopt puts 3e-8 apart.
    {"preset": "markov_blanket", "manifold": "Lorentz", "distance": True, "learnable_curvature": True, "curvature": 1.5, "heads": 1,
     "features": [4]},
    {"preset": "markov_blanket", "manifold": "PoincareBall", "curvature": 0.1},
]  # fmt: skip
CONFIGS = [{**BASE, **config} for config in CONFIGS]
IDS = [f"{config['preset']}-{config['manifold']}-{i}" for i, config in enumerate(CONFIGS)]
FAST = {"gil-PoincareBall-6", "markov_blanket-PoincareBall-7"}
"""test_verify.py has hat, second derivatives and going on have htgn, and dropout's masks the hyperboloid."""
CASES = slow.all_but(lambda case: case.id in FAST, [pytest.param(config, id=name) for name, config in zip(IDS, CONFIGS)])
SMALL, BLANKET = {**CONFIGS[2], "features": [4], "curvature": [2.0, 0.4]}, CONFIGS[8]
PRESETS = slow.all_but(
    lambda case: case.id == "htgn, one layer",
    [pytest.param(SMALL, id="htgn, one layer"), pytest.param(CONFIGS[2], id="htgn"), pytest.param(BLANKET, id="markov_blanket")],
)


class Case:
    """A reference with random weights, a graph with self loops and nodes without edges, features with a zero row."""

    def __init__(self, config: dict, seed: int = 0):
        draws.seed_torch(seed)
        rng = draws.rng(seed)
        self.config = config
        module = TorchHGAT(**{name: value for name, value in config.items() if name != "arch"})
        fixed = [key for key, p in module.named_parameters() if not p.requires_grad]
        self.module = randomised(module, shift=0.1, keep=fixed)
        with torch.no_grad():  # a table that starts at the origin is where geoopt loses digits: away from it
            for p in self.module.parameters():
                if hasattr(p, "manifold"):
                    p.copy_(p.manifold.expmap(p, 0.4 * p.manifold.proju(p, torch.randn_like(p))))
        senders, receivers = rng.integers(0, NODES, EDGES), rng.integers(2, NODES, EDGES)
        if config["preset"] == "markov_blanket":
            # No node is in its own blanket. And each has one: geoopt's Lorentz exp_x(0) is off x by 5e-9, its dist(x, x) by 3e-8.
            receivers[:NODES] = np.arange(NODES)
            senders = np.where(senders == receivers, (senders + 1) % NODES, senders)
        else:
            senders[:4] = receivers[:4]
        edge = rng.normal(size=(EDGES, EDGE)) if config.get("edge_features") else None
        self.graph = Graph.from_edges(senders, receivers, num_nodes=NODES, edge_features=edge)
        self.x = None if "num_nodes" in config else 0.5 * rng.normal(size=(NODES, IN))
        if self.x is not None:
            self.x[3] = 0
        self.side = rng.normal(size=(NODES, SIDE)) if config.get("node_features") else None
        self.pairs = rng.integers(0, NODES, (30, 2))

    def theirs(self, module, dtype, masks=None):
        def tensor(a):
            return None if a is None else torch.as_tensor(a).to(dtype)

        graph = TorchGraph.from_arrays(self.graph, dtype)
        h = module.encode(tensor(self.x), graph, tensor(self.side), masks)
        return [module(tensor(self.x), graph, tensor(self.side), masks), module.score(h, torch.as_tensor(self.pairs))]

    def ours(self, model, variables, dtype, masks=None):
        def array(a):
            return None if a is None else jnp.asarray(a, dtype)

        edge = None if self.graph.edge_features is None else np.asarray(self.graph.edge_features, dtype)
        graph = Graph.from_edges(np.asarray(self.graph.senders), np.asarray(self.graph.receivers), num_nodes=NODES, edge_features=edge)
        h, out = encoded_and_called(model, variables, array(self.x), graph, array(self.side), masks)
        return [out, model.apply(variables, h, self.pairs, method="score")]

    def checkpoint(self, folder: Path):
        return converted(self.module, self.config, folder, wrap=lambda state: {"model": state, "config": self.config, "epoch": 3})


@pytest.mark.parametrize("config", CASES)
def test_outputs_gradients_float32_and_the_way_back(config: dict, tmp_path: Path):
    case = Case(config)
    ckpt = case.checkpoint(tmp_path)
    assert isinstance(ckpt.model, HGAT)
    check_parity(case.module, ckpt, case.theirs, case.ours, single=config is not CONFIGS[4])
    check_round_trip(ckpt, tmp_path)


@pytest.mark.slow  # test_dropout_in_training_at_50_digits has the masks, too
@pytest.mark.parametrize("config", [CONFIGS[2], BLANKET], ids=lambda c: c["preset"])
def test_masks_of_dropout_multiply_the_same_things(config: dict, tmp_path: Path):
    case = Case(config)
    ckpt = case.checkpoint(tmp_path)
    rng = draws.rng(5)
    masks = []
    for layer in case.module.layers:  # any factors: were all edges of a node dropped, geoopt's exp_x(0) would be off by 5e-9
        shapes = {"weight": tuple(layer.linear.weight.T.shape), "edge": (EDGES, 2), "self": (NODES, 2)}
        masks.append({name: rng.uniform(0.2, 1.8, shape) for name, shape in shapes.items()})
    turned = [{name: torch.as_tensor(m.T if name == "weight" else m) for name, m in layer.items()} for layer in masks]

    def theirs(module, dtype):
        return case.theirs(module, dtype, [{name: m.to(dtype) for name, m in layer.items()} for layer in turned])

    def ours(model, variables, dtype):
        return case.ours(model, variables, dtype, [{name: jnp.asarray(m, dtype) for name, m in layer.items()} for layer in masks])

    check_parity(case.module, ckpt, theirs, ours, single=False)
    plain, masked = (draw(case.module, torch.float64)[0].detach().numpy() for draw in (case.theirs, theirs))
    assert not np.allclose(plain, masked)


KEPT = {("hat", "PoincareBall"), ("htgn", "Lorentz"), ("gil", "Lorentz"), ("markov_blanket", "PoincareBall")}


@pytest.mark.parametrize(("preset", "manifold"), slow.all_but(KEPT, [(p, m) for p in PAPERS for m in ("PoincareBall", "Lorentz")]))
def test_outputs_against_the_papers_at_50_digits(preset: str, manifold: str):
    witness = Witness(preset, manifold)
    for have, want in zip(jax.jit(witness.outputs)(witness.params), witness.truth(), strict=True):
        np.testing.assert_allclose(have, want, rtol=0, atol=1e-12)  # numbers of size 1, at radii below 0.9


@pytest.mark.parametrize("preset", ["htgn", "markov_blanket"])
def test_dropout_in_training_at_50_digits(preset: str):
    """Masks over 1 - rate multiply the weights of the linear maps, and the attention of each edge and loop in each head."""
    witness = Witness(preset, "PoincareBall", dropout=0.3, attention_dropout=0.4, learnable_curvature=False)
    names = ("weight", "edge", "self") if preset == "htgn" else ("weight", "edge")
    rates = {"weight": 0.3, "edge": 0.4, "self": 0.4}
    run = lambda params: witness.outputs(params, deterministic=False, rngs={"dropout": draws.key(1)})  # noqa: E731
    have, drawn = with_known_masks(run, witness.params, [rates[name] for name in names] * 2, 12)
    scaled = [exactly(mask.astype(float)) / (1 - mpmath.mpf(rates[name])) for name, mask in zip(names * 2, drawn, strict=True)]
    truth = witness.truth([dict(zip(names, scaled[i * len(names) :])) for i in range(2)])
    for a, b in zip(have, truth, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)


def test_drawn_dropout_keeps_the_mean_and_the_rate():
    from port_jax.layers.hgat import dropout_masks

    class Draw(HGAT.__base__):
        def __call__(self):
            return dropout_masks(self, {"weight": (0.3, (200, 100)), "edge": (0.0, (3, 2))}, False)

    drawn = Draw().apply({}, rngs={"dropout": draws.key(0)})
    assert set(drawn) == {"weight"}
    # 20,000 draws: the rate's standard error is 0.0032, the mean's 0.0046
    assert abs(float((drawn["weight"] == 0).mean()) - 0.3) < DEVIATIONS * 0.0032
    assert abs(float(drawn["weight"].mean()) - 1) < DEVIATIONS * 0.0046


OPTIMIZERS = {
    "adam": lambda p: RiemannianAdam(p, lr=1e-2, weight_decay=1e-3, stabilize=2),
    "sgd": lambda p: RiemannianSGD(p, lr=1e-4, momentum=0.9),
}


@pytest.mark.slow  # test_verify.py goes on from the state of an HGAT's optimizer
@pytest.mark.parametrize("config", PRESETS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_goes_on_from_the_state_of_the_optimizer(config: dict, optimizer: str, tmp_path: Path):
    case = Case(config, seed=4)
    trained = OPTIMIZERS[optimizer](case.module.parameters())
    stated = {**config, "optimizer": {"name": type(trained).__name__}}
    check_steps(case.module, trained, stated, tmp_path, case.theirs, case.ours)


@pytest.mark.slow  # the test below has second derivatives of a model, where they are hardest
@pytest.mark.parametrize("config", PRESETS)
def test_second_derivatives(config: dict, tmp_path: Path):
    """A Hessian-vector product of one scalar over all parameters, in one random direction."""
    case = Case(config)
    case.x[3] = 0.5  # at the origin, and between a node and itself, geoopt's second derivatives are NaN
    case.pairs = case.pairs[case.pairs[:, 0] != case.pairs[:, 1]]
    ckpt = case.checkpoint(tmp_path)
    rng = draws.rng(9)
    named = dict(case.module.named_parameters())
    direction = {key: rng.normal(size=tuple(p.shape)) for key, p in named.items()}
    out, score = case.theirs(case.module, torch.float64)
    cot = [rng.normal(size=tuple(out.shape)), rng.normal(size=tuple(score.shape))]
    scalar = (out * torch.as_tensor(cot[0])).sum() + (score * torch.as_tensor(cot[1])).sum()
    trained = {key: p for key, p in named.items() if p.requires_grad}
    first = torch.autograd.grad(scalar, list(trained.values()), create_graph=True)
    along = sum((g * torch.as_tensor(direction[key])).sum() for key, g in zip(trained, first))
    second = dict(zip(trained, torch.autograd.grad(along, list(trained.values()))))

    def loss(params):
        values = case.ours(ckpt.model, {**ckpt.variables, "params": params}, jnp.float64)
        return sum((a * c).sum() for a, c in zip(values, cot))

    entries = [e for e in ckpt.entries if e.role == "parameter"]
    tangent = jax.tree.map(jnp.zeros_like, ckpt.variables["params"])
    for e in entries:
        parents, last = e.path.split("/")[1:-1], e.path.split("/")[-1]
        node = tangent
        for name in parents:
            node = node[name]
        node[last] = jnp.asarray(e.layout.forward(direction[e.key]))
    found = jax.jit(lambda params, tangent: jax.jvp(jax.grad(loss), (params,), (tangent,))[1])(ckpt.variables["params"], tangent)
    scale = max(float(g.abs().max()) for g in second.values())
    for e in entries:
        node = found
        for name in e.path.split("/")[1:]:
            node = node[name]
        assert np.abs(np.asarray(node) - e.layout.forward(second[e.key].numpy())).max() < 1e-9 * scale, e.key


def test_second_derivatives_are_finite_at_the_origin_and_between_a_node_and_itself():
    """With a row of zeros and pairs (i, i), where geoopt's are NaN."""
    x = 0.3 * draws.rng(0).normal(size=(4, IN))
    x[3] = 0
    graph, pairs = Graph.from_edges([0, 1, 2], [1, 2, 3], num_nodes=4), np.array([[0, 0], [1, 2], [3, 3]])
    model = HGAT(IN, [3], 2, curvature=1.7, learnable_curvature=True, bias=False)
    variables = jax.jit(model.init)(draws.key(0), x, graph)

    def loss(v):
        h = model.apply(v, x, graph, method="encode")
        return (h**3).sum() + (model.apply(v, h, pairs, method="score") ** 2).sum()

    second = jax.jit(lambda v: jax.jvp(jax.grad(loss), (v,), (jax.tree.map(jnp.ones_like, v),))[1])(variables)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(second))
    assert any(np.abs(leaf).max() > 1e-3 for leaf in jax.tree.leaves(second))


@pytest.mark.parametrize("manifold", slow.all_but({"Lorentz"}, ["PoincareBall", "Lorentz"]))
def test_a_node_with_an_empty_blanket_stays_where_it_is(manifold: str):
    """Also with finite derivatives, which geoopt's clamps at a zero tangent do not give on the hyperboloid."""
    graph = Graph.from_edges([1, 2], [2, 3], num_nodes=4)
    model = HGAT(IN, [3], 2, preset="markov_blanket", manifold=manifold, curvature=1.7, bias=False)
    x = 0.3 * draws.rng(0).normal(size=(4, IN))
    variables = jax.jit(model.init)(draws.key(0), x, graph)
    alone = jax.jit(model.apply)(variables, x, Graph.from_edges([], [], num_nodes=4))

    def still(v):
        out = model.apply(v, x, graph)[:2]
        return (out**2).sum(), out

    grads, out = jax.jit(jax.grad(still, has_aux=True))(variables)
    np.testing.assert_allclose(out, alone[:2], rtol=0, atol=1e-14)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))


@pytest.mark.slow  # as manifolds/test_interface.py
@pytest.mark.parametrize("config", slow.all_but(lambda c: c is CONFIGS[6], [CONFIGS[6], CONFIGS[2]]), ids=lambda c: c["preset"])
def test_jit_and_vmap_give_what_eager_gives(config: dict, tmp_path: Path):
    case = Case(config)
    ckpt = case.checkpoint(tmp_path)

    def run(x):
        return ckpt.model.apply(ckpt.variables, x, case.graph)

    batch = jnp.stack([case.x, 0.3 * case.x, case.x[::-1]])
    eager = jnp.stack([run(x) for x in batch])
    np.testing.assert_allclose(jax.jit(jax.vmap(run))(batch), eager, rtol=0, atol=1e-12)


BAD = {
    "preset": ({"preset": "gatv2"}, "preset: found 'gatv2'"),
    "manifold": ({"manifold": "Sphere"}, "manifold: found 'Sphere'"),
    "curvature": ({"curvature": [1.0, 2.0]}, "curvature: found"),
    "sign": ({"curvature": -1.0}, "curvature: found -1.0"),
    "activation": ({"activation": "swish2"}, "activation: found"),
}


@pytest.mark.parametrize("name", BAD)
def test_fields_that_make_no_sense(name: str):
    fields, message = BAD[name]
    with pytest.raises(ValueError, match=message.replace("[", r"\[")):
        HGAT(IN, **fields)


def test_inputs_that_do_not_fit():
    graph = Graph.from_edges([0, 1], [1, 2], num_nodes=3)
    model = HGAT(IN, num_classes=2)
    x = np.ones((3, IN))
    with pytest.raises(ValueError, match=r"x: found shape \(3, 4\); give an array of shape \(3, 5\)"):
        model.init(draws.key(0), x[:, :4], graph)
    x[1, 2] = np.nan
    with pytest.raises(ValueError, match=r"x: found nan at index \(1, 2\)"):
        model.init(draws.key(0), x, graph)
    with pytest.raises(ValueError, match="pass None"):
        HGAT(IN, num_nodes=3).init(draws.key(0), x, graph)
    with pytest.raises(ValueError, match="edge_features: found width None"):
        HGAT(IN, preset="markov_blanket", edge_features=2).init(draws.key(0), np.ones((3, IN)), graph)
    with pytest.raises(ValueError, match="no classifier"):
        HGAT(IN).apply({"params": {}}, np.ones((3, IN)), method="classify")
