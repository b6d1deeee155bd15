"""HTGN: hyperbolic temporal graph network (arXiv 2107.03767), with the parameter names of its authors' code."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reference_torch.graphs.graph import Graph, segment_softmax, segment_sum
from reference_torch.layers.decoders import fermi_dirac
from reference_torch.layers.learnable_curvature import Ball
from reference_torch.layers.tangent import HypLinear


def _glorot(*shape: int) -> nn.Parameter:
    bound = (6 / (shape[-2] + shape[-1])) ** 0.5
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))


class AttentionAggregation(nn.Module):
    """sum_j softmax_j(LeakyReLU_0.2(a_i . u_i + a_j . u_j)) u_j per head, self loops replaced; heads concatenated or
    averaged."""

    def __init__(self, features: int, heads: int, concat: bool):
        super().__init__()
        self.concat = concat
        self.att_i, self.att_j = _glorot(1, heads, features), _glorot(1, heads, features)

    def forward(self, u: Tensor, graph: Graph) -> Tensor:
        """Tangents u [N, heads * d] at the origin to the attended neighbours', heads side by side or averaged."""
        u = u.view(-1, *self.att_i.shape[1:])
        senders, receivers, _ = graph.loops_replaced()
        logits = (u * self.att_i).sum(-1)[receivers] + (u * self.att_j).sum(-1)[senders]
        alpha = segment_softmax(F.leaky_relu(logits, 0.2), receivers, graph.num_nodes)
        out = segment_sum(alpha[..., None] * u[senders], receivers, graph.num_nodes)
        return out.flatten(1) if self.concat else out.mean(1)


class DegreeAggregation(nn.Module):
    """sum_j u_j / sqrt(deg_i deg_j), self loops replaced. `bias` and `mlp` stand in the authors' files and are not
    used."""

    def __init__(self, features: int):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(features))
        self.mlp = nn.Sequential(nn.Linear(2 * features, 1))

    def forward(self, u: Tensor, graph: Graph) -> Tensor:
        """D^-1/2 (A + I) D^-1/2 u of tangents u [N, d] at the origin."""
        senders, receivers, _ = graph.loops_replaced()
        scale = segment_sum(u.new_ones(len(senders)), receivers, graph.num_nodes) ** -0.5
        return segment_sum((scale[receivers] * scale[senders])[:, None] * u[senders], receivers, graph.num_nodes)


class Convolution(nn.Module):
    """exp_0^{c_out}(LeakyReLU(log_0 exp_0 agg(log_0 linear(x)))), all but the last map at c_in."""

    def __init__(self, in_features: int, features: int, heads: int, aggregation: str, concat: bool):
        super().__init__()
        self.linear = HypLinear(in_features, features * (heads if aggregation == "att" else 1))
        self.agg = AttentionAggregation(features, heads, concat) if aggregation == "att" else DegreeAggregation(features)

    def forward(self, ball: Ball, ball_out: Ball, x: Tensor, graph: Graph) -> Tensor:
        """Points x [N, in] of `ball` to points of `ball_out`."""
        u = self.agg(ball.logmap0(self.linear(ball, x)), graph)
        return ball_out.expmap0(F.leaky_relu(ball.logmap0(ball.expmap0(u))))


