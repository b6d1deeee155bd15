"""GIL: geometry interaction learning, and the HGAT of the same code (arXiv 2010.12135), with the authors' parameter
names."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import geoopt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reference_torch.graphs.graph import Graph, segment_softmax, segment_sum
from reference_torch.layers.decoders import fermi_dirac
from reference_torch.layers.hgat import ACTIVATIONS
from reference_torch.layers.learnable_curvature import Ball
from reference_torch.layers.tangent import HypLinear


class Pair(NamedTuple):
    """What GIL knows of each node: a point of the ball and a Euclidean vector."""

    hyperbolic: Tensor
    euclidean: Tensor


def _glorot(*shape: int) -> nn.Parameter:
    bound = (6 / (shape[-2] + shape[-1])) ** 0.5
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))


class Convolution(nn.Module):
    """Attention over neighbours and the node itself; `conv` on the unit ball with `hy_linear`, `conv_e` in flat space
    with `linear`."""

    def __init__(
        self,
        hyperbolic: bool,
        in_features: int,
        features: int,
        heads: int,
        *,
        concat=True,
        bias=True,
        alpha=0.2,
        act="relu",
        atten=True,
        dist=False,
    ):
        super().__init__()
        channels = features // heads if concat else features
        self.heads, self.concat, self.alpha, self.act = heads, concat, alpha, ACTIVATIONS[act]
        self.hyperbolic, self.atten, self.dist = hyperbolic, atten, dist
        self.bias = nn.Parameter(torch.zeros(features)) if bias else None
        self.att = _glorot(1, heads, 2 * channels)
        self.use_bias = bias
        if hyperbolic:
            self.hy_linear = HypLinear(in_features, heads * channels)
        else:
            self.linear = nn.Linear(in_features, heads * channels, bias=bias)

    def forward(self, x: Tensor, graph: Graph) -> Tensor:
        """x [N, in] to [N, out], or [N, heads * out] with concatenation: points of the unit ball if hyperbolic, else vectors."""
        ball = Ball(x.new_ones(()))
        if self.hyperbolic:
            z = self.hy_linear(ball, x) if self.use_bias else ball.expmap0(F.linear(ball.logmap0(x), self.hy_linear.weight))
        else:
            z = self.linear(x)
        u = (ball.logmap0(z) if self.hyperbolic else z).view(len(x), self.heads, -1)
        senders, receivers, _ = graph.loops_replaced()
        weights = u.new_ones(len(senders), self.heads)
        if self.atten:
            logits = (torch.cat([u[receivers], u[senders]], -1) * self.att).sum(-1)
            if self.dist:
                logits = logits * segment_softmax(ball.dist(z[receivers], z[senders]), receivers, len(x))[:, None]
            weights = segment_softmax(F.leaky_relu(logits, self.alpha), receivers, len(x))
        out = segment_sum(weights[..., None] * u[senders], receivers, len(x))
        out = out.flatten(1) if self.concat else out.mean(1)
        out = self.act(out if self.bias is None else out + self.bias)
        return ball.expmap0(out) if self.hyperbolic else out


class HFusion(nn.Module):
    """h (+) (w d(h, exp_0 e)) (x) exp_0 e; exp_0 at c, the rest on the unit ball."""

    def __init__(self):
        super().__init__()
        self.att = nn.Parameter(torch.zeros(1, 1))

    def forward(self, ball: Ball, h: Tensor, e: Tensor) -> Tensor:
        """Points h [N, d] moved towards exp_0(e)."""
        unit = Ball(h.new_ones(()))
        point = unit.projx(ball.expmap0(e))
        far = unit.dist(h, point, keepdim=True) * self.att
        return unit.mobius_add(h, ball.projx(unit.mobius_scalar_mul(far, point)))


class EFusion(nn.Module):
    """e + w |log_0 h - e|^2 log_0 h."""

    def __init__(self):
        super().__init__()
        self.att = nn.Parameter(torch.zeros(1, 1))

    def forward(self, ball: Ball, h: Tensor, e: Tensor) -> Tensor:
        """Vectors e [N, d] moved towards log_0(h)."""
        u = ball.logmap0(h)
        return e + (u - e).pow(2).sum(-1, keepdim=True) * self.att * u


class Layer(nn.Module):
    """One layer of GIL, or without the Euclidean side one of its HGAT baseline."""

    def __init__(self, kind: str, in_features: int, features: int, heads: int, *, atten=True, dist=True, **shared):
        super().__init__()
        self.conv = Convolution(True, in_features, features, heads, atten=atten, dist=dist, **shared)
        if kind == "GIL":
            self.conv_e = Convolution(False, in_features, features, heads, **shared)
            self.h_fusion, self.e_fusion = HFusion(), EFusion()


class Encoder(nn.Module):
    """The layers one after another, from features to points, or to points and vectors."""

    def __init__(self, kind: str, dims: Sequence[int], **shared):
        super().__init__()
        self.kind = kind
        self.layers: Any = nn.Sequential(*(Layer(kind, i, o, **shared) for i, o in pairwise(dims)))

    def forward(self, ball: Ball, x: Tensor, graph: Graph) -> Tensor | Pair:
        """Features x [N, in] to points, for GIL with the Euclidean side beside them. ValueError if x leaves the unit ball."""
        h, e = ball.expmap0(x), x
        if (h.norm(dim=-1) >= 1).any():  # with c below 1: the original's attention takes artanh(1) there, and its gradients are NaN
            raise ValueError("x: features are mapped out of the unit ball, on which the attention lives")
        for layer in self.layers:
            h = layer.conv(h, graph)
            if self.kind == "GIL":
                e = layer.conv_e(e, graph)
                h = layer.h_fusion(ball, h, e)
                e = layer.e_fusion(ball, h, e)
        return Pair(h, e) if self.kind == "GIL" else h


class DualDecoder(nn.Module):
    """Class logits of GIL: signed distances to hyperplanes beside a Euclidean attention layer, weighted by the last
    node's gates."""

    def __init__(
        self,
        dim: int,
        num_classes: int,
        c: float,
        *,
        heads: int,
        concat: bool,
        act: str,
        atten: bool,
        dist: bool,
        **shared,
    ):
        super().__init__()
        self.cls_e = Convolution(False, dim, num_classes, heads, concat=concat, act="none", **shared)
        self.cls_h = Convolution(True, dim, dim, heads, concat=concat, act=act, atten=atten, dist=dist, **shared)
        self.scale = nn.Parameter(torch.zeros(num_classes))
        # A point of the ball and one of the sphere; the original's optimizers know another ManifoldParameter, and take them for Euclidean.
        self.point = nn.Parameter(geoopt.PoincareBall(1.0).expmap0(torch.randn(num_classes, dim) / 4).detach())
        self.tangent = nn.Parameter(geoopt.Sphere().projx(torch.randn(num_classes, dim)))
        self.ball = nn.Module()  # old geoopt keeps the curvature as this buffer; the forward pass is given the ball
        self.ball.register_buffer("c", torch.tensor([float(c)], dtype=torch.float64))
        self.w_e, self.w_h = nn.Linear(num_classes, 1, bias=False), nn.Linear(dim, 1, bias=False)

    def forward(self, ball: Ball, pair: Pair, graph: Graph) -> Tensor:
        """Logits [N, classes]: both sides' logits, weighted by the gates of the last node."""
        flat = self.cls_e(pair.euclidean, graph)
        h = self.cls_h(pair.hyperbolic, graph)
        curved = ball.dist2plane(h[:, None], self.point, self.tangent) * self.scale.exp()
        w_h, w_e = torch.sigmoid(self.w_h(ball.logmap0(h)))[-1], torch.sigmoid(self.w_e(flat))[-1]
        return (w_h * curved + w_e * flat) / (w_h + w_e)


