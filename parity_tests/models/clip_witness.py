"""CLIP (arXiv 2103.00020) with a vision transformer (arXiv 2010.11929), from the papers' formulas and torch's own encoder layers.

It is a witness from outside: nothing of `reference_torch`, `port_jax` or `weights` is in it. Its numbers lie under the keys of the files
that the authors of MERU publish of their CLIP, in the order of torch's `state_dict`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

Numbers = dict[str, Tensor]
SHAPES = {"self_attn.in_proj_weight": (3, 1), "self_attn.in_proj_bias": (3,), "self_attn.out_proj.weight": (1, 1),
          "self_attn.out_proj.bias": (1,), "linear1.weight": (4, 1), "linear1.bias": (4,), "linear2.weight": (1, 4), "linear2.bias": (1,),
          "norm1.weight": (1,), "norm1.bias": (1,), "norm2.weight": (1,), "norm2.bias": (1,)}  # fmt: skip
"""What `nn.TransformerEncoderLayer` has, in units of its width."""
VISUAL = {"norm1.weight": "norm1.weight", "norm1.bias": "norm1.bias",
          "attn.qkv.weight": "self_attn.in_proj_weight", "attn.qkv.bias": "self_attn.in_proj_bias",
          "attn.proj.weight": "self_attn.out_proj.weight", "attn.proj.bias": "self_attn.out_proj.bias",
          "norm2.weight": "norm2.weight", "norm2.bias": "norm2.bias", "mlp.fc1.weight": "linear1.weight", "mlp.fc1.bias": "linear1.bias",
          "mlp.fc2.weight": "linear2.weight", "mlp.fc2.bias": "linear2.bias"}  # fmt: skip
TEXTUAL = {"attn.in_proj_weight": "self_attn.in_proj_weight", "attn.in_proj_bias": "self_attn.in_proj_bias",
           "attn.out_proj.weight": "self_attn.out_proj.weight", "attn.out_proj.bias": "self_attn.out_proj.bias",
           "ln_1.weight": "norm1.weight", "ln_1.bias": "norm1.bias", "mlp.c_fc.weight": "linear1.weight", "mlp.c_fc.bias": "linear1.bias",
           "mlp.c_proj.weight": "linear2.weight", "mlp.c_proj.bias": "linear2.bias",
           "ln_2.weight": "norm2.weight", "ln_2.bias": "norm2.bias"}  # fmt: skip
"""By the names in a file, in its order, those of `SHAPES`."""
FIXED = ("pixel_mean", "pixel_std", "visual.pos_embed", "textual.attn_mask")
LARGEST_SCALE = 4.6052
"""Of the logarithm of the logits' scale, which the authors clamp: log 100."""


@dataclass(frozen=True)
class Sizes:
    """Of images and patches, of the two transformers, and of the space."""

    image: int = 12
    patch: int = 4
    width: int = 8
    depth: int = 2
    heads: int = 2
    vocabulary: int = 13
    context: int = 6
    text_width: int = 12
    text_depth: int = 2
    text_heads: int = 3
    embed: int = 5

    @property
    def config(self) -> dict:
        """What a file does not say."""
        arch = f"L{self.text_depth}_W{self.text_width}_A{self.text_heads}"
        return {"class": "CLIP", "heads": self.heads, "textual": {"arch": arch}}


