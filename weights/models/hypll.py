"""The nets of HypLL's tutorials, maxvanspengler/hyperbolic_learning_library
(`reference_torch.models.hypll` <-> `port_jax.models.HypLLConvNet`, `HypLLResNet`, `HypLLEmbedding`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from weights.errors import Unmatched
from weights.mapping import curvature_settings
from weights.mapping.hypll_curvature import RAW, constrained, pickled
from weights.mapping.node_embeddings import NodeEmbeddings
from weights.mapping.port import Found, Port
from weights.mapping.probes import Call, Draw, Inputs, Outputs, Probe, Recorded, Resumed
from weights.mapping.rules import SCALAR, Rule, constant, param, tied, unfolded
from weights.mapping.settings import Settings, same_flag, same_numbers
from weights.types import Hyperparameters, Model, TorchModule

IMAGES, SCALE = 3, 0.6
"""The images of a comparison, and the length of a pixel."""


def net_of(found: Found) -> str | None:
    """Which of the nets these keys are of, if any."""
    keys = found.tensors.keys()
    if keys == {"weight", "manifold.c.value"}:
        return "embedding"
    if {"conv1.weights", "fc1.z"} <= keys:
        return "convnet"
    return "resnet" if {"conv.weights", "bn.norm.weight", "group1.0.conv1.weights", "fc.z"} <= keys else None


def recognise(found: Found) -> bool:
    """HypLL's names of parameters, in one of its tutorials' nets."""
    return net_of(found) is not None and found.has(RAW)


def settle(found: Found, settings: Settings) -> None:
    """Sizes from shapes; the curvature's constraint, and of nets for images the layers without parameters, from the configuration."""
    net = settings.settle("net", net_of(found), "keys")
    _settle_curvature(found, settings)
    if net == "embedding":
        rows, features = found.shapes["weight"]
        settings.settle("num_embeddings", rows, "shape of weight")
        settings.settle("embedding_dim", features, "shape of weight")
    elif net == "convnet":
        _settle_convnet(found, settings)
    else:
        _settle_resnet(found, settings)


def _settle_curvature(found: Found, settings: Settings) -> None:
    raw = found.raw(RAW)
    if not raw:
        raise Unmatched("no key ends in manifold.c.value, which HypLL's layers have", "Use --arch tree for another model's file")
    first, value = next((key, float(np.asarray(array).reshape(-1)[0])) for key, array in raw.items())
    _known(settings, "curvature_keys", list(raw), "keys")
    _known(settings, "value", value, first)
    told = pickled(found.tensors.values())
    said: dict[str, Any] = {"inferred": told.constraint, "source": "the pickled manifold"} if told else {}
    constraint = settings.settle("constraining_strategy", **said, default="softplus")
    if "curvature_requires_grad" in settings.config:
        settings.config.setdefault("learnable_curvature", settings.config["curvature_requires_grad"])
    said = {"inferred": told.trained, "source": "the pickled manifold"} if told else {}
    learned = bool(settings.settle("learnable_curvature", **said, default=False, same=same_flag))
    start = settings.config.get("curvature_value")
    if not learned and isinstance(start, (int, float)) and abs(start - value) > curvature_settings.ROUNDING * (1 + abs(start)):
        raise Unmatched(
            f"{first!r} in the file is {value:.9g}, the configuration has curvature_value {start:.9g}",
            "Correct it to the file's value, or set learnable_curvature in the configuration if the curvature was trained",
        )
    curvature_settings.settle(settings, {first: np.asarray(constrained(constraint, value))}, 1, learned=learned)


def _known(settings: Settings, name: str, value: Any, source: str) -> None:
    """What the file alone says."""
    settings.values[name], settings.sources[name] = value, source
    settings.in_file.add(name)