class LinearDecoder(nn.Module):
    """Class logits of the HGAT baseline: a linear map of log_0(h)."""

    def __init__(self, dim: int, num_classes: int, bias: bool):
        super().__init__()
        self.cls: Any = nn.Module()
        self.cls.linear = nn.Linear(dim, num_classes, bias=bias)

    def forward(self, ball: Ball, h: Tensor, graph: Graph) -> Tensor:
        """Logits [N, classes] of log_0(h)."""
        return self.cls.linear(ball.logmap0(h))


class GIL(nn.Module):
    """`kind` GIL or HGAT; with `num_classes` for node classification, without for link prediction.

    `learnable_curvature` trains c, from `c`. `pubmed` stands for what the authors' code does on that data set: 8 averaged heads
    in the classifier, and normalised gates.
    """

    def __init__(
        self,
        in_features: int,
        features: Sequence[int],
        heads: int,
        *,
        kind="GIL",
        num_classes: int | None = None,
        c=1.0,
        act="relu",
        concat=True,
        alpha=0.2,
        bias=True,
        atten=True,
        dist=True,
        pubmed=False,
        r=2.0,
        t=1.0,
        learnable_curvature=False,
    ):
        super().__init__()
        self.kind, self.pubmed, self.r, self.t, self.fixed_c = kind, pubmed, r, t, float(c)
        dims, shared = [in_features, *features], {"bias": bias, "alpha": alpha}
        self.encoder = Encoder(kind, dims, heads=heads, concat=concat, act=act, atten=atten, dist=dist, **shared)
        self.decoder = None
        if num_classes is None:
            self.w_e, self.w_h = nn.Linear(dims[-1], 1, bias=False), nn.Linear(dims[-1], 1, bias=False)
        elif kind == "GIL":
            self.decoder = DualDecoder(
                dims[-1],
                num_classes,
                c,
                heads=8 if pubmed else 1,
                concat=concat and not pubmed,
                act=act,
                atten=atten,
                dist=dist,
                **shared,
            )
        else:
            self.decoder = LinearDecoder(dims[-1], num_classes, bias)
        self.c = None
        if learnable_curvature:  # one parameter, under the names of all that hold it
            self.c = nn.Parameter(torch.tensor([float(c)]))
            fusions = [part for part in self.encoder.modules() if isinstance(part, HFusion | EFusion)]
            for part in (self.encoder, *fusions, *([] if self.decoder is None else [self.decoder])):
                part.c = self.c
            if isinstance(self.decoder, DualDecoder):
                del self.decoder.ball.c  # the buffer of the fixed one
                self.decoder.ball.c = self.c

    def encode(self, x: Tensor, graph: Graph) -> Tensor | Pair:
        """Features x [N, in] to the last layer's output."""
        return self.encoder(self._ball(x), x, graph)

    def forward(self, x: Tensor, graph: Graph) -> Tensor | Pair:
        """Logits [N, classes], or the encoder's output if there are no classes."""
        h = self.encode(x, graph)
        return h if self.decoder is None else self.decoder(self._ball(x), h, graph)

    def score(self, h: Any, pairs: Tensor) -> Tensor:
        """HGAT: Fermi-Dirac of the squared distance. GIL: sigmoid(w_h p_h + w_e p_e) by the last pair's gates, where
        p_h and p_e are
        Fermi-Dirac of the distances of log_0 h and of e."""
        if self.kind == "HGAT":
            return fermi_dirac(self._ball(h).dist2(h[pairs[:, 0]], h[pairs[:, 1]]), self.r, self.t)
        probs, gates = [], []
        for u, gate in ((self._ball(h[0]).logmap0(h[0]), self.w_h), (h[1], self.w_e)):
            step = u[pairs[:, 0]] - u[pairs[:, 1]]
            probs.append(fermi_dirac((step.pow(2).sum(-1) + 1e-15).sqrt(), self.r, self.t))
            gates.append(torch.sigmoid(gate(step))[-1])
        total = gates[0] + gates[1] if self.pubmed else 1
        return torch.sigmoid((gates[0] * probs[0] + gates[1] * probs[1]) / total)

    def _ball(self, like: Tensor) -> Ball:
        return Ball(like.new_tensor(self.fixed_c) if self.c is None else self.c[0])
