"""Poincaré ResNet, maxvanspengler/poincare-resnet
(`reference_torch.models.poincare_resnet.PoincareResNet` <-> `port_jax.models.PoincareResNet`)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from weights.errors import Unmatched
from weights.mapping import curvature_settings
from weights.mapping.curvature_settings import ROUNDING, softplus
from weights.mapping.node_embeddings import NodeEmbeddings
from weights.mapping.port import Found, Port
from weights.mapping.probes import Call, Draw, Inputs, Outputs, Probe, Recorded, Resumed
from weights.mapping.rules import SCALAR, Rule, constant, param, tied
from weights.mapping.settings import Settings, same_flag, same_numbers
from weights.models.hypll import convolution, hyperbolic_linear
from weights.types import Config, Hyperparameters, Model, TorchModule, Variables

KEYS = frozenset({"conv_ball.isp_c", "conv.weights", "bn.norm.mean", "bn.norm.var", "group1.0.conv1.weights", "fc.z"})
IMAGES, SCALE = 2, 0.6
"""The images of a comparison, and the length of a pixel."""
SKIPS = ("fr", "rf")
OPTIMIZERS = {"adam": "RiemannianAdam", "sgd": "RiemannianSGD"}


def recognise(found: Found) -> bool:
    """Its names of balls, batch norms and layers."""
    return found.tensors.keys() >= KEYS


def settle(found: Found, settings: Settings) -> None:
    """Sizes from shapes and keys; from the configuration what has no trace in the file: how c is made of isp_c, the order of the sum, the
    mean of batch norm, the pool, and where a trained curvature began."""
    shapes, groups = found.shapes, found.count(r"group(\d+)\..*")
    _read(settings)
    if missing := [key for key in (f"group{g}.0.conv1.weights" for g in range(1, groups + 1)) if key not in shapes]:
        raise Unmatched(f"the key {missing[0]!r} is missing", "Check the file: its groups are numbered from 1, and their blocks from 0")
    matrices = ["conv.weights", "fc.z", *(f"group{g}.0.conv1.weights" for g in range(1, groups + 1))]
    if flat := [key for key in matrices if len(shapes[key]) != 2]:
        raise Unmatched(
            f"{flat[0]!r} has the shape {list(shapes[flat[0]])}, and not two axes", "Give the model's state_dict as it was saved"
        )
    channels = [shapes[f"group{g}.0.conv1.weights"][1] for g in range(1, groups + 1)]
    settings.settle("channel_dims", channels, "shapes of the convolutions", same=same_numbers)
    depths = [found.count(rf"group{g}\.(\d+)\.conv1\.weights") for g in range(1, groups + 1)]
    settings.settle("depths", depths, "keys of the groups", same=same_numbers)
    settings.settle("classes", shapes["fc.z"][1], "shape of fc.z")
    settings.settle("in_channels", shapes["conv.weights"][0] // 9, "shape of conv.weights")
    _settle_curvature(found, settings)
    skip = settings.settle("skip_connection", default="fr")
    if skip not in SKIPS:
        raise Unmatched(
            f"skip_connection is {skip!r}; the code adds by 'fr' (f(x) and x) or 'rf', and else leaves the sum out",
            "Correct it in --config; a net without sums is not converted",
        )
    settings.settle("bn_midpoint", default=True, same=same_flag)
    if not settings.settle("pool_size", default=8):
        raise Unmatched("pool_size is 0", "Give the size of the code's AvgPool2d, which is 8, or leave pool_size out of --config")
    if str(act := settings.config.get("act_layer", "relu")).rpartition(".")[2].lower().strip("'>()") != "relu":
        raise Unmatched(f"act_layer is {act!r}; only nets with ReLU are converted", "Write a port of your model (docs/guide/own_model.md)")


def _read(settings: Settings) -> None:
    """Puts what the name of a model says, hyperbolic-8-16-32-resnet-20, under the names of settings."""
    named = re.fullmatch(r"hyperbolic-(\d{1,6})-(\d{1,6})-(\d{1,6})-(?:.*-)?(\d{1,6})", str(settings.config.get("model", "")))
    if named:
        *channels, layers = map(int, named.groups())
        settings.config.setdefault("channel_dims", channels)
        settings.config.setdefault("depths", [(layers - 2) // 6] * 3)


def _settle_curvature(found: Found, settings: Settings) -> None:
    """c of every ball that is not trained: the sums' if the others are, whose isp_c is in no file."""
    tensors = {key: np.asarray(array) for key, array in found.raw(r"(.+[._])?ball\.isp_c").items()}
    if odd := [key for key, array in tensors.items() if array.size != 1]:
        raise Unmatched(f"{odd[0]!r} has the shape {list(tensors[odd[0]].shape)}, and is one number in the code", "Check the file")
    raw = {key: float(array.reshape(())) for key, array in tensors.items()}
    (first, value), *others = raw.items()
    another = next((key for key, number in others if number != value), None)
    told: dict[str, Any] = {} if another is None else {"inferred": True, "source": f"{first} and {another}, which differ"}
    learned = bool(settings.settle("learnable", **told, default=False, same=same_flag))
    own = bool(settings.settle("custom_autograd", default=True, same=same_flag))
    if learned:
        start = float(np.float32(settings.settle("init_c", default=0.1)))  # as the code makes it
    else:
        settings.settle("init_c", value, first, same=lambda a, b: abs(a - b) <= ROUNDING * (1 + abs(b)))
        start = settings.values["init_c"] = value
    itself = own and not learned
    c = start if itself else softplus(start)
    if not c > 0:
        raise Unmatched(
            f"{first!r} is {value:.6g}, which is c itself if custom_autograd is true and learnable is false, and c has to be positive",
            "Set custom_autograd to false in --config if c is softplus of it, or correct the file",
        )
    curvature_settings.settle(settings, {"init_c" if learned else first: np.asarray(c)}, 1, read=lambda _, number: number)
    if learned:
        settings.in_file.discard("curvature")


