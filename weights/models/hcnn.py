"""The residual networks of kschwethelm/HyperbolicCV (`reference_torch.models.hcnn.HCNN` <-> `port_jax.models.HCNN`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from weights.errors import Unmatched
from weights.mapping import curvature_settings
from weights.mapping.node_embeddings import NodeEmbeddings
from weights.mapping.port import Found, Port
from weights.mapping.probes import Call, Draw, Inputs, Outputs, Probe, Recorded, Resumed
from weights.mapping.rules import SCALAR, TRANSPOSE, Rule, buffer, constant, linear, param, permute, tied
from weights.mapping.settings import Settings, same_flag, same_numbers
from weights.types import Config, Hyperparameters, Model, TorchModule, Variables

OPTIMIZERS = ("RiemannianSGD", "RiemannianAdam", "SGD", "Adam")
"""Those of its training script. The last two are torch's, and take a `beta` off its hyperboloid."""
IMAGES, SIDE = 5, 8
"""The images of a comparison, and their height and width."""
PART = 64
"""Images that are encoded at once."""
RADII = {
    "encoder": r"encoder\.(.*\.)?manifold\.k|enc_manifold\.k",
    "decoder": r"dec_manifold\.(k|isp_c)|decoder\.(manifold\.k|ball\.isp_c)",
}
"""The keys of the radius of each side's manifold."""
FIRST = {"lorentz": "encoder.conv1.conv.0.linearized_kernel.weight.weight", "euclidean": "encoder.conv1.0.weight"}
"""The first convolution of each encoder."""
CLASSES = {"lorentz": "decoder.z", "poincare": "decoder.weight_v", "euclidean": "decoder.weight"}
"""The normals of each classifier's hyperplanes."""


def _kind(found: Found, keys: Mapping[str, str]) -> str | None:
    return next((name for name, key in keys.items() if key in found.tensors), None)


def recognise(found: Found) -> bool:
    """A residual network in groups of blocks, and a classifier."""
    return bool(_kind(found, FIRST) and _kind(found, CLASSES)) and found.has(r"encoder\.conv2_x\.0\.conv\.0\..*")


