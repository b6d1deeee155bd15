"""MERU (arXiv 2304.09172), HyCoCLIP (arXiv 2410.06912) and their CLIP baseline: images and texts in one space.

The numbers are those of facebookresearch/meru at commit 6d44300 and PalAvik/hycoclip at 08bb05b. Features of images and texts are space
parts of points of the hyperboloid x_t² = 1/c + |x_s|² (`port_jax.layers.lorentz_space`); in CLIP they are unit vectors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from port_jax.checks import as_array, as_indices, as_numbers, require_choice
from port_jax.layers import lorentz_space
from port_jax.layers.text_transformer import TextTransformer
from port_jax.layers.vision_transformer import VisionTransformer
from port_jax.manifolds import Euclidean, Lorentz, Manifold, Sphere
from port_jax.manifolds.hyperboloid.metric import join, time_of
from port_jax.manifolds.trig import sqrt_or_zero
from port_jax.models.meru_losses import clip_loss, hycoclip_loss, meru_loss
from port_jax.primitives import in_place
from port_jax.types import ManifoldTree, Params

__all__ = ["KINDS", "MERU", "padded_tokens"]

KINDS = ("MERU", "HyCoCLIP", "CLIP")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of the colours of ImageNet."""
LARGEST_SCALE = 4.6052
"""Of the logarithm of the logits' scale, as the authors write log 100."""
SPREAD = 10.0
"""The curvature stays within this factor of `curv_init`."""
Space = Float[Array, "n d"]
Images = Float[Array, "n 3 size size"]
Tokens = Int[Array, "n l"]


def padded_tokens(tokens: Sequence[Any], context_length: int) -> Int[np.ndarray, "n l"]:
    """Rows of token ids padded on the right with 0, on the host; of a row that is longer than the context, the first ones and its last.

    Errors: ValueError for an empty row, TypeError for rows that are not integers.
    """
    rows = [np.asarray(row) for row in tokens]
    for n, row in enumerate(rows):
        if row.ndim != 1 or not row.size:
            raise ValueError(f"tokens[{n}] has shape {row.shape}; give one or more ids in a row, of which the largest ends the text")
        if row.dtype.kind not in "iu":
            raise TypeError(f"tokens[{n}] is an array of type {row.dtype}; give whole numbers")
    rows = [np.append(row[: context_length - 1], row[-1]) if len(row) > context_length else row for row in rows]
    found = np.zeros((len(rows), max(map(len, rows), default=0)), np.int32)
    for n, row in enumerate(rows):
        found[n, : len(row)] = row
    return found


