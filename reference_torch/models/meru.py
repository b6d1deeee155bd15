"""MERU (arXiv 2304.09172), HyCoCLIP (arXiv 2410.06912) and their CLIP baseline: images and texts in one space, with the authors' names.

Written from the papers' formulas and from what the authors' code computes (facebookresearch/meru 6d44300, PalAvik/hycoclip 08bb05b).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reference_torch.layers import lorentz_space as lorentz
from reference_torch.layers.text_transformer import TextTransformer
from reference_torch.layers.vision_transformer import VisionTransformer
from reference_torch.optim.schedules import LinearWarmupCosineDecayLR

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LARGEST_SCALE = 4.6052
SPREAD = 10.0
"""The curvature stays within this factor of the one that training began with."""
EXCLUDED = ("logit_scale", "visual_alpha", "textual_alpha", "curv")
"""Parameters without decay have one of these in their name."""
WITHIN, ACROSS = 0.7, 1.2
"""What the apertures of HyCoCLIP are multiplied by: between modalities, and from a box to the whole."""


def padded(tokens: Sequence[Tensor], context_length: int) -> Tensor:
    """Rows of token ids padded with 0; of one that is longer than the context the first ones and, at the end, its last."""
    rows = [t if len(t) <= context_length else torch.cat([t[: context_length - 1], t[-1:]]) for t in tokens]
    return nn.utils.rnn.pad_sequence(rows, batch_first=True)


class MERU(nn.Module):
    """settings: class ("MERU", "HyCoCLIP" or "CLIP"); image_size, patch_size, width, depth, heads; textual_layers, textual_width,
    textual_heads, vocab_size, context_length; embed_dim; of the two hyperbolic ones also curv_init, learn_curv, entail_weight.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, settings: Mapping[str, Any]):
        super().__init__()
        self.of = dict(settings)
        width, embed = settings["width"], settings["embed_dim"]
        self.visual = VisionTransformer(settings["image_size"], settings["patch_size"], width, settings["depth"], settings["heads"])
        self.textual = TextTransformer(settings["vocab_size"], settings["context_length"], settings["textual_width"],
                                       settings["textual_layers"], settings["textual_heads"])  # fmt: skip
        self.visual_proj = nn.Linear(width, embed, bias=False)
        self.textual_proj = nn.Linear(settings["textual_width"], embed, bias=False)
        for proj in (self.visual_proj, self.textual_proj):
            nn.init.normal_(proj.weight, std=proj.in_features**-0.5)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        if self.hyperbolic:
            self.curv = nn.Parameter(torch.tensor(math.log(settings["curv_init"])), requires_grad=bool(settings["learn_curv"]))
            self.visual_alpha = nn.Parameter(torch.tensor(math.log(embed**-0.5)))
            self.textual_alpha = nn.Parameter(torch.tensor(math.log(embed**-0.5)))
        self.register_buffer("pixel_mean", torch.tensor(MEAN).view(3, 1, 1))
        self.register_buffer("pixel_std", torch.tensor(STD).view(3, 1, 1))

    @property
    def hyperbolic(self) -> bool:
        return self.of["class"] != "CLIP"

    def encode_image(self, images: Tensor, project: bool = True) -> Tensor:
        """Space parts [B, E] of images [B, 3, S, S] in [0, 1]; without `project` what is projected."""
        z = self.visual_proj(self.visual((images - self.pixel_mean) / self.pixel_std))
        return self.lift_image(z) if project else z

    def encode_text(self, tokens: Tensor, project: bool = True) -> Tensor:
        """Space parts [B, E] of token ids [B, L], padded on the right; the feature is taken at the largest id, the end of the text."""
        found = self.textual(tokens)
        z = self.textual_proj(found[torch.arange(len(found)), tokens.argmax(-1)])
        return self.lift_text(z) if project else z

    def lift_image(self, z: Tensor) -> Tensor:
        return self._lifted(z, self.visual_alpha) if self.hyperbolic else F.normalize(z, dim=-1)

    def lift_text(self, z: Tensor) -> Tensor:
        return self._lifted(z, self.textual_alpha) if self.hyperbolic else F.normalize(z, dim=-1)

    def _lifted(self, z: Tensor, alpha: Tensor) -> Tensor:
        with torch.autocast(z.device.type, enabled=False):
            wide = z if z.dtype == torch.float64 else z.float()
            return lorentz.exp_map0(wide * alpha.exp(), self.curv.exp())

    def inner(self, x: Tensor, y: Tensor) -> Tensor:
        """Similarities [n, m]: the Minkowski inner product, or the cosine."""
        return lorentz.pairwise_inner(x, y, self.curv.exp()) if self.hyperbolic else x @ y.T

    def dist(self, x: Tensor, y: Tensor) -> Tensor:
        return lorentz.pairwise_dist(x, y, self.curv.exp())

    def oxy_angle(self, x: Tensor, y: Tensor) -> Tensor:
        return lorentz.oxy_angle(x, y, self.curv.exp())

    def half_aperture(self, x: Tensor) -> Tensor:
        return lorentz.half_aperture(x, self.curv.exp())

    def log_map0(self, x: Tensor) -> Tensor:
        return lorentz.log_map0(x, self.curv.exp())

    def clamp(self) -> None:
        """In place, before a forward pass."""
        self.logit_scale.data.clamp_(max=LARGEST_SCALE)
        if self.hyperbolic:
            middle = self.of["curv_init"]
            self.curv.data.clamp_(math.log(middle / SPREAD), math.log(middle * SPREAD))
            self.visual_alpha.data.clamp_(max=0)
            self.textual_alpha.data.clamp_(max=0)

    def forward(self, images: Tensor, tokens: Tensor, box_images: Tensor | None = None, box_tokens: Tensor | None = None
                ) -> dict[str, Tensor]:  # fmt: skip
        """The "loss", its parts, and the scale and curvature, as the authors log them. Clamps parameters in place first."""
        self.clamp()
        pairs = [(self.encode_image(images), self.encode_text(tokens))]
        if self.of["class"] == "HyCoCLIP":
            assert box_images is not None
            assert box_tokens is not None
            pairs.append((self.encode_image(box_images), self.encode_text(box_tokens)))
        with torch.autocast(images.device.type, enabled=False):
            return self._losses(pairs)

    def _losses(self, pairs: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
        image, text = pairs[0]
        scale = self.logit_scale.exp()
        if not self.hyperbolic:
            loss = (_matched(scale * image @ text.T) + _matched(scale * text @ image.T)) / 2
            return {"loss": loss, "contrastive_loss": loss, "logit_scale": scale}
        c = self.curv.exp()
        # A box is compared with the whole texts and images.
        logits = [(scale * -lorentz.pairwise_dist(a, text, c), scale * -lorentz.pairwise_dist(b, image, c)) for a, b in pairs]
        contrastive = torch.stack([_matched(one) for pair in logits for one in pair]).mean()
        parts = {}
        if len(pairs) == 1:
            entailment = _outside(text, image, c, 1.0)
        else:
            box_image, box_text = pairs[1]
            parts = {
                "text_image_entailment_loss": _outside(text, image, c, WITHIN),
                "box_text_image_entailment_loss": _outside(box_text, box_image, c, WITHIN),
                "cross_image_entailment_loss": _outside(box_image, image, c, ACROSS),
                "cross_text_entailment_loss": _outside(box_text, text, c, ACROSS),
            }
            entailment = sum(parts.values()) / 2
        loss = contrastive + self.of["entail_weight"] * entailment
        found = {"loss": loss, "contrastive_loss": contrastive, **parts, "entailment_loss": torch.as_tensor(entailment)}
        return {**found, "logit_scale": scale, "curv": c}


def _matched(logits: Tensor) -> Tensor:
    """The cross entropy of rows whose own column is the right one."""
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))