def drawn(rng: np.random.Generator, sizes: Sizes) -> Numbers:
    """Numbers in general position under a file's keys."""
    found: Numbers = {}

    def add(key: str, *shape: int, size: float = 0.4, middle: float = 0.0) -> None:
        found[key] = torch.as_tensor(np.asarray(middle + size * rng.normal(size=shape)))

    def add_layer(at: str, names: Mapping[str, str], width: int) -> None:
        for key, name in names.items():
            add(f"{at}.{key}", *(n * width for n in SHAPES[name]), middle=float(name in ("norm1.weight", "norm2.weight")))

    w, v = sizes.width, sizes.text_width
    add("logit_scale", size=0.1, middle=1.3)
    add("pixel_mean", 3, 1, 1, size=0.05, middle=0.45)
    add("pixel_std", 3, 1, 1, size=0.02, middle=0.25)
    add("visual.cls_token", 1, 1, w)
    add("visual.pos_embed", 1, 1 + (sizes.image // sizes.patch) ** 2, w)
    add("visual.patch_embed.proj.weight", w, 3, sizes.patch, sizes.patch, size=0.2)
    add("visual.patch_embed.proj.bias", w)
    for n in range(sizes.depth):
        add_layer(f"visual.blocks.{n}", VISUAL, w)
    add("visual.norm.weight", w, middle=1.0)
    add("visual.norm.bias", w)
    add("textual.posit_embed", sizes.context, v)
    found["textual.attn_mask"] = torch.ones(sizes.context, sizes.context).triu(1).bool()
    add("textual.token_embed.weight", sizes.vocabulary, v)
    for n in range(sizes.text_depth):
        add_layer(f"textual.resblocks.{n}", TEXTUAL, v)
    add("textual.ln_final.weight", v, middle=1.0)
    add("textual.ln_final.bias", v)
    add("visual_proj.weight", sizes.embed, w)
    add("textual_proj.weight", sizes.embed, v)
    return found


def image_features(numbers: Numbers, images: Tensor, sizes: Sizes) -> Tensor:
    """[n, embed] of length 1: colours less their mean over their deviation; each patch in one product with the kernel, whose rows are
    channel by channel; the class token in front; positions; pre-norm layers; the class token of the normed result, projected."""
    normal = (images - numbers["pixel_mean"]) / numbers["pixel_std"]
    pieces = F.unfold(normal, sizes.patch, stride=sizes.patch).transpose(1, 2)
    patches = pieces @ numbers["visual.patch_embed.proj.weight"].flatten(1).T + numbers["visual.patch_embed.proj.bias"]
    x = torch.cat([numbers["visual.cls_token"].expand(len(images), 1, -1), patches], 1) + numbers["visual.pos_embed"]
    x = _encoded(numbers, x, "visual.blocks", "visual.norm", VISUAL, sizes.heads)
    return _unit(x[:, 0] @ numbers["visual_proj.weight"].T)


def text_features(numbers: Numbers, tokens: Tensor, sizes: Sizes) -> Tensor:
    """[n, embed] of length 1: words and their places, pre-norm layers in which each sees those before it and itself, and of the normed
    result the one at the first of the largest ids, projected."""
    length = tokens.shape[1]
    x = numbers["textual.token_embed.weight"][tokens] + numbers["textual.posit_embed"][:length]
    hidden = torch.full((length, length), -torch.inf, dtype=x.dtype).triu(1)
    x = _encoded(numbers, x, "textual.resblocks", "textual.ln_final", TEXTUAL, sizes.text_heads, hidden)
    ends = torch.stack([row.argmax() for row in tokens])
    return _unit(x[torch.arange(len(x)), ends] @ numbers["textual_proj.weight"].T)


def loss(numbers: Numbers, image: Tensor, text: Tensor) -> Tensor:
    """InfoNCE in both directions of s cos, with s = exp(min(logit_scale, log 100))."""
    logits = numbers["logit_scale"].clamp(max=LARGEST_SCALE).exp() * image @ text.T
    right = logits.diagonal()
    return ((logits.logsumexp(1) - right).mean() + (logits.logsumexp(0) - right).mean()) / 2


def _encoded(numbers: Numbers, x: Tensor, at: str, norm: str, names: Mapping[str, str], heads: int, mask: Tensor | None = None) -> Tensor:
    depth, width = len({key.split(".")[2] for key in numbers if key.startswith(f"{at}.")}), x.shape[-1]
    layer = nn.TransformerEncoderLayer(width, heads, 4 * width, dropout=0.0, activation=F.gelu, layer_norm_eps=1e-5, batch_first=True,
                                       norm_first=True, dtype=x.dtype)  # fmt: skip
    encoder = nn.TransformerEncoder(layer, depth, nn.LayerNorm(width, eps=1e-5, dtype=x.dtype), enable_nested_tensor=False)
    own = {f"layers.{n}.{name}": numbers[f"{at}.{n}.{key}"] for n in range(depth) for key, name in names.items()}
    own |= {f"norm.{name}": numbers[f"{norm}.{name}"] for name in ("weight", "bias")}
    return functional_call(encoder, own, (x, mask))


def _unit(z: Tensor) -> Tensor:
    return z / z.square().sum(-1, keepdim=True).sqrt()