class HTGN(nn.Module):
    """One step in time: features and the last hidden state through two convolutions and a GRU in the tangent space.

    `c` [3, 1] holds the curvatures before, between and after the convolutions. The hidden states [W, N, nout] of the
    window lie
    on the last ball; the original draws the first ones at random and does not save them, here None stands for the
    origin.
    """

    def __init__(self, num_nodes: int, nfeat: int, nhid: int, nout: int, *, heads: int = 1, aggregation: str = "att",
                 curvature: float = 1.0, fixed_curvature: bool = True, trainable_feat: bool = False,
                 use_hta: bool = True):  # fmt: skip
        super().__init__()
        self.trainable_feat, self.use_hta = trainable_feat, use_hta
        self.feat = _glorot(num_nodes, nfeat)
        self.Q, self.r = _glorot(nout, nhid), _glorot(nhid, 1)
        self.c = nn.Parameter(torch.full((3, 1), float(curvature)), requires_grad=not fixed_curvature)
        self.gru = nn.GRUCell(nout, nout)
        self.linear = nn.Linear(nfeat, nout)
        wide = heads if aggregation == "att" else 1
        self.layer1 = Convolution(2 * nout, 2 * nhid, heads, aggregation, concat=True)
        self.layer2 = Convolution(2 * nhid * wide, nout, heads, aggregation, concat=False)

    def balls(self) -> list[Ball]:
        """The three balls: of the features, between the convolutions, and of the embeddings."""
        return [Ball(c) for c in self.c]

    def encode(self, x: Tensor | None, graph: Graph, hiddens: Tensor | None = None) -> Tensor:
        """Points [N, nout] from features x [N, in] (None if they are trained) and the hidden states [W, N, nout], zero by default."""
        first, middle, last = self.balls()
        h = first.expmap0(self.linear(self.feat if self.trainable_feat else x))
        hiddens = h.new_zeros(1, *h.shape) if hiddens is None else hiddens
        h = first.projx(torch.cat([h, hiddens[-1]], -1))
        h = self.layer1(first, middle, h, graph)
        h = self.layer2(middle, last, middle.projx(h), graph)
        return last.expmap0(self.gru(last.logmap0(h), self.attend(last.logmap0(hiddens))))

    def attend(self, window: Tensor) -> Tensor:
        """Mean over time of softmax_t(tanh(h_t Q) r) h_t, or the last state where `use_hta` is off; tangents [W, N,
        nout]."""
        if not self.use_hta:
            return window[-1]
        return (torch.softmax(torch.tanh(window @ self.Q) @ self.r, 0) * window).mean(0)

    forward = encode

    def score(self, h: Tensor, pairs: Tensor) -> Tensor:
        """Fermi-Dirac probability of each pair with r = 2, t = 1, by the distance on the unit ball whatever c is."""
        return fermi_dirac(Ball(h.new_ones(())).dist2(h[pairs[:, 0]], h[pairs[:, 1]]))

    def htc(self, h: Tensor, hidden: Tensor) -> Tensor:
        """Mean squared distance to the hidden state before: the temporal consistency that training adds to its loss."""
        return self.balls()[-1].dist2(h, hidden).mean()


class Convolutions(nn.Module):
    """The graph convolutions of HTGN alone, under any names: features in the tangent space at the origin -> points of the last ball.

    `names` are the keys of the layers without their last dot. `curvature` [L + 1] are those of the balls before, between and after.
    """

    def __init__(self, names: Sequence[str], in_features: int, features: Sequence[int], *, heads: int, aggregation: str,
                 concat_last: bool, curvature: Sequence[float], fixed_curvature: bool):  # fmt: skip
        super().__init__()
        c = torch.tensor(curvature, dtype=torch.float64)[:, None]
        if fixed_curvature:
            self.register_buffer("c", c)
        else:
            self.c = nn.Parameter(c)
        self.names, width = list(names), in_features
        for name, channels in zip(names, features, strict=True):
            *parents, last = name.split(".")
            owner: nn.Module = self
            for parent in parents:
                if parent not in dict(owner.named_children()):
                    owner.add_module(parent, nn.Module())
                owner = owner.get_submodule(parent)
            concat = concat_last or name != names[-1]
            owner.add_module(last, Convolution(width, channels, heads, aggregation, concat))
            width = channels * (heads if concat and aggregation == "att" else 1)

    def encode(self, x: Tensor, graph: Graph) -> Tensor:
        """Points of the last ball from features x [N, in], tangents at the origin of the first."""
        balls = [Ball(c) for c in self.c]
        h = balls[0].expmap0(x)
        for name, ball, ball_out in zip(self.names, balls, balls[1:], strict=False):
            h = self.get_submodule(name)(ball, ball_out, h, graph)
        return h

    forward = encode
    score = HTGN.score