def _outside(apex: Tensor, point: Tensor, c: Tensor, factor: float) -> Tensor:
    """The mean of max(angle - factor * aperture, 0): by how much points lie outside of the cones at `apex`."""
    return (lorentz.oxy_angle(apex, point, c) - factor * lorentz.half_aperture(apex, c)).clamp(min=0).mean()


def parameter_groups(module: nn.Module, weight_decay: float, gain_bias_decay: float | None = 0.0, excluded: Sequence[str] = EXCLUDED
                     ) -> list[dict]:  # fmt: skip
    """Matrices; gains and biases; the excluded parameters. Each in the order of a walk that takes a module's own parameters before its
    children's; groups without parameters are left out, and so are parameters that are not trained.

    A `gain_bias_decay` of 0, which their configurations have, is taken for none given, so that gains and biases decay as matrices do.
    """
    found: dict[str, list[nn.Parameter]] = {"matrices": [], "gains": [], "excluded": []}
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            gain = isinstance(part, nn.LayerNorm) or "bias" in name
            kind = "excluded" if any(word in name for word in excluded) else "gains" if gain else "matrices"
            found[kind].append(parameter)
    decays = {"matrices": weight_decay, "gains": gain_bias_decay or weight_decay, "excluded": 0.0}
    return [{"params": own, "weight_decay": decays[kind]} for kind, own in found.items() if own]


def optimizer_of(module: nn.Module, lr: float = 5e-4, total_steps: int = 120_000, warmup_steps: int = 4000, weight_decay: float = 0.2
                 ) -> tuple[torch.optim.Optimizer, LinearWarmupCosineDecayLR]:  # fmt: skip
    """The optimizer and its scheduler, which takes a step after each update."""
    excluded = EXCLUDED if hasattr(module, "curv") else EXCLUDED[:1]
    optimizer = torch.optim.AdamW(parameter_groups(module, weight_decay, excluded=excluded), lr=lr, betas=(0.9, 0.98))
    return optimizer, LinearWarmupCosineDecayLR(optimizer, total_steps, warmup_steps)
