"""The causal text transformer of CLIP, MERU and HyCoCLIP (arXiv 2103.00020), with their names of parameters."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn


class _Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)) with an exact GELU."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_1 = nn.LayerNorm(width)
        layers = {"c_fc": nn.Linear(width, 4 * width), "gelu": nn.GELU(), "c_proj": nn.Linear(4 * width, width)}
        self.mlp = nn.Sequential(OrderedDict(layers))
        self.ln_2 = nn.LayerNorm(width)

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        seen = self.ln_1(x)
        x = x + self.attn(seen, seen, seen, need_weights=False, attn_mask=hidden)[0]
        return x + self.mlp(self.ln_2(x))


class TextTransformer(nn.Module):
    """Features [B, L, width] of token ids [B, L], each of which sees those before it and itself."""

    attn_mask: Tensor

    def __init__(self, vocab_size: int, context_length: int, width: int, layers: int, heads: int):
        super().__init__()
        self.token_embed = nn.Embedding(vocab_size, width)
        self.posit_embed = nn.Parameter(0.01 * torch.randn(context_length, width))
        self.resblocks = nn.ModuleList(_Block(width, heads) for _ in range(layers))
        self.ln_final = nn.LayerNorm(width)
        self.register_buffer("attn_mask", torch.ones(context_length, context_length).triu(1).bool())
        nn.init.normal_(self.token_embed.weight, std=0.02)
        within = (2 * width * layers) ** -0.5
        deviations = {"in_proj_weight": width**-0.5, "out_proj.weight": within, "c_fc.weight": (2 * width) ** -0.5, "c_proj.weight": within}
        for name, parameter in self.resblocks.named_parameters():
            for ending, deviation in deviations.items():
                if name.endswith(ending):
                    nn.init.normal_(parameter, std=deviation)

    def forward(self, tokens: Tensor) -> Tensor:
        length = tokens.shape[-1]
        x = self.token_embed(tokens) + self.posit_embed[:length]
        for block in self.resblocks:
            x = block(x, self.attn_mask[:length, :length])
        return self.ln_final(x)
