"""GIL and its HGAT baseline in Flax against torch: node classification and links, every flag of the training script."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import mpmath
import numpy as np
import pytest
import torch
from mpmath import mpf

from parity_tests import draws, slow
from parity_tests.models.cases_gil import CONFIGS, GRAPH, TORCH_GRAPH, WIDTHS, X, ours, reference, theirs
from parity_tests.models.conversion import (
    NODES,
    check_parity,
    check_round_trip,
    converted,
)
from parity_tests.models.paper import ACTS, check, exactly, fermi_dirac, leaky, linear, recorded_dropout, sigmoid, softmax, sum_of
from parity_tests.oracle import stereographic as ball
from parity_tests.oracle.stereographic import dot, plus, times
from port_jax.graphs import Graph
from port_jax.layers import hgat
from port_jax.models.gil import GIL
from weights.checkpoint import load
from weights.errors import ConversionError
from weights.proof.verify import verify

SHORT = {"classes, trained c", "links, pubmed, averaged heads"}  # one layer


@pytest.mark.parametrize("name", slow.all_but({"HGAT links, trained c"}, CONFIGS))
def test_forward_and_gradients(name: str, tmp_path):
    module = reference(CONFIGS[name], WIDTHS[:1] if name in SHORT else WIDTHS)
    ckpt = converted(module, CONFIGS[name], tmp_path)
    assert ckpt.arch == "gil"
    check_parity(module, ckpt, theirs, ours, single=name == "HGAT classes")
    check_round_trip(ckpt, tmp_path)


def test_a_trained_curvature_beside_a_fixed_one_is_refused(tmp_path):
    """geoopt from 0.2 on takes a copy of c's start into the classifier's ball; the original's version keeps the parameter."""
    state = reference(CONFIGS["classes, trained c"]).state_dict()
    assert state["decoder.ball.c"].data_ptr() == state["c"].data_ptr()
    state["decoder.ball.isp_c"] = state.pop("decoder.ball.c").clone()
    torch.save(state, tmp_path / "model.pth")
    with pytest.raises(ConversionError, match=r"decoder\.ball\.isp_c"):
        load(tmp_path / "model.pth", config=CONFIGS["classes, trained c"])


def test_curvature_comes_from_the_configuration(tmp_path):
    module = reference(CONFIGS["HGAT classes"])
    config = {key: value for key, value in CONFIGS["HGAT classes"].items() if key != "c"}
    with pytest.raises(ConversionError, match="curvature"):
        converted(module, config, tmp_path)
    assert converted(module, config, tmp_path, curvature=0.7).model.curvature == 0.7


def test_features_out_of_the_unit_ball_are_refused(tmp_path):
    """With c below 1, and only there. The original's formula, on float32, is infinite and has no gradient there."""
    config = {**CONFIGS["HGAT classes"], "c": 0.6}
    module = reference(config, WIDTHS[:1])
    ckpt = converted(module, config, tmp_path)
    wide = np.where(np.arange(NODES)[:, None] == 7, 3.0, X)
    encode = partial(ckpt.model.apply, ckpt.variables, method="encode")
    for apply in (lambda: module.encode(torch.as_tensor(wide), TORCH_GRAPH), lambda: encode(wide, GRAPH)):
        with pytest.raises(ValueError, match="out of the unit ball"):
            apply()
    np.savez(tmp_path / "graph.npz", edges=np.zeros((2, 1), int), features=wide)
    with pytest.raises(ConversionError, match=r"length 6.71; c = 0.6 maps it out of the unit ball"):
        verify(ckpt, tmp_path / "model.pth", tmp_path / "graph.npz", level="forward")
    wide[7] /= np.linalg.norm(wide[7])
    assert np.isfinite(encode(wide, GRAPH)).all()
    weight = torch.tensor(0.5, requires_grad=True)
    torch.tanh((weight * torch.atanh(torch.tensor(1.2).clamp(max=1 - 1e-15))).clamp(-15, 15)).backward()
    assert torch.isnan(torch.as_tensor(weight.grad))


