"""What the papers' formulas of graph networks share, in mpmath: spaces of curvature -c, layers of one node, a small graph, drawn masks.

Vectors are lists of mpf, and on the hyperboloid ambient, as HGCN's code has them; precision is the caller's (`mpmath.workdps(50)`).
The maps are those of `parity_tests.oracle`, which know nothing of port_jax and reference_torch.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
from mpmath import mpf

from parity_tests import draws
from parity_tests.models.conversion import encoded_and_called
from parity_tests.oracle import flat, lorentz
from parity_tests.oracle import stereographic as ball
from parity_tests.oracle.stereographic import dot, plus, times
from port_jax.graphs import Graph

GATE = 1e-12
"""Of the largest entry. A layer multiplies the error of its argument by at most the norm of its matrix, 3 or less, and by the slope of its
maps: 1 / (1 - 0.9^2) = 5 at 0.9 of the ball's radius, e^3 = 20 at a distance of 3 on the hyperboloid, beyond which few points of the
cases lie. Two layers make 60^2 times 1e-16 of it, which is 4e-13."""


def exactly(tree: Any) -> Any:
    """The same numbers as mpf, in arrays of objects."""
    return jax.tree.map(np.vectorize(mpf, otypes=[object]), tree)


def check(have: Any, want: Any) -> None:
    """float64 against mpf."""
    want = np.array(want, float)
    assert have.shape == want.shape
    assert np.isfinite(want).all()
    np.testing.assert_allclose(have, want, rtol=0, atol=GATE * np.abs(want).max())


# Scalars.


def softmax(a: list) -> list:
    total = sum(mpmath.exp(b) for b in a)
    return [mpmath.exp(b) / total for b in a]


def sigmoid(a: Any) -> Any:
    return 1 / (1 + mpmath.exp(-a))


def elu(a: Any) -> Any:
    return a if a > 0 else mpmath.expm1(a)


def leaky(a: Any, slope: Any) -> Any:
    return a if a > 0 else mpf(slope) * a


ACTS: dict[str | None, Callable[[Any], Any]] = {None: lambda a: a, "relu": lambda a: leaky(a, 0), "elu": elu, "tanh": mpmath.tanh}


def fermi_dirac(far: Any, r: float, t: float) -> Any:
    """1 / (exp((d - r) / t) + 1); HGCN's d is a squared distance, GIL's is not."""
    return 1 / (mpmath.exp((far - mpf(r)) / mpf(t)) + 1)


# Spaces of curvature -c: exp_0, log_0, (+), exp_x(u), log_x(y) and the squared distance.


@dataclass(frozen=True)
class Ball:
    """The Poincare ball |x|^2 < 1/c (arXiv 1805.09112, section 2)."""

    c: Any
    ambient = 0

    def __getattr__(self, name: str) -> Any:
        return lambda *args: getattr(ball, name)(*args, -self.c)


@dataclass(frozen=True)
class Hyperboloid:
    """-x_0^2 + |x_s|^2 = -1/c (arXiv 1910.12933, section 3.1). Time parts follow from space parts; x (+) y = exp_x P_(0 -> x) log_0 y."""

    c: Any
    ambient = 1

    def __getattr__(self, name: str) -> Any:
        return lambda *args: getattr(lorentz, name)(*(a[1:] for a in args), 1 / self.c)

    def mobius_add(self, x: list, y: list) -> list:
        return self.expmap(x, self.transp0(x, self.logmap0(y)))


@dataclass(frozen=True)
class Flat:
    """R^d."""

    c: Any
    ambient = 0

    def __getattr__(self, name: str) -> Any:
        return lambda *args: getattr(flat, name)(*args, None)

    def expmap0(self, u: list) -> list:
        return u

    logmap0, mobius_add = expmap0, staticmethod(plus)

    def dist2(self, x: list, y: list) -> Any:
        """Of rows that are longer than 1 shortened to it: HGCN's code normalises so before it decodes, by torch's renorm with its 1e-7."""
        lengths = (mpmath.sqrt(dot(a, a)) for a in (x, y))
        x, y = (times(1 / (n + mpf(1e-7)), a) if n > 1 else a for n, a in zip(lengths, (x, y), strict=True))
        return flat.dist2(x, y, None)


SPACES: dict[str, Any] = {"PoincareBall": Ball, "Hyperboloid": Hyperboloid, "Euclidean": Flat}


# Layers of one node.


def linear(kernel: np.ndarray, x: list, bias: Any = None) -> list:
    """x W + b with W [in, out]."""
    out = [dot(column, x) for column in kernel.T]
    return out if bias is None else plus(out, bias)


def hyperbolic_linear(space: Any, p: Any, x: list, mask: Any = 1, bias: bool = True) -> list:
    """exp_0(W log_0 x) (+) exp_0(b), arXiv 1910.12933, section 4.1; `mask` multiplies W: HGCN's code drops connections, not inputs."""
    z = space.expmap0(linear(p["kernel"] * mask, space.logmap0(x)))
    return space.mobius_add(z, space.expmap0(list(p["bias"]))) if bias else z


def dense(p: Any, x: list, mask: Any = 1) -> list:
    """dropout(x W + b)."""
    out = linear(p["linear"]["kernel"], x, p["linear"].get("bias"))
    return [a * m for a, m in zip(out, np.broadcast_to(mask, len(out)), strict=True)]


# A case: a model of HGCN's code with random weights, on a graph of six nodes.


class Pass(NamedTuple):
    """What one pass computed: embeddings [N, d], logits [N, classes] or None, scores of links; a pass of training has logits alone.

    `masks` are the ones that it drew, in the order of their layers; in evaluation 1 without end.
    """

    h: Any
    logits: Any
    scores: Any
    masks: Iterator[Any]