def _settle_convnet(found: Found, settings: Settings) -> None:
    shapes = found.shapes
    convs, linears = found.count(r"conv(\d+)\.weights"), found.count(r"fc(\d+)\.z")
    if missing := [key for key in (*_numbered("conv", convs, "weights"), *_numbered("fc", linears, "z")) if key not in shapes]:
        raise Unmatched(f"the key {missing[0]!r} is missing", "Check the file: its layers are numbered from 1")
    channels = [shapes[key][1] for key in _numbered("conv", convs, "weights")]
    widths = [shapes[key][1] for key in _numbered("fc", linears, "z")]
    settings.settle("channels", channels, "shapes of the convolutions", same=same_numbers)
    settings.settle("classes", widths[-1], f"shape of fc{linears}.z")
    settings.settle("hidden", widths[:-1], "shapes of the linear layers", same=same_numbers)
    _known(settings, "widths", widths, "shapes of the linear layers")
    inward = [settings.settle("in_channels", default=3), *channels]
    kernels = [_kernel(key, shapes[key][0], wide) for key, wide in zip(_numbered("conv", convs, "weights"), inward)]
    _known(settings, "kernels", kernels, "in_channels and the shapes of the convolutions")
    size = settings.settle("image_size", default=32)
    positions, left = divmod(shapes["fc1.z"][0], channels[-1])
    fitting = [layout for layout in _layouts(kernels) if left == 0 and _side(size, kernels, *layout) ** 2 == positions]
    paddings, pools = fitting[0] if fitting else _layouts(kernels)[0]
    paddings = _sizes("paddings", settings.settle("paddings", default=paddings), convs)
    pools = _sizes("pools", settings.settle("pools", default=pools), convs)
    side = _side(size, kernels, paddings, pools)
    if left or side**2 != positions:
        raise Unmatched(
            f"fc1.z has {shapes['fc1.z'][0]} rows; an image of {size} x {size} leads to {channels[-1]} channels of {side} x {side} by the "
            f"paddings {paddings} and the pools {pools}",
            "Give image_size, and paddings and pools with a number for each convolution (0 for none), in --config",
        )
    _known(settings, "positions", positions, "shape of fc1.z")


def _numbered(name: str, count: int, last: str) -> list[str]:
    return [f"{name}{n}.{last}" for n in range(1, count + 1)]


def _kernel(key: str, rows: int, channels: int) -> int:
    """The size of a square kernel."""
    area, left = divmod(rows, channels) if isinstance(channels, int) and channels > 0 else (0, 1)
    if left or math.isqrt(area) ** 2 != area:
        raise Unmatched(f"{key!r} has {rows} rows, which are no square kernel of {channels} channels", "Give in_channels in --config")
    return math.isqrt(area)


