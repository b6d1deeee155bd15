"""HTGN by the formulas of arXiv 2107.03767 as its authors' code has them, in mpmath, and a small model to compare with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from mpmath import mpf, sqrt, tanh, workdps

from parity_tests import draws
from parity_tests.models.paper_hgat import Edges, linear, origin_attention
from parity_tests.oracle.networks import Ball, dense, exactly, fermi_dirac, leaky_relu, mean, mixed, sigmoid, softmax
from parity_tests.oracle.stereographic import dot, plus, times
from port_jax.graphs import Graph
from port_jax.models import HTGN

NODES, OUT, WINDOW = 5, 3, 2
EDGES = [
    [(1, 0), (0, 2), (3, 2), (2, 2), (2, 1), (3, 0)],
    [(0, 1), (1, 3), (2, 3), (0, 1), (3, 3), (2, 0)],
    [(3, 1), (2, 1), (1, 2), (1, 1), (3, 0), (0, 2)],
]
"""(j, i) of edges from j to i, in three steps; node 4 is alone. One compilation serves graphs with the same counts of edges by node."""


def slope(a: Any) -> Any:
    return leaky_relu(a, mpf("0.01"))


def degree_convolution(p: Any, space: Ball, x: list, edges: Edges, masks: Mapping = {}) -> list:
    """LeakyReLU(sum_j u_j / sqrt(d_i d_j)), with u = log_0 of the linear map, one loop a node, and d the number of edges received."""
    u = [space.log0(z) for z in linear(p["linear"], space, x, masks.get("weight", 1))]
    near, out = [[*(j for j, k in edges if k == i and j != i), i] for i in range(len(x))], []
    for sources in near:
        weights = [1 / sqrt(mpf(len(sources) * len(near[j]))) for j in sources]
        out.append([slope(a) for a in mixed(weights, [u[j] for j in sources])])
    return out


def gru(p: Any, x: list, h: list) -> list:
    """n + z (h - n): r and z are sigmoid(W x + b + U h + d), n is tanh(W x + b + r (U h + d)); the weights are in the order r, z, n."""
    ours, theirs = dense(x, p["weight_ih"], p["bias_ih"]), dense(h, p["weight_hh"], p["bias_hh"])
    d = len(h)
    r, z = ([sigmoid(a) for a in plus(ours, theirs)[part * d : part * d + d]] for part in (0, 1))
    n = [tanh(a + s * b) for a, s, b in zip(ours[2 * d :], r, theirs[2 * d :], strict=True)]
    return [b + s * (a - b) for a, b, s in zip(h, n, z, strict=True)]


class Witness:
    """A model with random parameters, features, graphs and hidden states, and its steps by the formulas."""

    def __init__(self, aggregation: str, **options: Any):
        rng, attention = draws.rng(21), aggregation == "att"
        self.graphs = [Graph.from_edges(*np.array(edges).T, num_nodes=NODES) for edges in EDGES]
        self.edges = [sorted(edges, key=lambda edge: edge[1]) for edges in EDGES]
        self.model = HTGN(4, [2, OUT], 2, aggregation, (0.3, 0.6, 1.4), learnable_curvature=attention, use_hta=attention, attention_width=4,
                          num_nodes=NODES, trainable_feat=not attention, **options)  # fmt: skip
        self.x = rng.uniform(-0.6, 0.6, (NODES, 4))
        self.start = rng.uniform(-0.3, 0.3, (WINDOW, NODES, OUT))
        self.pairs = np.array([[0, 1], [3, 2], [4, 0]])
        shapes = jax.eval_shape(lambda: self.model.init(draws.key(0), self.given, self.graphs[0], self.start))["params"]
        self.params = jax.tree.map(lambda a: rng.uniform(-0.5, 0.5, a.shape), shapes)
        if "c" in self.params:
            self.params["c"] = np.array([[0.35], [0.5], [1.3]])

    @property
    def given(self) -> np.ndarray | None:
        return None if self.model.trainable_feat else self.x

    def step(self, params: Any, graph: Graph, hiddens: Any, **mode: Any) -> tuple[Any, ...]:
        """One step of the model: the new hidden state, link scores, and the temporal consistency."""
        variables = {"params": params}
        h = self.model.apply(variables, self.given, graph, hiddens, method="encode", **mode)
        scores, htc = (self.model.apply(variables, h, other, method=name) for name, other in (("score", self.pairs), ("htc", hiddens[-1])))
        return h, scores, htc

    def truth(self, steps: int, masks: Sequence[Mapping[str, Any]] = ({}, {})) -> list[list[np.ndarray]]:
        """The same of each step by the formulas; the window then loses its oldest state and gains the new one."""
        with workdps(50):
            p, window = exactly(self.params), [[list(row) for row in state] for state in exactly(self.start)]
            balls = [Ball(c) for c in (p["c"][:, 0] if "c" in p else map(mpf, self.model.curvature))]  # pyright: ignore[reportArgumentType]
            found = []
            for edges in self.edges[:steps]:
                h = self._step(p, balls, edges, window, masks)
                scores = [fermi_dirac(Ball(mpf(1)).dist(h[i], h[j]), 2, 1) for i, j in self.pairs]
                htc = sum(balls[2].dist(a, b) ** 2 for a, b in zip(h, window[-1], strict=True)) / NODES
                found.append([np.array(a, float) for a in (h, scores, htc)])
                window = [*window[1:], h]
        return found

    def _step(self, p: Any, balls: Sequence[Ball], edges: Edges, window: list, masks: Sequence[Mapping[str, Any]]) -> list:
        """exp_0(GRU(log_0 of both convolutions of [exp_0(W x + b), h_t-1], s)).

        Of the tangent vectors h_t of the window, s is the mean of softmax_t(r . tanh(Q h_t)) h_t (in the paper it is the sum), or the
        last of them.
        """
        x = p["feat"] if self.model.trainable_feat else exactly(self.x)
        h = [[*balls[0].exp0(dense(a, p["linear"]["kernel"], p["linear"]["bias"])), *b] for a, b in zip(x, window[-1], strict=True)]
        for i, ball in enumerate(balls[:2]):
            layer = p[f"layers_{i}"]
            if self.model.aggregation == "deg":
                u = degree_convolution(layer, ball, h, edges, masks[i])
            else:
                u = origin_attention(layer, "htgn", ball, h, edges, 2, i == 0, slope, mpf("0.2"), masks=masks[i])
            h = [balls[i + 1].exp0(a) for a in u]
        tangents, out = [[balls[2].log0(a) for a in state] for state in window], []
        for i, a in enumerate(h):
            states = [state[i] for state in tangents]
            s = states[-1]
            if self.model.use_hta:
                alpha = softmax([dot(map(tanh, dense(state, p["Q"])), p["r"][:, 0]) for state in states])
                s = mean([times(w, state) for w, state in zip(alpha, states, strict=True)])
            out.append(balls[2].exp0(gru(p["gru"], balls[2].log0(a), s)))
        return out
