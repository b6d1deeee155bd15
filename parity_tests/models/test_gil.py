"""GIL and its HGAT baseline in Flax against torch: node classification and links, every flag of the training script."""

from functools import partial
from typing import Any

import jax
import mpmath
import numpy as np
import pytest
import torch

from parity_tests import draws, slow
from parity_tests.models.cases_gil import CONFIGS, GRAPH, TORCH_GRAPH, WIDTHS, X, ours, reference, theirs
from parity_tests.models.conversion import (
    NODES,
    check_parity,
    check_round_trip,
    converted,
)
from parity_tests.oracle import stereographic as ball
from port_jax.graphs import Graph
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


def paper_attention(p: Any, x: list, edges: set, heads: int, act: Any, curved: bool) -> list:
    """One step of message passing of arXiv 2010.12135, section 3, in mpmath, on the unit ball or flat: points of all nodes to points.

    Over a node i and its senders j, alpha is the softmax of LeakyReLU(a . [u_i, u_j]), on the ball with the softmax of the distances
    d(z_i, z_j) as a factor of its argument, where z_i = W (x) x_i (+) b and u_i = log_0 z_i; the result is act(sum alpha u_j + bias).
    """
    kernel, shift, att = p["linear"]["kernel"], p["linear"]["bias"], p["att"][0]
    z = [ball.mobius_matvec(kernel.T, a, -1) if curved else list(np.array(a, object) @ kernel) for a in x]
    z = [ball.mobius_add(a, ball.expmap0(shift, -1), -1) if curved else ball.plus(a, shift) for a in z]
    u = [ball.logmap0(a, -1) if curved else a for a in z]
    out, width = [], kernel.shape[1] // heads
    for i in range(len(x)):
        near = [i, *(j for j, k in edges if k == i and j != i)]
        far = softmax([ball.dist(z[i], z[j], -1) for j in near]) if curved else [1] * len(near)
        found = []
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            logits = [ball.dot(att[head], [*u[i][part], *u[j][part]]) * d for j, d in zip(near, far, strict=True)]
            alpha = softmax([a if a > 0 else a / 5 for a in logits])
            found += [sum(w * u[j][k] for w, j in zip(alpha, near, strict=True)) for k in range(part.start, part.stop)]
        found = [act(a) for a in ball.plus(found, p["bias"])]
        out.append(ball.expmap0(found, -1) if curved else found)
    return out


def softmax(a: list) -> list:
    total = sum(mpmath.exp(b) for b in a)
    return [mpmath.exp(b) / total for b in a]


def elu(a: Any) -> Any:
    return a if a > 0 else mpmath.expm1(a)


def sigmoid(a: Any) -> Any:
    return 1 / (1 + mpmath.exp(-a))


def paper_layer(p: Any, h: list, e: list, c: Any, edges: set) -> tuple[list, list]:
    """Message passing, then h <- h (+) (w d(h, exp_0 e) (x) exp_0 e) and, with the new h, e <- e + w' |log_0 h - e|^2 log_0 h.

    As in the authors' code exp_0 and log_0 have curvature -c, all else the unit ball, and the second distance is squared.
    """
    h, e = paper_attention(p["conv"], h, edges, 2, elu, True), paper_attention(p["conv_e"], e, edges, 2, elu, False)
    for i in range(len(h)):
        point = ball.expmap0(e[i], -c)
        step = p["h_fusion"][0, 0] * ball.dist(h[i], point, -1)
        h[i] = ball.mobius_add(h[i], ball.mobius_scalar_mul(step, point, -1), -1)
        u = ball.logmap0(h[i], -c)
        gap = ball.plus(u, ball.times(-1, e[i]))
        e[i] = ball.plus(e[i], ball.times(p["e_fusion"][0, 0] * ball.dot(gap, gap), u))
    return h, e