Masks = Callable[..., np.ndarray]
"""The next mask: of this rate and of this shape."""


def paper_attention(case: "Case", p: Any, x: list, heads: int, concat: bool, act: Any, curved: bool, masks: Masks) -> list:
    """One step of message passing of arXiv 2010.12135, section 3, in mpmath, on the unit ball or flat: points of all nodes to points.

    Over a node i and its senders j, alpha is the softmax of LeakyReLU(a . [u_i, u_j]), on the ball with the softmax of the distances
    d(z_i, z_j) as a factor of its argument, where z_i = W (x) x_i (+) b and u_i = log_0 z_i; the result is act(sum alpha u_j + bias),
    with the heads side by side or averaged. As in the authors' code both factors can be left out on the ball (dist, atten), and dropout is
    that of W on the ball and of the input elsewhere, and in both cases of alpha.
    """
    model, width, rate = case.model, p["linear"]["kernel"].shape[1] // heads, case.model.dropout
    dropped = masks(rate, *(p["linear"]["kernel"].shape if curved else (6, len(x[0]))))
    kernel, shift = p["linear"]["kernel"], p["linear"].get("bias")
    if curved:
        z = [ball.mobius_matvec((kernel * dropped).T, a, -1) for a in x]
        z = z if shift is None else [ball.mobius_add(a, ball.expmap0(shift, -1), -1) for a in z]
    else:
        z = [linear(kernel, a, shift) for a in np.array(x, object) * dropped]
    u = [ball.logmap0(a, -1) if curved else a for a in z]
    edge, own = masks(rate, len(case.edges), heads), masks(rate, 6, heads)
    out = []
    for i in range(6):
        near = [(i, own[i]), *((j, edge[e]) for e, (j, k) in enumerate(case.edges) if k == i and j != i)]
        far = softmax([ball.dist(z[i], z[j], -1) for j, _ in near]) if curved and model.distance else [1] * len(near)
        found = []
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            weights = [mpf(1)] * len(near)
            if model.attend or not curved:
                logits = [dot(p["att"][0][head], [*u[i][part], *u[j][part]]) * d for (j, _), d in zip(near, far, strict=True)]
                alpha = softmax([leaky(a, model.negative_slope) for a in logits])
                weights = [a * kept[head] for a, (_, kept) in zip(alpha, near, strict=True)]
            found.append(sum_of((times(w, u[j][part]) for w, (j, _) in zip(weights, near, strict=True)), width))
        total = [a for one in found for a in one] if concat else [sum(a) / heads for a in zip(*found, strict=True)]
        total = [act(a) for a in (plus(total, p["bias"]) if model.use_bias else total)]
        out.append(ball.expmap0(total, -1) if curved else total)
    return out


def paper_layer(case: "Case", p: Any, h: list, e: list, masks: Masks) -> tuple[list, list]:
    """Message passing, then h <- h (+) (w d(h, exp_0 e) (x) exp_0 e) and, with the new h, e <- e + w' |log_0 h - e|^2 log_0 h.

    As in the authors' code exp_0 and log_0 have curvature -c, all else the unit ball, and the second distance is squared. What is added
    is dropped, too, at the rates drop_e and drop_h. The HGAT of that code is the message passing on the ball.
    """
    model, act = case.model, ACTS[case.model.activation]
    h = paper_attention(case, p["conv"], h, model.heads, model.concat, act, True, masks)
    if model.kind == "HGAT":
        return h, e
    e = paper_attention(case, p["conv_e"], e, model.heads, model.concat, act, False, masks)
    moved = masks(model.drop_e, 6, len(e[0])), masks(model.drop_h, 6, len(e[0]))
    for i in range(6):
        point = ball.expmap0(e[i], -case.c)
        step = p["h_fusion"][0, 0] * ball.dist(h[i], point, -1)
        h[i] = ball.mobius_add(h[i], list(moved[0][i] * ball.mobius_scalar_mul(step, point, -1)), -1)
        u = ball.logmap0(h[i], -case.c)
        gap = plus(u, times(-1, e[i]))
        e[i] = plus(e[i], list(moved[1][i] * times(p["e_fusion"][0, 0] * dot(gap, gap), u)))
    return h, e


