"""MERU, HyCoCLIP and their CLIP baseline, facebookresearch/meru and PalAvik/hycoclip
(`reference_torch.models.meru.MERU` <-> `port_jax.models.MERU`)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from weights.errors import Unmatched
from weights.mapping.node_embeddings import NodeEmbeddings
from weights.mapping.port import Found, Port
from weights.mapping.probes import Call, Draw, Inputs, Outputs, Probe, Recorded, Resumed
from weights.mapping.rules import TRANSPOSE, Rule, buffer, constant, linear, param, permute
from weights.mapping.settings import Settings, same_flag, same_numbers
from weights.types import Config, Hyperparameters, Model, TorchModule, Variables

KINDS = {"meru": "MERU", "hycoclip": "HyCoCLIP", "clip": "CLIP", "clipbaseline": "CLIP"}
"""What configurations may call the class, in small letters."""
EXCLUDED = ("logit_scale", "visual_alpha", "textual_alpha", "curv")
TRAINING = {"entail_weight": 0.2}
"""What only the loss depends on, with the value in their configurations."""
ROWS = 6
"""Images and texts of a comparison."""
HIDDEN = "textual.attn_mask"
FROM_SHAPES = {
    "width": ("visual.cls_token", -1), "patch_size": ("visual.patch_embed.proj.weight", -1), "embed_dim": ("visual_proj.weight", 0),
    "vocab_size": ("textual.token_embed.weight", 0), "context_length": ("textual.posit_embed", 0),
    "textual_width": ("textual.posit_embed", -1),
}  # fmt: skip
"""The tensor whose shape has a size, and its axis there."""
PART = 64
"""Images or texts that are encoded at once."""


def recognise(found: Found) -> bool:
    """A vision transformer with a class token, a text transformer, and what projects both into one space."""
    return {"logit_scale", "visual.cls_token", "visual_proj.weight", "textual_proj.weight", HIDDEN} <= found.tensors.keys()


def settle(found: Found, settings: Settings) -> None:
    """Sizes from shapes; the class of a hyperbolic model, heads and the range of the curvature from the configuration."""
    shapes, hyperbolic = found.shapes, "curv" in found.tensors
    _read(settings)
    told: dict[str, Any] = {} if hyperbolic else {"inferred": "CLIP", "source": "keys, which have no curv"}
    kind = settings.settle("class", **told)
    if kind not in (("MERU", "HyCoCLIP") if hyperbolic else ("CLIP",)):
        remedy = "Give 'MERU' or 'HyCoCLIP' in the configuration: their files have the same keys"
        raise Unmatched(f"class is {kind!r}, and the file has a curvature, curv", remedy)
    for name, (place, axis) in FROM_SHAPES.items():
        if not shapes.get(place) or not shapes[place][axis]:
            raise Unmatched(f"{place} is missing or empty, and so there is no {name}", "Give the whole model's state_dict")
        settings.settle(name, shapes[place][axis], f"shape of {place}")
    patches = shapes["visual.pos_embed"][-2] - 1 if len(shapes.get("visual.pos_embed", ())) == 3 else 0
    side = math.isqrt(max(patches, 0))
    if side == 0 or side * side != patches:
        raise Unmatched(f"visual.pos_embed has {patches} patches, which are no square", "Only square images are converted")
    settings.settle("image_size", side * settings.values["patch_size"], "shape of visual.pos_embed")
    settings.settle("depth", found.count(r"visual\.blocks\.(\d+)\.norm1\.weight"), "keys of visual.blocks")
    settings.settle("textual_layers", found.count(r"textual\.resblocks\.(\d+)\.ln_1\.weight"), "keys of textual.resblocks")
    settings.settle("heads")
    settings.settle("textual_heads")
    for heads, width in (("heads", "width"), ("textual_heads", "textual_width")):
        if not _divides(settings.values[heads], settings.values[width]):
            raise Unmatched(f"{heads} is {settings.values[heads]!r}, which does not divide the {width} {settings.values[width]}",
                            f"Correct {heads!r} in the configuration")  # fmt: skip
    hidden = found.value(HIDDEN)
    if hidden.ndim != 2 or not np.array_equal(hidden, np.triu(np.ones_like(hidden), 1)):
        raise Unmatched(f"{HIDDEN} does not hide exactly the tokens that follow", "Only causal text transformers are converted")
    if hyperbolic:
        settings.settle("curv_init", default=1.0, same=same_numbers)
        settings.settle("learn_curv", default=True, same=same_flag)
        for name, default in TRAINING.items():
            settings.settle(name, default=default, same=same_numbers)


def _read(settings: Settings) -> None:
    """Puts what their configurations nest or write in words under the names of settings."""
    config = settings.config
    if isinstance(config.get("class"), str):
        config["class"] = KINDS.get(config["class"].replace(" ", "").lower(), config["class"])
    textual = config.get("textual")
    if not isinstance(textual, Mapping):
        return
    sizes = dict(re.findall(r"([LWA])(\d{1,9})", str(textual.get("arch", ""))))
    letters = {"L": "textual_layers", "W": "textual_width", "A": "textual_heads"}
    named = {name: int(sizes[letter]) for letter, name in letters.items() if letter in sizes}
    if "W" in sizes and "A" not in sizes:
        named["textual_heads"] = int(sizes["W"]) // 64
    named |= {name: textual[name] for name in ("vocab_size", "context_length") if name in textual}
    for name, value in named.items():
        config.setdefault(name, value)


def _divides(heads: Any, width: int) -> bool:
    return isinstance(heads, int) and not isinstance(heads, bool) and heads > 0 and width % heads == 0


def rules(settings: Hyperparameters) -> list[Rule]:
    """Matrices transposed, patches as a convolution with channels last; positions and colours are not trained, the mask is carried."""
    block, text = "params/visual/blocks_{i}", "params/textual/resblocks_{i}"
    found = [
        param("logit_scale", "params/logit_scale"),
        *(buffer(f"pixel_{name}", f"buffers/pixel_{name}") for name in ("mean", "std")),
        param("visual.cls_token", "params/visual/cls_token"),
        buffer("visual.pos_embed", "frozen/visual/pos_embed"),
        param("visual.patch_embed.proj.weight", "params/visual/patch_embed/kernel", permute(2, 3, 1, 0)),
        param("visual.patch_embed.proj.bias", "params/visual/patch_embed/bias"),
        *_norm("visual.blocks.{i}.norm1", f"{block}/norm1"),
        *_norm("visual.blocks.{i}.norm2", f"{block}/norm2"),
        *(rule for name in ("qkv", "proj") for rule in linear(f"visual.blocks.{{i}}.attn.{name}", f"{block}/{name}")),
        *(rule for name in ("fc1", "fc2") for rule in linear(f"visual.blocks.{{i}}.mlp.{name}", f"{block}/{name}")),
        *_norm("visual.norm", "params/visual/norm"),
        param("textual.posit_embed", "params/textual/posit_embed"),
        constant(HIDDEN),
        param("textual.token_embed.weight", "params/textual/token_embed/embedding"),
        *(param(f"textual.resblocks.{{i}}.attn.in_proj_{name}", f"{text}/attn/in_proj_{name}") for name in ("weight", "bias")),
        *linear("textual.resblocks.{i}.attn.out_proj", f"{text}/attn/out_proj"),
        *_norm("textual.resblocks.{i}.ln_1", f"{text}/ln_1"),
        *_norm("textual.resblocks.{i}.ln_2", f"{text}/ln_2"),
        *(rule for name in ("c_fc", "c_proj") for rule in linear(f"textual.resblocks.{{i}}.mlp.{name}", f"{text}/{name}")),
        *_norm("textual.ln_final", "params/textual/ln_final"),
        *(param(f"{side}_proj.weight", f"params/{side}_proj/kernel", TRANSPOSE) for side in ("visual", "textual")),
    ]
    if settings["class"] == "CLIP":
        return found
    curv = param("curv", "params/curv") if settings["learn_curv"] else buffer("curv", "frozen/curv")
    return [*found, curv, *(param(f"{side}_alpha", f"params/{side}_alpha") for side in ("visual", "textual"))]


def _norm(key: str, path: str) -> tuple[Rule, Rule]:
    return Rule(f"{key}.weight", f"{path}/scale"), Rule(f"{key}.bias", f"{path}/bias")


SIZES = ("image_size", "patch_size", "width", "depth", "heads", "vocab_size", "context_length", "textual_width", "textual_layers",
         "textual_heads", "embed_dim")  # fmt: skip


def build(settings: Hyperparameters) -> Model:
    """The flax module."""
    from port_jax.models.meru import MERU as Module

    given: dict[str, Any] = {name: settings[name] for name in SIZES}
    if settings["class"] != "CLIP":
        given |= {"curv_init": float(settings["curv_init"]), "learn_curv": bool(settings["learn_curv"])}
        given["entail_weight"] = float(settings["entail_weight"])
    return Module(kind=settings["class"], **given)


def inputs(settings: Hyperparameters) -> tuple:
    """Two images and texts, and their boxes."""
    size = settings["image_size"]
    whole = (np.zeros((2, 3, size, size), np.float32), np.ones((2, 1), np.int32))
    return whole * 2 if settings["class"] == "HyCoCLIP" else whole


def reference(settings: Hyperparameters) -> TorchModule:
    """The torch module."""
    from reference_torch.models.meru import MERU as Module

    return Module(settings)


def groups(settings: Hyperparameters, keys: Sequence[str]) -> list[list[str]]:
    """Matrices; gains and biases; the numbers without decay. Positions are not trained and in no group, nor is a curvature that is not
    learned; groups without parameters are left out."""
    still = {"visual.pos_embed", HIDDEN, "pixel_mean", "pixel_std"} | (set() if settings.get("learn_curv", True) else {"curv"})
    found: dict[str, list[str]] = {"matrices": [], "gains": [], "excluded": []}
    for key in keys:
        if key in still:
            continue
        gain = "bias" in key.rpartition(".")[2] or re.search(r"(^|\.)(norm\d?|ln_\w+)\.", key)
        found["excluded" if key in EXCLUDED else "gains" if gain else "matrices"].append(key)
    return [own for own in found.values() if own]


def optimizer(config: Config) -> object:
    """Their scripts have one."""
    return "AdamW"


def draw(settings: Hyperparameters, draw: Draw) -> Inputs:
    """Images of colours between 0 and 1, and texts of several lengths that the largest id ends; boxes where the model takes some."""
    size, last, most = settings["image_size"], settings["vocab_size"] - 1, settings["context_length"]

    def pair() -> tuple[np.ndarray, np.ndarray]:
        texts = np.zeros((ROWS, most), np.int32)
        for row, text in enumerate(texts):
            length = most - row % max(most - 1, 1)
            text[:length] = [*draw.random.integers(0, max(last, 1), length - 1), last]
        return draw.random.random((ROWS, 3, size, size)), texts

    given = dict(zip(("images", "tokens"), pair()))
    return {**given, **(dict(zip(("box_images", "box_tokens"), pair())) if settings["class"] == "HyCoCLIP" else {})}


def outputs(settings: Hyperparameters, call: Call, given: Inputs) -> Outputs:
    """Features before and after they are lifted, what the space says of them, and the losses.

    Features come first: the forward pass of the original changes parameters that are out of their bounds.
    """
    images, tokens = given["images"], given["tokens"]
    plain = call("encode_image", images, False), call("encode_text", tokens, False)
    image, text = call("lift_image", plain[0]), call("lift_text", plain[1])
    found = {"image_features_unprojected": plain[0], "text_features_unprojected": plain[1], "image_features": image, "text_features": text,
             "pairwise_inner": call("inner", image, text)}  # fmt: skip
    if settings["class"] != "CLIP":
        found |= {"pairwise_dist": call("dist", image, text), "oxy_angle": call("oxy_angle", text, image),
                  "half_aperture": call("half_aperture", text), "log_map0": call("log_map0", image)}  # fmt: skip
    boxes = [given[name] for name in ("box_images", "box_tokens") if name in given]
    return {**found, **call("__call__", images, tokens, *boxes)}


def recorded(settings: Hyperparameters, arrays: Mapping[str, np.ndarray]) -> Recorded:
    """What the authors' code computed: features, losses under the names of its log, and ten steps of training on one batch."""
    given: Inputs = {}
    for box in ("", "box_") if settings["class"] == "HyCoCLIP" else ("",):
        given[f"{box}images"] = arrays[f"{box}images"]
        given[f"{box}tokens"] = _cut(arrays[f"{box}tokens"], arrays.get(f"{box}lengths"), settings["context_length"])
    known = {"image_features_unprojected", "text_features_unprojected", "image_features", "text_features", "pairwise_inner",
             "pairwise_dist", "oxy_angle", "half_aperture", "log_map0", "loss"}  # fmt: skip
    found = {name.removeprefix("logging/"): array for name, array in arrays.items() if name in known or name.startswith("logging/")}
    return Recorded(given, found, lambda out: out["loss"], Resumed.of(arrays))