def rules(settings: Hyperparameters) -> list[Rule]:
    """Kernels by their windows, the linear layer as it is, batch norm's mean and var under other names, one curvature for each ball."""
    learned = settings["learnable"]
    found = [*convolution("conv", "params/conv", 3), *_norm("bn", "params/bn"), *hyperbolic_linear("fc", "params/fc")]
    found += _ball(learned, "params/conv_ball", "conv_ball", "conv.ball")
    found += _ball(learned, "params/bn_ball", "bn_ball", "bn.ball", "bn.norm.ball")
    found += _ball(learned, "params/linear_ball", "linear_ball", "fc.ball")
    for g, depth in enumerate(settings["depths"], 1):
        for n in range(depth):
            key, path = f"group{g}.{n}", f"params/group{g}_{n}"
            for m in (1, 2):
                found += [*convolution(f"{key}.conv{m}", f"{path}/conv{m}", 3), *_norm(f"{key}.bn{m}", f"{path}/bn{m}")]
                found += _ball(learned, f"{path}/ball{m}", f"{key}.conv{m}.ball")
            found += _ball(learned, f"{path}/bn_ball", *(f"{key}.bn{m}.{inner}ball" for m in (1, 2) for inner in ("", "norm.")))
            if g > 1 and n == 0:
                found += convolution(f"{key}.downsample", f"{path}/downsample", 1)
                found += _ball(learned, f"{path}/downsample_ball", f"{key}.downsample.ball")
    return found


def _ball(learned: bool, path: str, first: str, *others: str) -> list[Rule]:
    own = param(f"{first}.isp_c", f"{path}/isp_c", SCALAR) if learned else constant(f"{first}.isp_c")
    return [own, *(tied(f"{other}.isp_c", f"{first}.isp_c") for other in others)]


def _norm(key: str, path: str) -> list[Rule]:
    """Its running statistics stay what they were at first: batch norm has those of the batch, always."""
    kept = [constant(f"{key}.norm.running_{name}") for name in ("mean", "var")]
    return [param(f"{key}.norm.mean", f"{path}/bias"), param(f"{key}.norm.var", f"{path}/weight"), *kept]


