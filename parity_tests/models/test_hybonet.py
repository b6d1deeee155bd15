"""HyboNet in Flax against HyboNet on torch and geoopt, and against what its authors' code computed."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import geoopt
import jax
import mpmath
import numpy as np
import pytest
import torch

from parity_tests import draws
from parity_tests.models.cases_hybonet import CONFIGS, FRAME, reference
from parity_tests.models.conversion import check_steps
from parity_tests.models.fixtures import check_folder
from parity_tests.models.graph_models import ours, theirs
from parity_tests.models.known_masks import with_known_masks
from parity_tests.oracle import lorentz
from parity_tests.oracle.networks import dense, elu, exactly, mixed, sigmoid
from parity_tests.oracle.stereographic import dot, times
from port_jax.graphs import Graph
from port_jax.models import HyboNet
from weights.checkpoint import load
from weights.errors import ConversionError

FOLDER = Path(__file__).parents[3] / "shared" / "fixtures" / "hybonet_disease_lp_att"


@pytest.mark.parametrize("name", CONFIGS)
def test_forward_and_gradients(name: str, tmp_path: Path):
    FRAME.check(name, tmp_path, reference(FRAME.config(name)), single=name == "classes, attention")


@pytest.mark.slow  # as the checkpoint of the authors with its optimizer
def test_steps_in_its_groups(tmp_path: Path):
    config = FRAME.config("classes, attention")
    module = reference(config)
    decays, still = [], []
    for name, p in module.named_parameters():
        if p.requires_grad:
            flat = not isinstance(p, geoopt.ManifoldParameter)
            (decays if flat and "bias" not in name and "scale" not in name else still).append(p)
    groups = [{"params": decays, "weight_decay": 0.1}, {"params": still, "weight_decay": 0.0}]
    optimizer = geoopt.optim.RiemannianAdam(groups, lr=0.01, stabilize=4)
    check_steps(module, optimizer, {**config, "optimizer": "radam"}, tmp_path, theirs, ours)


def test_a_curvature_that_the_maps_do_not_hold_for_is_refused(tmp_path: Path):
    config = FRAME.config("links")
    state = reference(config).state_dict()
    state["encoder.layers.0.agg.manifold.k"] = torch.tensor(2.0)
    torch.save(state, tmp_path / "model.pth")
    with pytest.raises(ConversionError, match="k = 1"):
        load(tmp_path / "model.pth", config=config)


@pytest.mark.skipif(not FOLDER.exists(), reason=f"{FOLDER} is not here: the authors' checkpoints are no part of this project")
def test_checkpoint_of_the_authors_with_its_optimizer():
    assert check_folder(FOLDER) == []


EDGES = [(0, 1), (1, 2), (3, 2), (2, 2), (0, 3), (3, 1), (2, 0)]
"""(j, i) of edges from j to i. Node 4 is alone; in the authors' code the centroid of nothing is the vector 0."""


def paper_linear(p: Any, x: Sequence, act: Callable | None, masks: Any = None) -> list:
    """The linear layer of arXiv 2105.14686, section 3: with y = W act(x) + b, the time lambda sigmoid(y_0) + 1.1, and space along y_1...

    lambda is e^scale. In the authors' code the same b moves the time and the space.
    """
    out = []
    for i, row in enumerate(x):
        row = row if act is None else [act(a) for a in row]
        row = row if masks is None else [a * m for a, m in zip(row, masks[i], strict=True)]
        y = dense(row, p["kernel"], p.get("bias"))
        time, length = sigmoid(y[0]) * mpmath.exp(p["scale"].item()) + mpmath.mpf("1.1"), mpmath.sqrt(dot(y[1:], y[1:]))
        out.append([time, *(times(mpmath.sqrt(time**2 - 1) / length, y[1:]) if length else y[1:])])
    return out


def paper_layer(p: Any, x: Sequence, weights: Sequence, act: Callable | None, masks: Mapping = {}) -> list:
    """The linear map, then the centroid s / sqrt(|<s, s>|) of s = sum_j w_ij x_j, with attention by -d^2 = 2 + 2 <q_i, k_j> (section 3)."""
    x, agg = paper_linear(p["linear"], x, act, masks.get("linear")), p.get("agg")
    attention = [mpmath.mpf(1)] * len(EDGES)
    if agg:
        query, key = (paper_linear(agg[f"{name}_linear"], x, None, masks.get(name)) for name in ("query", "key"))
        logits = [(2 + 2 * lorentz.inner(query[i], key[j])) / agg["scale"].item() + agg["bias"].item() for j, i in EDGES]
        attention = [sigmoid(a) for a in logits]
    out = []
    for i in range(len(x)):
        near = [(a * w, x[j]) for a, w, (j, k) in zip(attention, weights, EDGES, strict=True) if k == i]
        s = mixed(*map(list, zip(*near, strict=True))) if near else [mpmath.mpf(0)] * len(x[i])
        out.append(times(1 / mpmath.sqrt(-lorentz.inner(s, s)), s) if near else s)
    return out