def _cut(tokens: np.ndarray, lengths: np.ndarray | None, most: int) -> np.ndarray:
    """Rows of token ids as the model takes them."""
    from port_jax.models.meru import padded_tokens

    rows = list(tokens) if lengths is None else [row[:length] for row, length in zip(tokens, lengths, strict=True)]
    return padded_tokens(rows, most)


def encoded(model: Model, variables: Variables, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The points of `images`, and then those of `tokens`, whichever there are."""
    import jax

    dtype = np.result_type(*(np.asarray(leaf).dtype for leaf in jax.tree.leaves(variables["params"])))
    found: dict[str, Any] = {}
    for name, method in (("images", "encode_image"), ("tokens", "encode_text")):
        if name not in arrays:
            continue
        rows = np.asarray(arrays[name]) if name == "images" else _cut(arrays[name], arrays.get("lengths"), model.context_length)
        rows = rows.astype(dtype) if rows.dtype.kind == "f" else rows
        encode = jax.jit(lambda part, how=method: model.apply(variables, model.apply(variables, part, method=how), method="points"))
        found[name] = np.concatenate([np.asarray(encode(rows[n : n + PART])) for n in range(0, len(rows), PART)])
    return found


MERU = Port(
    name="meru",
    recognise=recognise,
    settle=settle,
    rules=rules,
    model=build,
    inputs=inputs,
    torch=reference,
    groups=groups,
    optimizer=optimizer,
    probe=Probe(draw, outputs, recorded),
    nodes=NodeEmbeddings(
        arrays=("images", "tokens"), encoded=encoded, manifold=lambda model, variables: model.apply(variables, method="space")
    ),
    confine=lambda model, params: model.clamped(params),
)


__all__ = ["MERU"]
