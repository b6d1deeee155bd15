"""HGAT by the formulas of the papers, in mpmath, node by node, and a small model to compare with them.

The presets are those of arXiv 1912.03046 (hat), 2107.03767 (htgn) and 2010.12135 (gil), and attention over Markov blankets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from mpmath import exp, log, mpf, sqrt, tanh, workdps

from parity_tests import draws
from parity_tests.oracle.networks import Ball, Hyperboloid, dense, elu, exactly, fermi_dirac, leaky_relu, mean, mixed, softmax
from parity_tests.oracle.stereographic import dot, plus
from port_jax.graphs import Graph
from port_jax.models import HGAT

Space = Ball | Hyperboloid
Edges = Sequence[tuple[int, int]]


def linear(p: Any, space: Space, x: list, mask: Any = 1) -> list:
    """exp_0(W log_0 x) (+) exp_0(b)."""
    return [space.shifted(space.exp0(dense(space.log0(a), p["kernel"] * mask)), p["bias"]) for a in x]


def origin_attention(p: Any, preset: str, space: Space, x: list, edges: Edges, heads: int, concat: bool, act: Callable,
                     slope: Any, distance: bool = False, masks: Mapping = {}) -> list:  # fmt: skip
    """The tangent vectors at the origin of what the presets hat, htgn and gil make of points: exp_0 takes them to the next space.

    Edges (j, i) lead from j to i; each node has one loop, whatever the graph has. alpha_ij is the softmax over i's edges of
    hat: -sqrt(sum_h d(exp_0 u_i^h, exp_0 u_j^h)^2 + 1e-8), htgn: LeakyReLU(a_i . u_i + a_j . u_j), gil: LeakyReLU(a . [u_i, u_j] beta_ij)
    with beta the softmax of d(z_i, z_j), or 1. Then come sum_j alpha_ij u_j, heads side by side or averaged, the bias (except in htgn) and
    act.
    """
    z = linear(p["linear"], space, x, masks.get("weight", 1))
    width = len(p["linear"]["bias"]) // heads
    u = [[v[h * width : (h + 1) * width] for h in range(heads)] for v in map(space.log0, z)]
    parts, out = [[space.exp0(part) for part in row] for row in u], []
    for i in range(len(x)):
        near = [(e, j) for e, (j, k) in enumerate(edges) if k == i and j != i] + [(None, i)]
        beta = softmax([space.dist(z[i], z[j]) for _, j in near]) if distance else [mpf(1)] * len(near)
        found = []
        for h in range(heads):
            if preset == "hat":
                logits = [-sqrt(sum(d**2 for d in map(space.dist, parts[i], parts[j])) + mpf(1e-8)) for _, j in near]
            elif preset == "htgn":
                logits = [leaky_relu(dot(p["att_i"][0, h], u[i][h]) + dot(p["att_j"][0, h], u[j][h]), slope) for _, j in near]
            else:
                logits = [leaky_relu(dot(p["att"][0, h], [*u[i][h], *u[j][h]]) * b, slope) for (_, j), b in zip(near, beta, strict=True)]
            alpha = softmax(logits)
            if masks.get("edge") is not None:
                alpha = [a * (masks["self"][i, h] if e is None else masks["edge"][e, h]) for a, (e, _) in zip(alpha, near, strict=True)]
            found.append(mixed(alpha, [u[j][h] for _, j in near]))
        row = [a for part in found for a in part] if concat else mean(found)
        out.append([act(a) for a in (row if preset == "htgn" else plus(row, p["bias"]))])
    return out


def blanket_attention(p: Any, space: Space, x: list, edges: Edges, heads: int, act: Callable, slope: Any, node_features: Any,
                      edge_features: Any, distance: bool, masks: Mapping = {}) -> list:  # fmt: skip
    """The same of the preset markov_blanket, whose sums are in the tangent space at each target.

    v_ij = log_{z_i} z_j, in coordinates at the origin, and m_ij = [v_ij, F_j, E_ij] W; the score is the LeakyReLU of
    a_i . u_i + a_j . u_j + b_i . F_i + b_j . F_j + b_e . E_ij + a_d d(z_i, z_j), and the point exp_{z_i} of sum_j mean_h alpha_ij^h m_ij.
    """
    z = linear(p["linear"], space, x, masks.get("weight", 1))
    u, f, out = [space.log0(a) for a in z], node_features, []
    for i in range(len(x)):
        near = [(e, j) for e, (j, k) in enumerate(edges) if k == i]
        if not near:
            out.append([act(a) for a in u[i]])
            continue
        weights = []
        for h in range(heads):
            logits = []
            for e, j in near:
                score = dot(p["att_i"][0, h], u[i]) + dot(p["att_j"][0, h], u[j])
                score += dot(p["att_node_i"][0, h], f[i]) + dot(p["att_node_j"][0, h], f[j]) + dot(p["att_edge"][0, h], edge_features[e])
                far = p["att_dist"][0, h, 0] * space.dist(z[i], z[j]) if distance else 0
                logits.append(leaky_relu(score + far, slope))
            alpha = softmax(logits)
            weights.append([a * masks["edge"][e, h] for a, (e, _) in zip(alpha, near, strict=True)] if "edge" in masks else alpha)
        messages = [dense([*space.log(z[i], z[j]), *f[j], *edge_features[e]], p["message"]) for e, j in near]
        moved = space.exp(z[i], mixed(mean(weights), messages))
        out.append([act(a) for a in space.log0(moved)])
    return out


# Unsorted edges (j, i), from j to i: one twice, a loop beside others, nodes 0 and 3 only send, node 5 is alone. The graph sorts them by i.
EDGES = [(0, 1), (1, 2), (4, 1), (2, 1), (2, 2), (1, 4), (3, 2), (0, 1)]
PRESETS = {
    "hat": {"classifier": "hyperplanes"},
    "htgn": {"learnable_curvature": True},
    "gil": {"distance": True, "classifier": "hyperplanes", "num_nodes": 6},
    "markov_blanket": {"distance": True, "node_features": 2, "edge_features": 1},
}


class Witness:
    """A small model of two layers with random parameters, and its outputs by `paper_hgat`'s formulas."""

    def __init__(self, preset: str, manifold: str, **options: Any):
        rng = draws.rng(11)
        sided = preset == "markov_blanket"
        self.side, edge = (rng.uniform(-0.7, 0.7, shape) if sided else None for shape in ((6, 2), (len(EDGES), 1)))
        self.graph = Graph.from_edges(*np.array(EDGES).T, num_nodes=6, edge_features=edge)
        self.edges = sorted(EDGES, key=lambda edge: edge[1])
        self.edge = None if edge is None else edge[sorted(range(len(EDGES)), key=lambda e: EDGES[e][1])]
        self.model = HGAT(3, [2, 3], 2, preset, manifold, (0.6, 1.7, 0.9), activation="elu", final_activation="tanh", negative_slope=0.3,
                          num_classes=2, r=1.4, t=0.6, **{**PRESETS[preset], **options})  # fmt: skip
        self.x, self.pairs = rng.uniform(-0.5, 0.5, (6, 3)), np.array([[0, 1], [4, 2], [5, 3]])
        shapes = jax.eval_shape(lambda: self.model.init(draws.key(0), self.given, self.graph, self.side))["params"]
        self.params = jax.tree.map(lambda a: rng.uniform(-0.35, 0.35, a.shape), shapes)
        if "embedding" in self.params:
            radius = np.sqrt(0.6 + (self.x**2).sum(-1, keepdims=True))
            self.params["embedding"] = np.concatenate([radius, self.x], -1) if manifold == "Lorentz" else 0.7 * self.x
        for l, raw in enumerate((0.3, 1.1, 0.8)):
            if self.model.learnable_curvature:
                self.params[f"manifolds_{l}"] = {"k" if manifold == "Lorentz" else "isp_c": np.array(raw)}

    @property
    def given(self) -> np.ndarray | None:
        return None if self.model.num_nodes else self.x

    def outputs(self, params: Any, **mode: Any) -> tuple[Any, ...]:
        """Those of the model: embeddings, class logits and link scores."""
        variables = {"params": params}
        h = self.model.apply(variables, self.given, self.graph, self.side, method="encode", **mode)
        assert isinstance(h, jax.Array)
        logits, scores = self.model.apply(variables, h, method="classify"), self.model.apply(variables, h, self.pairs, method="score")
        return h, logits, scores

    def truth(self, masks: Sequence[Mapping[str, Any]] = ({}, {})) -> list[np.ndarray]:
        """The same by the formulas. `masks` are factors of mpf, for each layer."""
        p, (side, edge) = exactly(self.params), (None if a is None else exactly(a) for a in (self.side, self.edge))
        model, lorentz = self.model, self.model.manifold == "Lorentz"
        with workdps(50):
            curvatures = [mpf(c) for c in model.curvature]
            if model.learnable_curvature:
                raw = [next(iter(p[f"manifolds_{l}"].values())).item() for l in range(3)]
                curvatures = raw if lorentz else [log(1 + exp(c)) for c in raw]
            spaces = [(Hyperboloid if lorentz else Ball)(c) for c in curvatures]
            if model.num_nodes:
                h = [list(row[1:]) if lorentz else list(row) for row in p["embedding"]]
            else:
                h = [spaces[0].exp0(list(row)) for row in exactly(self.x)]
            for i, act in enumerate((elu, tanh)):
                layer, slope = p[f"layers_{i}"], mpf(0.3)
                if model.preset == "markov_blanket":
                    u = blanket_attention(layer, spaces[i], h, self.edges, 2, act, slope, side, edge, True, masks[i])
                else:
                    u = origin_attention(layer, model.preset, spaces[i], h, self.edges, 2, i == 0, act, slope, model.distance, masks[i])
                h = [spaces[i + 1].exp0(row) for row in u]
            last, decoder = spaces[-1], p["decoder"]
            if model.classifier == "hyperplanes":
                logits = [[last.plane(row, list(point)) for point in decoder["points"]] for row in h]
            else:
                logits = [dense(last.log0(row), decoder["cls"]["kernel"], decoder["cls"]["bias"]) for row in h]
            scores = [fermi_dirac(last.dist(h[i], h[j]), mpf(1.4), mpf(0.6)) for i, j in self.pairs]
            return [np.array(a, float) for a in ([last.ambient(row) for row in h], logits, scores)]
