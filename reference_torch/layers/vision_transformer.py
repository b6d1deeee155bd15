"""The vision transformer of MERU and HyCoCLIP (arXiv 2010.11929), with timm's names of parameters."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TEMPERATURE = 10_000.0


def positions(side: int, width: int) -> Tensor:
    """[1, 1 + side^2, width]: zeros for the class token; for the patch n = i side + j sin and cos of i f, then of j f, for width/4
    frequencies f = 10000^(-4 k / width) (MoCo v3, arXiv 2104.02057)."""
    frequencies = TEMPERATURE ** (-torch.arange(width // 4) / (width // 4))
    i, j = (index.reshape(-1, 1) * frequencies for index in torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij"))
    patches = torch.cat([i.sin(), i.cos(), j.sin(), j.cos()], 1)
    return torch.cat([torch.zeros(1, width), patches])[None]


class _Patches(nn.Module):
    """Patches [B, P, W] of images [B, 3, S, S]."""

    def __init__(self, width: int, patch: int):
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, patch)

    def forward(self, images: Tensor) -> Tensor:
        return self.proj(images).flatten(2).transpose(1, 2)


class _Attention(nn.Module):
    """Attention of all to all, with one matrix for queries, keys and values."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class _Mlp(nn.Module):
    """Two layers with an exact GELU between them."""

    def __init__(self, width: int):
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class _Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = _Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = _Mlp(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    """Features [B, width] of images [B, 3, size, size]: the class token of the normed output."""

    def __init__(self, image_size: int, patch_size: int, width: int, depth: int, heads: int):
        super().__init__()
        self.cls_token = nn.Parameter(1e-6 * torch.randn(1, 1, width))
        self.pos_embed = nn.Parameter(positions(image_size // patch_size, width), requires_grad=False)
        self.patch_embed = _Patches(width, patch_size)
        self.blocks = nn.Sequential(*(_Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        patches = self.patch_embed(images)
        x = torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], 1) + self.pos_embed
        return self.norm(self.blocks(x))[:, 0]