def paper_embeddings(case: "Case", p: Any, masks: Masks) -> tuple[list, list]:
    h, e = [ball.expmap0(row, -case.c) for row in exactly(case.x)], [list(row) for row in exactly(case.x)]
    for l in range(len(case.model.features)):
        h, e = paper_layer(case, p[f"layers_{l}"], h, e, masks)
    return h, e


class Case:
    """GIL with random weights at c = 0.6 on six nodes, one of which sends and does not receive, and one of which has no edge."""

    def __init__(self, seed: int, scale: float = 0.4, **options: Any):
        rng, edges = draws.rng(seed), {(0, 1), (1, 2), (2, 1), (3, 1), (3, 3), (4, 2), (1, 3)}
        self.graph = Graph.from_edges(*np.array(sorted(edges)).T, num_nodes=6)
        self.edges = list(zip(np.asarray(self.graph.senders).tolist(), np.asarray(self.graph.receivers).tolist(), strict=True))
        self.x = rng.uniform(-0.5, 0.5, (6, 3))
        self.model = GIL(3, **{"features": [4], "heads": 2, "curvature": 0.6, "activation": "elu", "r": 1.5, "t": 0.7, **options})
        shapes = jax.eval_shape(lambda: self.model.init(draws.key(0), self.x, self.graph))["params"]
        self.params = jax.tree.map(lambda a: rng.uniform(-scale, scale, a.shape), shapes)
        if self.model.learnable_curvature:
            self.params["c"] = np.array([0.6])
        self.c = mpf(0.6)


def undropped(rate: float, *shape: int) -> np.ndarray:
    return np.full(shape, mpf(1), object)


LINKS = {
    "one layer": {},
    "pubmed, no distances, two layers of averaged heads": {
        "features": [4, 3], "concat": False, "distance": False, "normalize_gates": True, "learnable_curvature": True, "negative_slope": 0.3,
    },
    "HGAT": {"kind": "HGAT", "features": [4, 4], "distance": False},
}  # fmt: skip


@pytest.mark.parametrize("name", slow.all_but({"pubmed, no distances, two layers of averaged heads"}, LINKS))
def test_embeddings_and_links_against_the_paper_at_50_digits(name: str):
    """Of links i, j the sigmoid of w_h p(log_0 h) + w_e p(e), with the gates of the last link, as in the code; its HGAT has p(d^2).

    p(u) = 1 / (exp((|u_i - u_j| - r) / t) + 1), and a gate is the sigmoid of a linear function of u_i - u_j; on pubmed both gates are
    divided by their sum.
    """
    case = Case(41, **LINKS[name])
    model, pairs = case.model, np.array([[0, 1], [2, 4], [3, 0], [5, 2], [4, 1]])

    @jax.jit
    def run(params):
        h = model.apply({"params": params}, case.x, case.graph, method="encode")
        return h, model.apply({"params": params}, h, pairs, method="score")

    have, scored = run(case.params)
    p = exactly(case.params)
    with mpmath.workdps(50):
        h, e = paper_embeddings(case, p, undropped)
        far, shares = [[ball.dist2(h[i], h[j], -case.c) for i, j in pairs]], [mpf(1)]
        if model.kind == "GIL":
            sides = [ball.logmap0(a, -case.c) for a in h], e
            steps = [[plus(u[i], times(-1, u[j])) for i, j in pairs] for u in sides]
            far = [[mpmath.sqrt(dot(step, step) + mpf(1e-15)) for step in side] for side in steps]
            shares = [sigmoid(dot(side[-1], p[gate]["kernel"][:, 0])) for side, gate in zip(steps, ("w_h", "w_e"), strict=True)]
            shares = [share / sum(shares) for share in shares] if model.normalize_gates else shares
        probs = [[fermi_dirac(d, model.r, model.t) for d in side] for side in far]
        mixed = [dot(shares, both) for both in zip(*probs, strict=True)]
        check(scored, [sigmoid(a) for a in mixed] if model.kind == "GIL" else mixed)
        for a, b in zip(have if model.kind == "GIL" else [have], (h, e), strict=model.kind == "GIL"):
            check(a, b)