def build(settings: Hyperparameters) -> Model:
    """The flax module, with what the authors' code computes."""
    from port_jax.models.poincare_resnet import PoincareResNet as Module

    return Module(
        channels=tuple(settings["channel_dims"]),
        depths=tuple(settings["depths"]),
        num_classes=settings["classes"],
        curvature=settings["curvature"][0],
        learnable_curvature=bool(settings["learnable"]),
        skip_connection=settings["skip_connection"],
        use_midpoint=bool(settings["bn_midpoint"]),
        pool=int(settings["pool_size"]),
        custom_autograd=bool(settings["custom_autograd"]),
    )


def reference(settings: Hyperparameters) -> TorchModule:
    """The torch module."""
    from reference_torch.models.poincare_resnet import PoincareResNet as Module

    return Module(
        settings["channel_dims"],
        settings["depths"],
        settings["classes"],
        init_c=float(settings["init_c"]),
        own=bool(settings["custom_autograd"]),
        learnable=bool(settings["learnable"]),
        skip_connection=settings["skip_connection"],
        use_midpoint=bool(settings["bn_midpoint"]),
        in_channels=settings["in_channels"],
        pool=int(settings["pool_size"]),
    )


def _images(settings: Hyperparameters, count: int) -> tuple[int, int, int, int]:
    side = int(settings["pool_size"]) * 2 ** (len(settings["depths"]) - 1)
    return count, side, side, settings["in_channels"]


def inputs(settings: Hyperparameters) -> tuple:
    """An image."""
    return (np.zeros(_images(settings, 1), np.float32),)


def draw(settings: Hyperparameters, draw: Draw) -> Inputs:
    """Images, whose channels are last."""
    return {"images": SCALE * draw.normal(*_images(settings, IMAGES))}


def outputs(settings: Hyperparameters, call: Call, given: Inputs) -> Outputs:
    """The logits."""
    return {"logits": call("__call__", given["images"])}


def recorded(settings: Hyperparameters, arrays: Mapping[str, np.ndarray]) -> Recorded:
    """What the authors' code computed, whose images have their channels on axis 1, and which drops the axis of a batch of one image."""
    images, labels = np.moveaxis(arrays["images"], 1, -1), np.reshape(arrays["labels"], -1)
    found = {"logits": np.reshape(arrays["logits"], (len(images), -1))}
    return Recorded({"images": images}, found, _cross_entropy(labels), Resumed.of(arrays))


def _cross_entropy(labels: np.ndarray) -> Callable[[Outputs], Any]:
    import jax

    return lambda out: -jax.nn.log_softmax(out["logits"])[np.arange(len(labels)), labels].mean()


def optimizer(config: Config) -> object:
    """What their script calls `opt`."""
    return OPTIMIZERS.get(str(config.get("opt", "")).lower(), config.get("optimizer"))


def encoded(model: Model, variables: Variables, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """exp_0 of the tangent vectors of `images`, whose channels are last. All of them are one batch, as batch norm has its statistics."""
    import jax

    dtype = np.result_type(*(np.asarray(leaf).dtype for leaf in jax.tree.leaves(variables["params"])))
    encode = jax.jit(lambda rows: model.apply(variables, model.apply(variables, rows, method="encode"), method="points"))
    return {"images": np.asarray(encode(np.asarray(arrays["images"], dtype)))}


POINCARE_RESNET = Port(
    name="poincare_resnet",
    recognise=recognise,
    settle=settle,
    rules=rules,
    model=build,
    inputs=inputs,
    torch=reference,
    optimizer=optimizer,
    probe=Probe(draw, outputs, recorded),
    nodes=NodeEmbeddings(
        arrays=("images",), encoded=encoded, manifold=lambda model, variables: model.apply(variables, method=lambda net: net.linear_ball())
    ),
)


__all__ = ["POINCARE_RESNET"]