def _layouts(kernels: list[int]) -> list[tuple[list[int], list[int]]]:
    """Paddings and pools: those of the tutorial, and those that keep the size in each convolution but the last, which no pool follows."""
    inner = len(kernels) - 1
    return [([0] * len(kernels), [2] * len(kernels)), ([k // 2 for k in kernels[:-1]] + [0], [2] * inner + [0])]


def _side(size: int, kernels: list[int], paddings: list[int], pools: list[int]) -> int:
    """The side of an image after the convolutions, 0 if it vanishes."""
    for kernel, padding, pool in zip(kernels, paddings, pools):
        size = max(size + 2 * padding - kernel + 1, 0)
        size = size // pool if pool else size
    return int(size)


def _sizes(name: str, value: Any, count: int) -> list[int]:
    if isinstance(value, (list, tuple)) and len(value) == count and all(type(n) is int and n >= 0 for n in value):
        return list(value)
    raise Unmatched(f"{name} is {value!r}; it has to be {count} whole numbers, one for each convolution", f"Correct {name!r} in --config")


def _settle_resnet(found: Found, settings: Settings) -> None:
    shapes, groups = found.shapes, found.count(r"group(\d+)\..*")
    if missing := [key for key in (f"group{g}.0.conv1.weights" for g in range(1, groups + 1)) if key not in shapes]:
        raise Unmatched(f"the key {missing[0]!r} is missing", "Check the file: its groups are numbered from 1, and their blocks from 0")
    channels = [shapes[f"group{g}.0.conv1.weights"][1] for g in range(1, groups + 1)]
    settings.settle("channels", channels, "shapes of the convolutions", same=same_numbers)
    depths = [found.count(rf"group{g}\.(\d+)\.conv1\.weights") for g in range(1, groups + 1)]
    settings.settle("group_depths", depths, "keys of the groups", same=same_numbers)
    settings.settle("classes", shapes["fc.z"][1], "shape of fc.z")
    settings.settle("in_channels", shapes["conv.weights"][0] // 9, "shape of conv.weights")
    settings.settle("use_midpoint", default=False)
    settings.settle("pool_midpoint", default=settings.values["use_midpoint"])
    keys = list(found.tensors)
    early = "group2.0.downsample.weights"
    _known(settings, "first_downsample", early in keys and keys.index(early) < keys.index("group2.0.conv1.weights"), "order of the keys")


def rules(settings: Hyperparameters) -> list[Rule]:
    """Kernels by their windows, linear layers as they are, one curvature under many names."""
    first, *others = settings["curvature_keys"]
    found = [param(first, "params/manifold/value", SCALAR) if settings["learnable_curvature"] else constant(first)]
    found += [tied(key, first) for key in others]
    if settings["net"] == "embedding":
        return [*found, param("weight", "params/embedding")]
    if settings["net"] == "convnet":
        for n, size in enumerate(settings["kernels"], 1):
            found += convolution(f"conv{n}", f"params/conv{n}", size)
        return found + [rule for n in range(1, len(settings["widths"]) + 1) for rule in hyperbolic_linear(f"fc{n}", f"params/fc{n}")]
    found += [*convolution("conv", "params/conv", 3), *norm("bn", "params/bn")]
    for g, depth in enumerate(settings["group_depths"], 1):
        for n in range(depth):
            key, path = f"group{g}.{n}", f"params/group{g}_{n}"
            found += [rule for m in (1, 2) for rule in convolution(f"{key}.conv{m}", f"{path}/conv{m}", 3)]
            found += [rule for m in (1, 2) for rule in norm(f"{key}.bn{m}", f"{path}/bn{m}")]
            found += convolution(f"{key}.downsample", f"{path}/downsample", 1) if g > 1 and n == 0 else []
    return [*found, *hyperbolic_linear("fc", "params/fc")]


def convolution(key: str, path: str, size: int) -> list[Rule]:
    """HConvolution2d as `PoincareConv2d`."""
    return [param(f"{key}.weights", f"{path}/kernel", unfolded(size, size)), param(f"{key}.bias", f"{path}/bias")]


def hyperbolic_linear(key: str, path: str) -> list[Rule]:
    """HLinear as `PoincareLinear`."""
    return [param(f"{key}.z", f"{path}/kernel"), param(f"{key}.bias", f"{path}/bias")]


def norm(key: str, path: str) -> list[Rule]:
    """HBatchNorm2d as `HBatchNorm`."""
    return [param(f"{key}.norm.{name}", f"{path}/{name}") for name in ("weight", "bias")]


def build(settings: Hyperparameters) -> Model:
    """The flax module."""
    from port_jax.models import hypll

    ball = {"curvature": settings["curvature"][0], "learnable_curvature": bool(settings["learnable_curvature"]),
            "constraint": settings["constraining_strategy"]}  # fmt: skip
    if settings["net"] == "embedding":
        return hypll.HypLLEmbedding(num_embeddings=settings["num_embeddings"], features=settings["embedding_dim"], **ball)
    if settings["net"] == "convnet":
        sizes = {name: tuple(settings[name]) for name in ("channels", "widths", "kernels", "paddings", "pools")}
        return hypll.HypLLConvNet(**sizes, **ball)
    return hypll.HypLLResNet(tuple(settings["channels"]), tuple(settings["group_depths"]), settings["classes"], **_means(settings), **ball)


def _means(settings: Hyperparameters) -> dict[str, bool]:
    return {name: bool(settings[name]) for name in ("use_midpoint", "pool_midpoint")}


def reference(settings: Hyperparameters) -> TorchModule:
    """The torch module, with the curvature's raw value in float64."""
    module = _reference(settings)
    raw = next(p for name, p in module.named_parameters() if name.endswith("c.value"))
    raw.data = raw.data.double().fill_(settings["value"])
    return module


def _reference(settings: Hyperparameters) -> TorchModule:
    from reference_torch.models import hypll

    ball = {"value": settings["value"], "learnable_curvature": bool(settings["learnable_curvature"]),
            "constraint": settings["constraining_strategy"]}  # fmt: skip
    if settings["net"] == "embedding":
        return hypll.HypLLEmbedding(settings["num_embeddings"], settings["embedding_dim"], **ball)
    ball |= {"in_channels": settings["in_channels"], "first_manifold": settings["curvature_keys"][0] == "manifold.c.value"}
    if settings["net"] == "convnet":
        sizes = {name: settings[name] for name in ("channels", "widths", "kernels", "paddings", "pools", "positions")}
        return hypll.HypLLConvNet(**sizes, **ball)
    sizes = {"channels": settings["channels"], "depths": settings["group_depths"], "num_classes": settings["classes"]}
    return hypll.HypLLResNet(**sizes, **_means(settings), first_downsample=settings["first_downsample"], **ball)


def size_of(settings: Hyperparameters) -> int:
    """The side of images to compare on: a residual net takes any that its groups can halve."""
    return settings["image_size"] if settings["net"] == "convnet" else 2 ** len(settings["channels"])


def inputs(settings: Hyperparameters) -> tuple:
    """An image, or an edge."""
    if settings["net"] == "embedding":
        return (np.zeros((1, 2), np.int32),)
    return (np.zeros((1, size_of(settings), size_of(settings), settings["in_channels"]), np.float32),)


def draw(settings: Hyperparameters, draw: Draw) -> Inputs:
    """Images, whose channels are last, or edges that reach every row."""
    if settings["net"] == "embedding":
        return {"edges": draw.distinct(settings["num_embeddings"], 2)}
    return {"images": SCALE * draw.normal(IMAGES, size_of(settings), size_of(settings), settings["in_channels"])}


def outputs(settings: Hyperparameters, call: Call, given: Inputs) -> Outputs:
    """Of nets for images the points before the last layer and those that it gives; of embeddings the points and distances."""
    if settings["net"] == "embedding":
        return {"distances": call("__call__", given["edges"]), "points": call("encode")}
    h = call("encode", given["images"])
    return {"embeddings": h, "outputs": call("classify", h)}


def recorded(settings: Hyperparameters, arrays: Mapping[str, np.ndarray]) -> Recorded:
    """What programs with HypLL's own classes computed, whose images have their channels on axis 1."""
    if settings["net"] == "embedding":
        return Recorded({"edges": arrays["edges"]}, {"distances": arrays["distances"]}, _first_of_edges, Resumed.of(arrays))
    images = np.moveaxis(arrays["inputs"], 1, -1)
    found = {name: arrays[name] for name in ("embeddings", "outputs")}
    return Recorded({"images": images}, found, _cross_entropy(arrays["labels"]), Resumed.of(arrays))


def _first_of_edges(out: Outputs) -> Any:
    """The mean of -log(e^-d0/Σ e^-dj): the first edge of a row is there, the others are not."""
    import jax

    return -jax.nn.log_softmax(-out["distances"])[..., 0].mean()


def _cross_entropy(labels: np.ndarray) -> Callable[[Outputs], Any]:
    import jax

    return lambda out: -jax.nn.log_softmax(out["outputs"])[np.arange(len(labels)), labels].mean()


HYPLL = Port(
    name="hypll",
    recognise=recognise,
    settle=settle,
    rules=rules,
    model=build,
    inputs=inputs,
    torch=reference,
    probe=Probe(draw, outputs, recorded),
    nodes=NodeEmbeddings(table="embedding"),
    code="hypll",
)


__all__ = ["HYPLL", "convolution", "hyperbolic_linear", "norm"]