class MERU(nn.Module):
    """The three models; `kind` is "MERU", "HyCoCLIP" or "CLIP". MERU and HyCoCLIP differ in their losses only.

    Parameters: `visual` (`VisionTransformer`), `textual` (`TextTransformer`), `visual_proj` and `textual_proj` without biases, and numbers
    of which the model uses the exponential: `logit_scale`, and in hyperbolic space `curv` (log c), `visual_alpha` and `textual_alpha`.
    Variables without training: `buffers/{pixel_mean, pixel_std}` [3, 1, 1], `frozen/visual/pos_embed` and, without `learn_curv`,
    `frozen/curv`.

    image_size, patch_size, width, depth, heads: of the vision transformer. vocab_size, context_length, textual_width, textual_layers,
    textual_heads: of the text transformer. embed_dim: E, the dimension of the space. curv_init: c at the start, in whose neighbourhood c
    stays. entail_weight: of the entailment loss. dtype: the type of the encoders' products of matrices, such as bfloat16; what is done in
    the space is computed in float32 at least, as the authors train it.
    """

    kind: str = "MERU"
    image_size: int = 224
    patch_size: int = 16
    width: int = 384
    depth: int = 12
    heads: int = 12
    vocab_size: int = 49408
    context_length: int = 77
    textual_width: int = 512
    textual_layers: int = 12
    textual_heads: int = 8
    embed_dim: int = 512
    curv_init: float = 1.0
    learn_curv: bool = True
    entail_weight: float = 0.2
    dtype: Any = None

    def __post_init__(self) -> None:
        require_choice("kind", self.kind, KINDS)
        if not 0 < self.curv_init < math.inf:
            raise ValueError(f"curv_init is {self.curv_init}; a curvature -c has a positive c")
        super().__post_init__()

    def setup(self) -> None:
        self.visual = VisionTransformer(self.image_size, self.patch_size, self.width, self.depth, self.heads, self.dtype)
        sizes = (self.vocab_size, self.context_length, self.textual_width, self.textual_layers, self.textual_heads)
        self.textual = TextTransformer(*sizes, self.dtype)
        self.visual_proj, self.textual_proj = (
            nn.Dense(self.embed_dim, use_bias=False, dtype=self.dtype, kernel_init=nn.initializers.normal(width**-0.5))
            for width in (self.width, self.textual_width)
        )
        self.pixel_mean, self.pixel_std = (self._kept("buffers", f"pixel_{k}", v) for k, v in (("mean", MEAN), ("std", STD)))
        self.logit_scale = self.param("logit_scale", nn.initializers.constant(math.log(1 / 0.07)), ())
        if self.hyperbolic:
            start, short = math.log(self.curv_init), nn.initializers.constant(math.log(self.embed_dim**-0.5))
            learned = self.learn_curv
            self.curv = self.param("curv", nn.initializers.constant(start), ()) if learned else self._kept("frozen", "curv", start)
            self.visual_alpha, self.textual_alpha = (self.param(name, short, ()) for name in ("visual_alpha", "textual_alpha"))

    def _kept(self, collection: str, name: str, numbers: Any) -> Array:
        """A variable that is not trained; of colours [3, 1, 1]."""
        shape = (3, 1, 1) if isinstance(numbers, tuple) else ()
        return self.variable(collection, name, lambda: jnp.asarray(numbers, jnp.float32).reshape(shape)).value

    @property
    def hyperbolic(self) -> bool:
        """Whether the features are points of the hyperboloid."""
        return self.kind != "CLIP"

    def __call__(self, images: Images, tokens: Tokens, box_images: Images | None = None, box_tokens: Tokens | None = None
                 ) -> dict[str, Float[Array, ""]]:  # fmt: skip
        """The "loss" of a batch whose images and texts belong together row by row, its parts, the scale and the curvature, under the
        authors' names. HyCoCLIP takes a box of each image and a part of each text as well.

        As in the original, whose forward pass puts the parameters within their bounds first, the values are those of `clamped` parameters;
        derivatives pass as if they were there already.

        Errors: ValueError for numbers of images and texts that differ, for boxes that are missing, and for boxes that are not taken.
        """
        whole = self._pair(images, tokens, "")
        scale = jnp.exp(self._held("logit_scale"))
        boxed = self.kind == "HyCoCLIP"
        if (box_images is None or box_tokens is None) if boxed else (box_images is not None or box_tokens is not None):
            raise ValueError(f"box_images, box_tokens: {self.kind} takes {'both of them' if boxed else 'neither'}")
        if not self.hyperbolic:
            found, more = clip_loss(*whole, scale), {}
        else:
            c = jnp.exp(self._held("curv"))
            more = {"curv": c}
            if boxed:
                found = hycoclip_loss(*whole, *self._pair(box_images, box_tokens, "box_"), c, scale, self.entail_weight)
            else:
                found = meru_loss(*whole, c, scale, self.entail_weight)
        return {"loss": found.loss, **found.parts, "logit_scale": scale, **more}

    def encode_image(self, images: Images, project: bool = True) -> Space:
        """Features of images with colours between 0 and 1; without `project` what `lift_image` takes.

        Errors: TypeError for whole numbers, ValueError for another shape.
        """
        images, size = as_array("images", images), self.image_size
        if not jnp.issubdtype(images.dtype, jnp.floating):
            raise TypeError(f"images is an array of type {images.dtype}; pass floating-point numbers between 0 and 1: images / 255")
        if images.shape[-3:] != (3, size, size):
            raise ValueError(f"images has shape {images.shape}; the model takes [..., 3, {size}, {size}], channels first, as the original")
        mean, std = (a.reshape(*[1] * (images.ndim - 3), *a.shape) for a in (self.pixel_mean, self.pixel_std))
        z = self.visual_proj(self.visual((images - mean) / std))
        return self.lift_image(z) if project else _wide(z)

    def encode_text(self, tokens: Tokens, project: bool = True) -> Space:
        """Features of token ids, padded on the right with 0 (`padded_tokens`), at the first of the largest ids, which is the end of the
        text; without `project` what `lift_text` takes."""
        tokens = as_indices("tokens", tokens)
        if not tokens.ndim or not tokens.shape[-1]:
            raise ValueError(f"tokens has shape {tokens.shape}; give one or more ids in each row")
        ends = jnp.argmax(tokens, -1)[..., None, None]
        z = self.textual_proj(jnp.take_along_axis(self.textual(tokens), ends, -2)[..., 0, :])
        return self.lift_text(z) if project else _wide(z)

    def lift_image(self, z: Space) -> Space:
        """exp_0(z exp(visual_alpha)), or z / |z| in CLIP."""
        return self._lifted(z, "visual_alpha", held=False)

    def lift_text(self, z: Space) -> Space:
        """exp_0(z exp(textual_alpha)), or z / |z| in CLIP."""
        return self._lifted(z, "textual_alpha", held=False)

    def classifier(self, prompts: Int[Array, "classes k l"]) -> Float[Array, "classes d"]:
        """A feature of each class from k texts of it: that of their mean before it is lifted; in CLIP the mean of unit vectors, again of
        length 1."""
        z = self.encode_text(prompts, project=False)
        return self.lift_text(jnp.mean(z if self.hyperbolic else _unit(z), -2))

    def inner(self, x: Space, y: Float[Array, "m d"]) -> Float[Array, "n m"]:
        """Similarities by which classes and neighbours are chosen: Minkowski's inner product, or in CLIP the cosine."""
        x, y = as_numbers("x", x), as_numbers("y", y)
        return lorentz_space.pairwise_inner(x, y, self._c()) if self.hyperbolic else jnp.matmul(x, y.T, precision="highest")

    def dist(self, x: Space, y: Float[Array, "m d"]) -> Float[Array, "n m"]:
        """The distances of the losses: `lorentz_space.pairwise_dist`."""
        return lorentz_space.pairwise_dist(as_numbers("x", x), as_numbers("y", y), self._c())

    def oxy_angle(self, x: Space, y: Space) -> Float[Array, " n"]:
        """`lorentz_space.oxy_angle`, row by row."""
        return lorentz_space.oxy_angle(as_numbers("x", x), as_numbers("y", y), self._c())

    def half_aperture(self, x: Space) -> Float[Array, " n"]:
        """`lorentz_space.half_aperture`: y lies in the cone of x where `oxy_angle(x, y)` is less."""
        return lorentz_space.half_aperture(as_numbers("x", x), self._c())

    def log_map0(self, x: Space) -> Space:
        """`lorentz_space.log_map0`."""
        return lorentz_space.log_map0(as_numbers("x", x), self._c())

    def to_root(self, x: Space, steps: int) -> Float[Array, "steps n d"]:
        """Points on the geodesics from x to the origin, which entails everything; the first are x, the last the origin."""
        x = as_numbers("x", x)
        left = jnp.linspace(1, 0, steps, dtype=x.dtype)[:, None, None]
        return lorentz_space.exp_map0(left * self.log_map0(x), self._c())

    def space(self) -> Manifold:
        """The manifold of `points`: `Lorentz(1 / c)`, and the sphere of CLIP's unit vectors."""
        return Lorentz(1 / self._c()) if self.hyperbolic else Sphere()

    def points(self, x: Space) -> Float[Array, "n ambient"]:
        """Features as points of `space`: with the time coordinate in front, or unchanged in CLIP."""
        x = as_numbers("x", x)
        return join(time_of(x, 1 / self._c()), x) if self.hyperbolic else x

    def clamped(self, params: Params) -> Params:
        """The parameters within their bounds: logit_scale at most 4.6052, log c within log 10 of log `curv_init`, alphas at most 0.

        The forward pass of the original puts them there in place, in training or not, so that its optimizer steps from there. The optimizer
        of a converted file does so as well; `port_jax.optim.confined(optimizer, model.clamped)` does it for another one.
        """
        return {**params, **{name: jnp.clip(params[name], *bound) for name, bound in self._bounds().items() if name in params}}

    def manifolds(self, params: Params) -> ManifoldTree:
        """All flat: the points are features, not parameters."""
        return {name: Euclidean() for name in params}

    def _bounds(self) -> dict[str, tuple[float, float]]:
        scale = {"logit_scale": (-math.inf, LARGEST_SCALE)}
        if not self.hyperbolic:
            return scale
        near = (math.log(self.curv_init / SPREAD), math.log(self.curv_init * SPREAD))
        return {**scale, "curv": near, "visual_alpha": (-math.inf, 0.0), "textual_alpha": (-math.inf, 0.0)}

    def _held(self, name: str) -> Array:
        """A number within its bounds, with the derivatives of the number."""
        value = getattr(self, name)
        return in_place(value, jnp.clip(value, *self._bounds()[name]))

    def _c(self) -> Array:
        if not self.hyperbolic:
            raise ValueError("kind is 'CLIP', whose features are unit vectors: there is no curvature; use `inner`")
        return jnp.exp(self.curv)

    def _lifted(self, z: Space, alpha: str, *, held: bool) -> Space:
        z = _wide(as_numbers("z", z))
        if not self.hyperbolic:
            return _unit(z)
        short, log_c = (self._held(name) if held else getattr(self, name) for name in (alpha, "curv"))
        return lorentz_space.exp_map0(z * jnp.exp(short), jnp.exp(log_c))

    def _pair(self, images: Any, tokens: Any, kind: str) -> tuple[Space, Space]:
        """Features of images and texts by the parameters within their bounds."""
        z = self.encode_image(images, project=False), self.encode_text(tokens, project=False)
        if len(z[0]) != len(z[1]):
            raise ValueError(f"{kind}images, {kind}tokens: found {len(z[0])} and {len(z[1])} rows, which belong together one by one")
        return self._lifted(z[0], "visual_alpha", held=True), self._lifted(z[1], "textual_alpha", held=True)


def _wide(z: Array) -> Array:
    """In float32 at least."""
    return z.astype(jnp.promote_types(z.dtype, jnp.float32))


def _unit(z: Float[Array, "*batch d"]) -> Float[Array, "*batch d"]:
    """z / max(|z|, 1e-12), as torch's `normalize`."""
    return z / jnp.maximum(sqrt_or_zero(jnp.sum(z * z, -1, keepdims=True)), 1e-12)