def random_gil(seed: int, **options: Any) -> tuple[GIL, dict, np.ndarray, Graph, set]:
    rng, edges = draws.rng(seed), {(0, 1), (1, 2), (2, 1), (3, 1), (3, 3), (4, 2), (1, 3)}
    graph = Graph.from_edges(*np.array(sorted(edges)).T, num_nodes=5)
    x = 0.3 * rng.normal(size=(5, 3))
    model = GIL(3, [4], 2, curvature=0.6, activation="elu", r=1.5, t=0.7, **options)
    shapes = jax.eval_shape(lambda: model.init(draws.key(0), x, graph))["params"]
    return model, jax.tree.map(lambda a: 0.4 * rng.normal(size=a.shape), shapes), x, graph, edges


def exactly(tree: Any) -> Any:
    return jax.tree.map(np.vectorize(mpmath.mpf, otypes=[object]), tree)


def test_embeddings_and_links_against_the_paper_at_50_digits():
    """Embeddings of one layer, and of links i, j the sigmoid of w_h p(log_0 h) + w_e p(e), with the gates of the last link as in the code.

    p(u) = 1 / (exp((|u_i - u_j| - r) / t) + 1), and a gate is the sigmoid of a linear function of u_i - u_j.
    """
    model, params, x, graph, edges = random_gil(41)
    pairs = np.array([[0, 1], [2, 4], [3, 0], [4, 1]])

    @jax.jit
    def run(params):
        h = model.apply({"params": params}, x, graph, method="encode")
        return h.hyperbolic, h.euclidean, model.apply({"params": params}, h, pairs, method="score")

    have = run(params)
    p, rows = exactly(params), exactly(x)
    with mpmath.workdps(50):
        c = mpmath.mpf(0.6)
        h, e = paper_layer(p["layers_0"], [ball.expmap0(row, -c) for row in rows], [list(row) for row in rows], c, edges)
        tangents, scores = [ball.logmap0(a, -c) for a in h], []
        for i, j in pairs[::-1]:
            probs = []
            for u, gate in ((tangents, "w_h"), (e, "w_e")):
                step = ball.plus(u[i], ball.times(-1, u[j]))
                if not scores:
                    p[gate]["last"] = sigmoid(ball.dot(step, p[gate]["kernel"][:, 0]))
                far = mpmath.sqrt(ball.dot(step, step) + mpmath.mpf(1e-15))
                probs.append(p[gate]["last"] / (mpmath.exp((far - mpmath.mpf(1.5)) / mpmath.mpf(0.7)) + 1))
            scores.append(sigmoid(sum(probs)))
        want = [np.array(a, float) for a in (h, e, scores[::-1])]
    for a, b in zip(have, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)


def test_class_logits_against_the_paper_at_50_digits():
    """(w_h s f(h) + w_e e) / (w_h + w_e): h and e are passed on once more, by one head, and f has the distances to the hyperplanes.

    The signed distance of x to the plane through p with normal a at curvature -c is that of Ganea et al. (2018), section 3.1;
    s = exp(scale). As in the authors' code w_h and w_e are the gates of the last node.
    """
    model, params, x, graph, edges = random_gil(42, num_classes=3)
    have = jax.jit(partial(model.apply, graph=graph))({"params": params}, x)
    p, rows = exactly(params), exactly(x)
    with mpmath.workdps(50):
        c, d = mpmath.mpf(0.6), p["decoder"]
        h, e = paper_layer(p["layers_0"], [ball.expmap0(row, -c) for row in rows], [list(row) for row in rows], c, edges)
        h, e = paper_attention(d["cls_h"], h, edges, 1, elu, True), paper_attention(d["cls_e"], e, edges, 1, lambda a: a, False)
        curved = sigmoid(ball.dot(ball.logmap0(h[-1], -c), d["w_h"]["kernel"][:, 0]))
        flat = sigmoid(ball.dot(e[-1], d["w_e"]["kernel"][:, 0]))
        far = [
            [mpmath.exp(s) * ball.dist2plane(a, q, n, -c) for q, n, s in zip(d["point"], d["tangent"], d["scale"], strict=True)] for a in h
        ]
        want = [ball.times(1 / (curved + flat), ball.plus(ball.times(curved, a), ball.times(flat, b))) for a, b in zip(far, e, strict=True)]
        np.testing.assert_allclose(have, np.array(want, float), rtol=0, atol=1e-12)