@contextmanager
def recorded_dropout() -> Iterator[list]:
    """The masks of `nn.Dropout` in the order in which they are drawn: what it makes of ones. What it makes of x is x times that."""
    masks: list = []

    def keep(run: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
        if not isinstance(context.module, nn.Dropout):
            return run(*args, **kwargs)
        x, *rest = args
        masks.append(run(jnp.ones_like(x), *rest, **kwargs))
        return x * masks[-1]

    with nn.intercept_methods(keep):
        yield masks


class NodeCase:
    """Six nodes: a loop, edges of one direction and of both, node 4 sends and does not receive, node 5 has no edge. Weights differ."""

    EDGES = ((0, 1), (1, 2), (2, 1), (3, 1), (1, 3), (3, 3), (4, 2), (2, 0), (4, 0))
    PAIRS = np.array([[0, 1], [2, 4], [3, 0], [5, 1], [2, 2], [4, 3]])

    def __init__(self, model: Any, seed: int, scale: float = 0.8, curvatures: tuple[float, ...] = (0.6, 1.7, 0.9)):
        rng = draws.rng(seed)
        self.model = model
        weights = rng.uniform(0.2, 0.9, len(self.EDGES))
        self.graph = Graph.from_edges(*np.array(self.EDGES).T, num_nodes=6, weights=weights)
        ends = np.asarray(self.graph.senders).tolist(), np.asarray(self.graph.receivers).tolist()
        self.edges = list(zip(*ends, exactly(np.asarray(self.graph.weights, np.float64)), strict=True))
        """(sender, receiver, weight) in the graph's order, which is that of masks."""
        assert {(j, i): float(w) for j, i, w in self.edges} == dict(zip(self.EDGES, weights, strict=True))
        self.x = rng.uniform(-0.8, 0.8, (6, model.feat_dim - (model.manifold == "Hyperboloid")))
        shapes = jax.eval_shape(lambda: model.init(draws.key(0), self.x, self.graph))["params"]
        self.params = jax.tree.map(lambda a: rng.uniform(-scale, scale, a.shape), shapes)
        trained = [name for name in sorted(shapes) if name.startswith("manifolds_")]
        self.params |= {name: {"c": np.array([c])} for name, c in zip(trained, curvatures[-len(trained) :], strict=False)}

    def passes(self) -> Iterator[Pass]:
        """A pass of evaluation and, of a model with dropout, one of training, whose masks have to be used up by whoever takes it."""
        model, x, graph = self.model, self.x, self.graph

        @jax.jit
        def run(params: Any) -> Any:
            v = {"params": params}
            h, logits = encoded_and_called(model, v, x, graph)
            scores = model.apply(v, h, self.PAIRS, method="score")
            with recorded_dropout() as masks:
                drawn = model.apply(v, x, graph, False, rngs={"dropout": draws.key(1)}) if model.dropout else None
            return (h, logits, scores), drawn, masks

        whole, drawn, masks = run(self.params)
        yield Pass(*whole, itertools.repeat(1))
        if model.dropout:
            assert {0.0} < {float(value) for mask in masks for value in np.ravel(mask)} <= {0.0, 1 / (1 - model.dropout)}
            left = iter(exactly([np.asarray(mask) for mask in masks]))
            yield Pass(None, drawn, None, left)
            assert next(left, None) is None

    def exact(self) -> tuple[Any, list[list]]:
        """Parameters and rows of features, with HGCN's zero before those on the hyperboloid."""
        zero = [mpf(0)] * (self.model.manifold == "Hyperboloid")
        return exactly(self.params), [[*zero, *row] for row in exactly(self.x)]

    def curvature(self) -> float:
        """c of the embeddings."""
        return self.model.c or float(self.params[f"manifolds_{self.model.curvatures - 1}"]["c"][0])

    def spaces(self) -> list:
        """The spaces of the trained or the fixed curvatures."""
        kind, params = SPACES[self.model.manifold], exactly(self.params)
        if self.model.c is not None:
            return [kind(mpf(self.model.c))] * self.model.curvatures
        return [kind(params[f"manifolds_{l}"]["c"][0]) for l in range(self.model.curvatures)]

    def convolved(self, rows: list[list]) -> list[list]:
        """sum_j A_ij rows_j over the edges j -> i."""
        return [sum_of((times(w, rows[j]) for j, k, w in self.edges if k == i), len(rows[0])) for i in range(len(rows))]

    def classified(self, p: Any, space: Any, h: list[list], mask: Any) -> list[list]:
        """The classes of HNN and HGCN: dropout(W log_0 h + b)."""
        kept = np.broadcast_to(mask, (len(h), self.model.n_classes))
        return [dense(p["decoder"], space.logmap0(a), m) for a, m in zip(h, kept, strict=True)]

    def check(self, found: Pass, space: Any, h: Any, logits: Any = None, most: float = float("inf")) -> None:
        """All that the pass computed; links have Fermi-Dirac probabilities of the squared distances, which are at most `most`."""
        if logits is not None:
            check(found.logits, logits)
        if found.h is not None:
            check(found.h, h)
            far = [min(space.dist2(list(h[i]), list(h[j])), mpf(most)) for i, j in self.PAIRS]
            check(found.scores, [fermi_dirac(d, self.model.r, self.model.t) for d in far])


def sum_of(vectors: Any, width: int) -> list:
    total = [mpf(0)] * width
    for v in vectors:
        total = plus(total, v)
    return total