class Witness:
    """A small model of two layers with random parameters, and its outputs by the formulas."""

    def __init__(self, **options: Any):
        rng = draws.rng(51)
        self.weights, self.x, self.pairs = (
            rng.uniform(0.2, 1.5, len(EDGES)),
            0.7 * rng.normal(size=(5, 3)),
            np.array([[0, 1], [3, 2], [2, 4]]),
        )
        self.graph = Graph.from_edges(*np.array(EDGES).T, num_nodes=5, weights=self.weights)
        self.model = HyboNet(4, 4, **options)
        shapes = jax.eval_shape(lambda: self.model.init(draws.key(0), self.x, self.graph))["params"]
        self.params = jax.tree.map(lambda a: 0.6 * rng.normal(size=a.shape), shapes)
        for layer in self.params.values():
            if "agg" in layer:
                layer["agg"] |= {"scale": np.array(1.7), "bias": np.array(0.4)}
            if "cls" in layer:
                layer["cls"][:, 0] = np.sqrt(1 + (layer["cls"][:, 1:] ** 2).sum(-1))

    def outputs(self, params: Any, **mode: Any) -> list[Any]:
        """Those of the model: embeddings, link scores, and class logits where it has classes."""
        variables = {"params": params}
        h = self.model.apply(variables, self.x, self.graph, method="encode", **mode)
        found = [h, self.model.apply(variables, h, self.pairs, method="score")]
        return found if self.model.task == "lp" else [*found, self.model.apply(variables, h, method=lambda model, h: model.decoder(h))]

    def truth(self, masks: Sequence[Mapping] = ({}, {})) -> list[np.ndarray]:
        """The same by the formulas: scores and logits are minus the squared Lorentzian distance 2 + 2 <x, y>, and a bias."""
        p = exactly(self.params)
        with mpmath.workdps(50):
            h = [lorentz.expmap0(list(row), mpmath.mpf(1)) for row in exactly(self.x)]
            for i in range(2):
                h = paper_layer(p[f"layers_{i}"], h, exactly(self.weights), elu if i and self.model.act else None, masks[i])
            found = [h, [2 + 2 * lorentz.inner(h[i], h[j]) for i, j in self.pairs]]
            if "decoder" in p:
                planes = list(zip(p["decoder"]["cls"], p["decoder"]["bias"], strict=True))
                found.append([[2 + 2 * lorentz.inner(row, cls) + b for cls, b in planes] for row in h])
            return [np.array(a, float) for a in found]


ATTENTION = {"num_layers": 3, "task": "nc", "n_classes": 3, "act": "elu", "use_att": True}


@pytest.mark.parametrize("options", [ATTENTION, {"task": "lp", "bias": False}], ids=["attention", "plain"])
def test_outputs_against_the_paper_at_50_digits(options: dict):
    witness = Witness(**options)
    for have, want in zip(jax.jit(witness.outputs)(witness.params), witness.truth(), strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-12, atol=1e-12 * np.abs(want).max())


def test_dropout_in_training_at_50_digits():
    """Masks over 1 - rate multiply what the linear maps take, after the activation; those of keys and queries at the rate 0.1."""
    witness = Witness(**ATTENTION, dropout=0.3)
    run = lambda params: witness.outputs(params, deterministic=False, rngs={"dropout": draws.key(1)})  # noqa: E731
    rates = {"linear": 0.3, "query": 0.1, "key": 0.1}
    have, drawn = with_known_masks(run, witness.params, [*rates.values()] * 2, 52)
    scaled = [exactly(mask.astype(float)) / (1 - mpmath.mpf(rate)) for mask, rate in zip(drawn, [*rates.values()] * 2, strict=True)]
    for a, b in zip(have, witness.truth([dict(zip(rates, scaled[i : i + 3])) for i in (0, 3)]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12 * np.abs(b).max())