CLASSES = {
    "one head": {},
    "pubmed, no attention, no bias": {
        "classifier_heads": 3, "classifier_concat": False, "attend": False, "use_bias": False, "activation": "relu", "scale": 0.2,
    },
    "HGAT": {"kind": "HGAT", "distance": False},
    "dropout": {"dropout": 0.3, "drop_h": 0.2, "drop_e": 0.1, "scale": 0.3},
}  # fmt: skip


@pytest.mark.parametrize("name", slow.all_but({"pubmed, no attention, no bias", "dropout"}, CLASSES))
def test_class_logits_against_the_paper_at_50_digits(name: str, monkeypatch):
    """(w_h s f(h) + w_e e) / (w_h + w_e): h and e are passed on once more, and f has the distances to the hyperplanes.

    The signed distance of x to the plane through p with normal a at curvature -c is that of Ganea et al. (2018), section 3.1;
    s = exp(scale). As in the authors' code w_h and w_e are the gates of the last node, on pubmed the heads are 8, here 3, and averaged,
    and in training both gates are dropped.
    """
    case = Case(42, num_classes=3, **CLASSES[name])
    model, draw = case.model, hgat.dropout_masks

    @jax.jit
    def run(params):
        with recorded_dropout() as masks:

            def kept(*args: Any) -> Any:
                found = draw(*args)
                masks.extend(found.values())
                return found

            monkeypatch.setattr(hgat, "dropout_masks", kept)
            return model.apply({"params": params}, case.x, case.graph, not model.dropout, rngs={"dropout": draws.key(2)}), masks

    have, drawn = run(case.params)
    left = iter(exactly([np.asarray(mask) for mask in drawn]))

    def masks(rate: float, *shape: int) -> np.ndarray:
        if not model.dropout:
            return undropped(rate, *shape)
        mask = next(left)
        assert mask.shape == shape
        assert {float(a) for a in mask.ravel()} <= {0.0, 1 / (1 - rate)}
        return mask

    p = exactly(case.params)
    with mpmath.workdps(50):
        h, e = paper_embeddings(case, p, masks)
        d = p["decoder"]
        if model.kind == "HGAT":
            check(have, [linear(d["cls"]["kernel"], ball.logmap0(a, -case.c), d["cls"]["bias"]) for a in h])
            return
        heads, concat = model.classifier_heads, model.classifier_concat
        e = paper_attention(case, d["cls_e"], e, heads, concat, lambda a: a, False, masks)
        h = paper_attention(case, d["cls_h"], h, heads, concat, ACTS[model.activation], True, masks)
        curved = sigmoid(dot(ball.logmap0(h[-1], -case.c), d["w_h"]["kernel"][:, 0])) * masks(model.drop_h, 6, 1)[-1, 0]
        even = sigmoid(dot(e[-1], d["w_e"]["kernel"][:, 0])) * masks(model.drop_e, 6, 1)[-1, 0]
        planes = list(zip(d["point"], d["tangent"], d["scale"], strict=True))
        far = [[mpmath.exp(s) * ball.dist2plane(a, q, n, -case.c) for q, n, s in planes] for a in h]
        check(have, [times(1 / (curved + even), plus(times(curved, a), times(even, b))) for a, b in zip(far, e, strict=True)])
    assert not model.dropout or next(left, None) is None
