"""The losses of MERU, HyCoCLIP and CLIP as functions of the features of a batch, whose rows belong together.

Images and texts are rows of space parts [n, d] of points of the hyperboloid of curvature -c (`port_jax.layers.lorentz_space`), in CLIP
unit vectors. scale is exp(logit_scale). Without `shard_map` a batch that is split over devices is one batch, as in the authors' runs,
which gather all features.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from port_jax.layers.lorentz_space import half_aperture, oxy_angle, pairwise_dist
from port_jax.losses import cross_entropy

__all__ = ["ACROSS", "WITHIN", "Losses", "clip_loss", "contrastive", "hycoclip_loss", "meru_loss", "outside"]

WITHIN = 0.7
"""What HyCoCLIP multiplies apertures by from a text to its image."""
ACROSS = 1.2
"""The same from a box to the whole."""
Space = Float[Array, "n d"]
Scalar = Float[Array, ""]


class Losses(NamedTuple):
    """loss: what is minimised. parts: what it is made of, under the authors' names, entailment losses without their weight."""

    loss: Scalar
    parts: dict[str, Scalar]


def contrastive(similarity: Float[Array, "n n"]) -> Scalar:
    """The cross entropy of rows whose own column is the right one (InfoNCE, arXiv 1807.03748)."""
    return cross_entropy(similarity, jnp.arange(len(similarity)))


def outside(apex: Space, point: Space, c: Scalar, factor: float = 1.0) -> Scalar:
    """The mean of max(angle - factor * aperture, 0): by how much points lie outside of the entailment cones at `apex`."""
    return jnp.mean(jax.nn.relu(oxy_angle(apex, point, c) - factor * half_aperture(apex, c)))


def clip_loss(image: Space, text: Space, scale: Scalar) -> Losses:
    """(CE(s I T^T) + CE(s T I^T)) / 2 (arXiv 2103.00020, figure 3)."""
    logits = scale * jnp.matmul(image, text.T, precision="highest")
    loss = (contrastive(logits) + contrastive(logits.T)) / 2
    return Losses(loss, {"contrastive_loss": loss})


def meru_loss(image: Space, text: Space, c: Scalar, scale: Scalar, entail_weight: float = 0.2) -> Losses:
    """(CE(-s D) + CE(-s D^T)) / 2 with the distances D of images and texts, and the weighted mean by which an image lies outside of the
    cone of its text (arXiv 2304.09172, section 3.2)."""
    logits = -scale * pairwise_dist(image, text, c)
    matched = (contrastive(logits) + contrastive(logits.T)) / 2
    entailed = outside(text, image, c)
    return Losses(matched + entail_weight * entailed, {"contrastive_loss": matched, "entailment_loss": entailed})


def hycoclip_loss(image: Space, text: Space, box_image: Space, box_text: Space, c: Scalar, scale: Scalar, entail_weight: float = 0.2
                  ) -> Losses:  # fmt: skip
    """The mean of four cross entropies, and half the sum of four entailments (arXiv 2410.06912, section 3; as the authors' code has it).

    Images are compared with all texts and texts with all images; box images with all **whole** texts, box texts with all **whole** images.
    An image lies in the cone of its text and a box image in that of its box text, with apertures times `WITHIN`; an image lies in the
    cone of its box image and a text in that of its box text, with apertures times `ACROSS`.
    """
    logits = -scale * pairwise_dist(image, text, c)
    boxes = (-scale * pairwise_dist(box_image, text, c), -scale * pairwise_dist(box_text, image, c))
    matched = (contrastive(logits) + contrastive(logits.T) + contrastive(boxes[0]) + contrastive(boxes[1])) / 4
    parts = {
        "text_image_entailment_loss": outside(text, image, c, WITHIN),
        "box_text_image_entailment_loss": outside(box_text, box_image, c, WITHIN),
        "cross_image_entailment_loss": outside(box_image, image, c, ACROSS),
        "cross_text_entailment_loss": outside(box_text, text, c, ACROSS),
    }
    entailed = sum(parts.values(), start=jnp.zeros((), image.dtype)) / 2
    return Losses(matched + entail_weight * entailed, {"contrastive_loss": matched, **parts, "entailment_loss": entailed})
