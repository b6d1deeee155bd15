"""HELM-D (arXiv 2505.24722), a decoder of text on the hyperboloid, with the authors' names.

Written from the paper's formulas and from what the authors' code computes (Graph-and-Geometric-Learning/HELM 83ac8ff on HyperCore e87a4f8).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import geoopt
import torch
from torch import Tensor, nn

from reference_torch.layers import helm
from reference_torch.layers.helm import Hyperboloid

CLIP = 1.0
"""The norm at which the training script cuts all gradients together."""


def sizes_of(arch: str) -> tuple[int, int, int]:
    """Layers, width and heads of `L6_W390_A6`; without A a head for each 64 of the width."""
    found = {letter: int(number) for letter, number in re.findall(r"([LWA])(\d+)", arch)}
    return found["L"], found["W"], found.get("A", found["W"] // 64)


class Block(nn.Module):
    """res1(x, attention(norm x)), then res2(x, mlp(norm x))."""

    def __init__(self, manifold: Hyperboloid, width: int, heads: int, scale: float):
        super().__init__()
        self.manifold = manifold
        self.attn = helm.LorentzAttention(manifold, width // heads, heads)
        self.ln_1 = helm.LorentzRMSNorm(manifold, width - 1)
        self.mlp = helm.LorentzFeedForward(manifold, width, 4 * width)
        self.ln_2 = helm.LorentzRMSNorm(manifold, width - 1)
        self.res1, self.res2 = (helm.LResNet(manifold, scale) for _ in range(2))

    def forward(self, x: Tensor, by: Tensor, mask: Tensor) -> Tensor:
        """Points [B, L, W] to points."""
        x = self.res1(x, self.attn(self.ln_1(x), by, mask))
        return self.res2(x, self.mlp(self.ln_2(x)))


class HELM(nn.Module):
    """c: that of the embeddings, of the blocks and of the last norm, each of curvature -1/c; a number, or three of them."""

    attn_mask: Tensor
    freqs_complex: Tensor

    def __init__(self, arch: str, vocab_size: int, context_length: int, c: float | tuple[float, float, float] = 1.0,
                 residual_scale: float | None = None):  # fmt: skip
        super().__init__()
        layers, width, heads = sizes_of(arch)
        scale = 4 * width**0.5 if residual_scale is None else residual_scale
        numbers = c if isinstance(c, (tuple, list)) else (c, c, c)
        self.manifold_in, self.manifold_hidden, self.manifold_out = map(Hyperboloid, numbers)
        self.token_embed = helm.LorentzEmbeddings(self.manifold_in, vocab_size, width, self.manifold_hidden)
        self.resblocks = nn.ModuleList(Block(self.manifold_hidden, width, heads, scale) for _ in range(layers))
        self.ln_final = helm.LorentzRMSNorm(self.manifold_out, width - 1)
        self.final_proj = helm.LorentzLinear(self.manifold_hidden, width, width - 1, self.manifold_out)
        self.mapping = nn.Linear(width, vocab_size, bias=False)
        self.register_buffer("attn_mask", torch.ones(context_length, context_length).triu(1).bool())
        self.register_buffer("freqs_complex", helm.rotations(context_length, width // heads - 1))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> HELM:
        """As torch's, but for the rotations, of which torch drops the imaginary parts where a module gets another type."""
        kept, self._buffers["freqs_complex"] = self.freqs_complex, None
        super()._apply(fn, recurse)
        self._buffers["freqs_complex"] = kept
        return self

    def encode(self, tokens: Tensor) -> Tensor:
        """Points [B, L, W] of token ids [B, L], each of which sees those before it and itself."""
        length = tokens.shape[-1]
        x = self.token_embed(tokens)
        for block in self.resblocks:
            x = block(x, self.freqs_complex[:length], self.attn_mask[:length, :length])
        return self.ln_final(self.final_proj(x))

    def classify(self, h: Tensor) -> Tensor:
        """Logits [B, L, V] of what `encode` gives."""
        return self.mapping(h)

    def embed(self, tokens: Tensor) -> Tensor:
        """The points of token ids before the first block."""
        return self.token_embed(tokens)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits [B, L, V] of the token that follows each."""
        return self.classify(self.encode(tokens))


def optimizers_of(module: HELM, lr: float = 4e-4, weight_decay: float = 0.01, **options: Any) -> list[torch.optim.Optimizer]:
    """AdamW of what is flat, and RiemannianAdam of the table of points."""
    points = [p for p in module.parameters() if isinstance(p, geoopt.ManifoldParameter)]
    flat = [p for p in module.parameters() if p.requires_grad and not isinstance(p, geoopt.ManifoldParameter)]
    return [
        torch.optim.AdamW(flat, lr=lr, weight_decay=weight_decay, **options),
        geoopt.optim.RiemannianAdam(points, lr=lr, stabilize=50, **options),
    ]