def settle(found: Found, settings: Settings) -> None:
    """Manifolds, blocks and sizes from keys and shapes, radii from their tensors, the rest from the arguments of the training script."""
    shapes = found.shapes
    _read(settings)
    encoder = settings.settle("encoder_manifold", _kind(found, FIRST), "keys of the encoder")
    decoder = settings.settle("decoder_manifold", _kind(found, CLASSES), "keys of the classifier")
    if (encoder, decoder) == ("lorentz", "poincare"):
        raise Unmatched(
            "the encoder is on a hyperboloid and the classifier on a ball, which HyperbolicCV's code cannot compute",
            "Convert it by a port of your own, which says how points get from one to the other (--port)",
        )
    hyperbolic = encoder == "lorentz"
    weight = "linearized_kernel.weight.weight" if hyperbolic else "weight"
    kind = "bottleneck" if found.has(r"encoder\.conv2_x\.0\.conv\.6\..*") else "basic"
    settings.settle("block", kind, "keys of the blocks")
    groups = range(2, 2 + found.count(r"encoder\.conv(\d+)_x\..*"))
    blocks = [found.count(rf"encoder\.conv{g}_x\.(\d+)\.conv\.0\..*") for g in groups]
    settings.settle("num_blocks", blocks, "keys of the blocks", same=same_numbers)
    rows = [_size(shapes, f"encoder.conv{g}_x.0.conv.0.{weight}", 0) - hyperbolic for g in groups]
    settings.settle("widths", rows[:-1], "shapes of the convolutions", same=same_numbers)
    settings.settle("embedding_dim", rows[-1], "shapes of the convolutions")
    first = _size(shapes, FIRST[encoder], 1)
    settings.settle("in_channels", (first - 1) // 9 if hyperbolic else first, f"shape of {FIRST[encoder]}")
    settings.settle("classes", _size(shapes, CLASSES[decoder], 1 if decoder == "poincare" else 0), f"shape of {CLASSES[decoder]}")
    _settle_radii(found, settings)
    if encoder == "euclidean" and decoder != "euclidean":
        settings.settle("clip_features", default=1.0, same=same_numbers)
    if encoder == "lorentz":
        name = settings.settle("optimizer", default=OPTIMIZERS[0]) if "optimizer" in settings.config else OPTIMIZERS[0]
        if name not in OPTIMIZERS:
            raise Unmatched(
                f"optimizer is {name!r}; HyperbolicCV's scripts have {', '.join(OPTIMIZERS)}",
                "Give 'RiemannianSGD' in --config where it keeps each beta on its hyperboloid, and 'SGD' where it does not",
            )


def _size(shapes: Mapping[str, tuple[int, ...]], key: str, axis: int) -> int:
    if len(shapes.get(key, ())) <= axis:
        raise Unmatched(f"{key} is missing, or has too few axes", "Give the whole model's state_dict")
    return shapes[key][axis]


def _read(settings: Settings) -> None:
    """Puts the arguments of the training script, where they are nested, and other names under the names of settings."""
    config = settings.config
    args, image = config.get("args"), config.get("img_dim")
    for name, value in args.items() if isinstance(args, Mapping) else ():
        config.setdefault(name, value)
    if "learnable_curvature" in config:
        config.setdefault("learn_k", config["learnable_curvature"])
    if isinstance(image, (list, tuple)) and image:
        config.setdefault("in_channels", image[0])


def _settle_radii(found: Found, settings: Settings) -> None:
    """The radii k and a ball's c, as the file has them. Where they are not trained, the configuration has to agree."""
    raw = {side: found.raw(pattern) for side, pattern in RADII.items()}
    kept = {side: settings.values[f"{side}_manifold"] != "euclidean" for side in raw}
    settings.values["radius_keys"] = {side: list(keys) for side, keys in raw.items()}
    settings.sources["radius_keys"] = "keys"
    settings.in_file.add("radius_keys")
    if not any(kept.values()):
        return
    learned = bool(settings.settle("learn_k", default=False, same=same_flag))
    for side, keys in raw.items():
        if not kept[side]:
            continue
        if not keys:
            raise Unmatched(f"the file has no radius of the {side}'s manifold", "Save the state_dict of the whole classifier")
        key, value = next(iter(keys.items()))
        name, own = f"{side}_k", Settings(settings.config, settings.given)
        if name in own.config:
            own.config["curvature"] = own.config[name]
        curvature_settings.settle(own, {key: value}, 1, learned=learned)
        settings.values[name], settings.sources[name] = own.values["curvature"][0], key
        settings.in_file.add(name)
    settings.values["curvature"] = [settings.values[f"{side}_k"] for side in raw if kept[side]]
    settings.sources["curvature"] = "the radii"
    settings.in_file.add("curvature")


def rules(settings: Hyperparameters) -> list[Rule]:
    """Kernels by their windows; a hyperboloid under many names; points as they are."""
    found: list[Rule] = []
    for side, keys in settings["radius_keys"].items():
        if settings[f"{side}_manifold"] == "euclidean":
            continue
        first, *others = keys
        name = first.rpartition(".")[2]
        found.append(param(first, f"params/{side}_space/{name}", SCALAR) if settings["learn_k"] else constant(first))
        found += [tied(key, first) for key in others]
    hyperbolic = settings["encoder_manifold"] == "lorentz"
    block, path = "encoder.conv{g}_x.{j}", "encoder/conv{g}_x_{j}"
    places = [(f"{block}.shortcut", f"{path}/shortcut", 0)]
    places += [(f"{block}.conv", f"{path}/conv", n) for n in ((0, 3, 6) if settings["block"] == "bottleneck" else (0, 3))]
    places.append(("encoder.conv1.conv" if hyperbolic else "encoder.conv1", "encoder/conv1/conv", 0))
    for key, below, n in places:
        pair = f"{key}.{n}", f"{below}_{n}", f"{key}.{n + 1}", f"{below}_{n + 1}"
        found += _hyperbolic(*pair) if hyperbolic else _ordinary(*pair)
    if settings["decoder_manifold"] == "lorentz":
        return [*found, param("decoder.z", "params/decoder/kernel", TRANSPOSE), param("decoder.a", "params/decoder/bias")]
    if settings["decoder_manifold"] == "poincare":
        names = {"weight_g": "length", "weight_v": "kernel", "bias": "bias"}
        return [*found, *(param(f"decoder.{theirs}", f"params/decoder/{ours}") for theirs, ours in names.items())]
    return [*found, *linear("decoder", "params/decoder")]


def _hyperbolic(conv: str, to: str, norm: str, to_norm: str) -> list[Rule]:
    """LorentzConv2d and LorentzBatchNorm2d; `scale` is of a normalisation that is not used."""
    return [
        *linear(f"{conv}.linearized_kernel.weight", f"params/{to}/linear"),
        constant(f"{conv}.linearized_kernel.scale"),
        *(param(f"{norm}.{name}", f"params/{to_norm}/{name}") for name in ("beta", "gamma")),
        *(buffer(f"{norm}.running_{name}", f"batch_stats/{to_norm}/{name}") for name in ("mean", "var")),
    ]


def _ordinary(conv: str, to: str, norm: str, to_norm: str) -> list[Rule]:
    """Conv2d and BatchNorm2d."""
    return [
        param(f"{conv}.weight", f"params/{to}/kernel", permute(2, 3, 1, 0)),
        param(f"{norm}.weight", f"params/{to_norm}/scale"),
        param(f"{norm}.bias", f"params/{to_norm}/bias"),
        *(buffer(f"{norm}.running_{name}", f"batch_stats/{to_norm}/{name}") for name in ("mean", "var")),
        constant(f"{norm}.num_batches_tracked"),
    ]


def build(settings: Hyperparameters) -> Model:
    """The flax module."""
    from port_jax.models.hcnn import HCNN as Module

    given: dict[str, Any] = {name: settings[name] for name in ("embedding_dim", "block", "encoder_manifold", "decoder_manifold")}
    given |= {name: float(settings[name]) for name in ("encoder_k", "decoder_k", "clip_features") if name in settings}
    return Module(
        num_classes=settings["classes"],
        widths=tuple(settings["widths"]),
        blocks=tuple(settings["num_blocks"]),
        learn_k=bool(settings.get("learn_k", False)),
        points=settings.get("optimizer", OPTIMIZERS[0]).startswith("Riemannian"),
        **given,
    )


def inputs(settings: Hyperparameters) -> tuple:
    """An image."""
    return (np.zeros((1, SIDE, SIDE, settings["in_channels"]), np.float32),)


def reference(settings: Hyperparameters) -> TorchModule:
    """The torch module."""
    from reference_torch.models.hcnn import HCNN as Module

    return Module({"encoder_k": 1.0, "decoder_k": 1.0, "clip_features": 1.0, "learn_k": False, **settings})


def groups(settings: Hyperparameters, keys: Sequence[str]) -> list[list[str]]:
    """The script's three: flat parameters, with the isp_c of a ball; points; radii of hyperboloids. A `scale` is in none."""
    apart = {key for side in settings["radius_keys"].values() for key in side[(1 if settings.get("learn_k") else 0) :]}
    found: list[list[str]] = [[], [], []]
    for key in keys:
        name = key.rpartition(".")[2]
        if key in apart or name.startswith(("running_", "num_batches", "scale")):
            continue
        found[1 if name == "beta" else 2 if key.endswith("manifold.k") else 0].append(key)
    return found


def optimizer(config: Config) -> object:
    """As the training script has it."""
    nested = config.get("args")
    return config.get("optimizer") or (nested.get("optimizer") if isinstance(nested, Mapping) else None)


def draw(settings: Hyperparameters, draw: Draw) -> Inputs:
    """Images, whose channels are last."""
    return {"images": draw.random.standard_normal((IMAGES, SIDE, SIDE, settings["in_channels"]))}


def outputs(settings: Hyperparameters, call: Call, given: Inputs) -> Outputs:
    """What is classified, and logits by the running statistics and by those of the batch."""
    h = call("encode", given["images"])
    return {"embeddings": h, "logits": call("classify", h), "train_logits": call("train_logits", given["images"])}


def recorded(settings: Hyperparameters, arrays: Mapping[str, np.ndarray]) -> Recorded:
    """What the authors' code computed of images with their channels on axis 1; its steps are in training, its first loss is not."""
    labels = arrays["labels"]
    found = {name: arrays[name] for name in ("embeddings", "logits", "train_logits") if name in arrays}
    arrays = {name: array for name, array in arrays.items() if not name.endswith("num_batches_tracked")}  # flax counts no batches

    def loss(out: Outputs) -> Any:
        import jax

        return -jax.nn.log_softmax(out["logits"])[np.arange(len(labels)), labels].mean()

    def training(model: Model, variables: Variables, given: Inputs) -> tuple[Outputs, Variables]:
        logits, new = model.apply(variables, given["images"], train=True, mutable=["batch_stats"])
        return {"logits": logits}, new

    return Recorded({"images": np.moveaxis(arrays["images"], 1, -1)}, found, loss, Resumed.of(arrays), training)


def encoded(model: Model, variables: Variables, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The points, or features, of `images` [n, h, w, channels]."""
    import jax

    dtype = np.result_type(*(np.asarray(leaf).dtype for leaf in jax.tree.leaves(variables["params"])))
    images = np.asarray(arrays["images"]).astype(dtype)
    encode = jax.jit(lambda part: model.apply(variables, part, method="encode"))
    return {"images": np.concatenate([np.asarray(encode(images[n : n + PART])) for n in range(0, len(images), PART)])}


HCNN = Port(
    name="hcnn",
    recognise=recognise,
    settle=settle,
    rules=rules,
    model=build,
    inputs=inputs,
    torch=reference,
    groups=groups,
    optimizer=optimizer,
    probe=Probe(draw, outputs, recorded),
    nodes=NodeEmbeddings(arrays=("images",), encoded=encoded, manifold=lambda model, variables: model.classifier_space(variables)),
)


__all__ = ["HCNN"]
