"""HELM-D, Graph-and-Geometric-Learning/HELM on HyperCore (`reference_torch.models.helm.HELM` <-> `port_jax.models.HELM`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from weights.errors import Unmatched
from weights.mapping import curvature_settings
from weights.mapping.node_embeddings import NodeEmbeddings
from weights.mapping.port import Found, Port
from weights.mapping.probes import Call, Draw, Inputs, Outputs, Probe, Recorded, Resumed
from weights.mapping.rules import PAIRS, SCALAR, TRANSPOSE, Rule, buffer, constant, linear, param, tied
from weights.mapping.settings import Settings
from weights.types import Hyperparameters, Model, TorchModule, Variables

TABLE, TURNS, HIDDEN = "token_embed.embedding", "freqs_complex", "attn_mask"
KEYS = frozenset({TABLE, TURNS, HIDDEN, "final_proj.linear.weight", "ln_final.weight", "mapping.weight"})
RADII = {"in": "manifold_in.k", "hidden": "manifold_hidden.k", "out": "manifold_out.k"}
"""The keys of c of the three hyperboloids, each of which has many more."""
ALIASES = {
    "in": ("manifold_in.c", "token_embed.manifold_in", "token_embed.add_pos", "token_embed.add_pos.manifold"),
    "hidden": ("manifold_hidden.c", "token_embed.manifold_out", "final_proj", "final_proj.manifold",
               *(f"resblocks.{{i}}.{name}" for name in ("manifold", "attn.manifold", "ln_1", "ln_1.manifold_in", "ln_2", "ln_2.manifold_in",
                 "res1", "res1.manifold", "res2", "res2.manifold", "mlp", "mlp.manifold", "mlp.w1", "mlp.w1.manifold", "mlp.w2",
                 "mlp.w2.manifold", "mlp.w3", "mlp.w3.manifold"))),
    "out": ("manifold_out.c", "final_proj.manifold_out", "ln_final", "ln_final.manifold_in"),
}  # fmt: skip
"""Where these numbers stand again: a manifold has k and c, and its module c."""
CLIP = 1.0
"""The norm at which the training script cuts all gradients together."""
ROWS = 3
"""Texts of a comparison."""
PART = 16
"""Texts that are encoded at once."""


def recognise(found: Found) -> bool:
    """A table of points, rotations, blocks with a rotary attention, and a mapping to logits."""
    return found.tensors.keys() >= KEYS and found.has(r"resblocks\.0\.attn\.Wq\.weight")


def settle(found: Found, settings: Settings) -> None:
    """All sizes from keys and shapes, the curvatures from their tensors; a configuration has to agree."""
    shapes, config = found.shapes, settings.config
    _read(config)
    _require(shapes, TABLE, 2)
    _require(shapes, TURNS, 2)
    settings.settle("vocab_size", shapes[TABLE][0], f"shape of {TABLE}")
    width = settings.settle("width", shapes[TABLE][1], f"shape of {TABLE}")
    settings.settle("context_length", shapes[TURNS][0], f"shape of {TURNS}")
    settings.settle("layers", found.count(r"resblocks\.(\d+)\.attn\.Wq\.weight"), "keys of the blocks")
    head = 2 * shapes[TURNS][1] + 1
    if head < 3 or width % head:
        raise Unmatched(
            f"{TURNS} turns {shapes[TURNS][1]} pairs, which makes heads of {head} coordinates, and points have {width} of them",
            "Give the whole state_dict of one model",
        )
    settings.settle("heads", width // head, f"shapes of {TABLE} and {TURNS}")
    hidden = found.value(HIDDEN)
    if hidden.ndim != 2 or not np.array_equal(hidden, np.triu(np.ones_like(hidden), 1)):
        raise Unmatched(f"{HIDDEN} does not hide exactly the tokens that follow", "Only decoders that see no later token are converted")
    scale = 4 * width**0.5
    if "residual_scale" in config or "residual_scale" in settings.given:
        settings.settle("residual_scale", default=scale)
    else:
        settings.values["residual_scale"], settings.sources["residual_scale"] = scale, "the original code: 4 sqrt(width)"
    _settle_radii(found, settings)


def _read(config: dict[str, Any]) -> None:
    """Puts what `arch` says under the names of settings, and c under that of the curvature."""
    from port_jax.models.helm import sizes_of

    if "arch" in config:
        try:
            sizes = sizes_of(str(config["arch"]))
        except ValueError as error:
            raise Unmatched(f"the configuration's {error}", "Correct 'arch' in --config") from None
        for name, value in sizes.items():
            config.setdefault(name, value)
    if "c" in config:
        config.setdefault("curvature", config["c"])


def _require(shapes: Mapping[str, tuple[int, ...]], key: str, axes: int) -> None:
    if len(shapes[key]) != axes or not all(shapes[key]):
        raise Unmatched(f"{key} has the shape {list(shapes[key])}, and not {axes} axes", "Give the model's state_dict as it was saved")


def _settle_radii(found: Found, settings: Settings) -> None:
    from port_jax.models.helm import LEAST

    if missing := [key for key in RADII.values() if key not in found.tensors]:
        raise Unmatched(f"the key {missing[0]!r} is missing", "Save the state_dict of the whole model")
    raw = {key: found.value(key) for key in RADII.values()}
    if odd := [key for key, array in raw.items() if array.size != 1 or not LEAST <= float(array.reshape(())) < np.inf]:
        raise Unmatched(
            f"{odd[0]!r} is {raw[odd[0]]!s:.40}, and should be one number, at least {LEAST}",
            "Check the file: points satisfy <x, x> = -c, and the code's bounds change points where c is smaller",
        )
    for name, value in zip(RADII, curvature_settings.settle(settings, raw, len(raw))):
        settings.values[f"k_{name}"], settings.sources[f"k_{name}"] = value, RADII[name]
        settings.in_file.add(f"k_{name}")


def rules(settings: Hyperparameters) -> list[Rule]:
    """Matrices transposed, points as they are, rotations as pairs of real numbers; each c once, and its many other names tied to it."""
    block, path = "resblocks.{i}", "params/resblocks_{i}"
    found = [
        constant(HIDDEN),
        buffer(TURNS, f"buffers/{TURNS}", PAIRS),
        param(TABLE, "params/token_embed/embedding"),
        constant("token_embed.add_pos.w_y"),  # of sums with positions, which are not taken
        constant("token_embed.add_pos.scale"),
        param(f"{block}.attn.scale", f"{path}/attn/scale", SCALAR),
        param(f"{block}.attn.bias", f"{path}/attn/bias"),
        *(rule for name in ("Wk", "Wq", "Wv", "final_linear") for rule in linear(f"{block}.attn.{name}", f"{path}/attn/{name}")),
        *(param(f"{block}.{name}.weight", f"{path}/{name}/norm/scale") for name in ("ln_1", "ln_2")),
        *(rule for name in ("w1", "w2", "w3") for rule in linear(f"{block}.mlp.{name}.linear", f"{path}/mlp/{name}")),
        *(param(f"{block}.{name}.w_y", f"{path}/{name}/w_y") for name in ("res1", "res2")),
        param("ln_final.weight", "params/ln_final/norm/scale"),
        *linear("final_proj.linear", "params/final_proj"),
        param("mapping.weight", "params/mapping/kernel", TRANSPOSE),
    ]
    for name, first in RADII.items():
        found.append(constant(first))
        for place in ALIASES[name]:
            last = place.rpartition(".")[2]
            names = (place,) if last == "c" else tuple(f"{place}.{n}" for n in ("k", "c")[not last.startswith("manifold") :])
            found += [tied(key, first) for key in names]
    return found


SIZES = ("vocab_size", "context_length", "layers", "width", "heads")


def build(settings: Hyperparameters) -> Model:
    """The flax module."""
    from port_jax.models.helm import HELM as Module

    given: dict[str, Any] = {name: int(settings[name]) for name in SIZES}
    given |= {name: float(settings[name]) for name in ("k_in", "k_hidden", "k_out", "residual_scale")}
    return Module(**given)


def inputs(settings: Hyperparameters) -> tuple:
    """A token."""
    return (np.zeros((1, 1), np.int32),)


def reference(settings: Hyperparameters) -> TorchModule:
    """The torch module."""
    from reference_torch.models.helm import HELM as Module

    arch = "L{layers}_W{width}_A{heads}".format(**settings)
    radii = settings["k_in"], settings["k_hidden"], settings["k_out"]
    return Module(arch, settings["vocab_size"], settings["context_length"], radii, settings["residual_scale"])


def draw(settings: Hyperparameters, draw: Draw) -> Inputs:
    """Texts of the full context, in which every token that fits stands once."""
    length, count = settings["context_length"], settings["vocab_size"]
    rows = -(-min(count, ROWS * length) // length)
    return {"tokens": np.resize(draw.random.permutation(count), (max(rows, ROWS), length)).astype(np.int32)}


def outputs(settings: Hyperparameters, call: Call, given: Inputs) -> Outputs:
    """Points before the first block and after the last, and logits."""
    h = call("encode", given["tokens"])
    return {"token_embeddings": call("embed", given["tokens"]), "embeddings": h, "logits": call("classify", h)}


def recorded(settings: Hyperparameters, arrays: Mapping[str, np.ndarray]) -> Recorded:
    """What the authors' code computed: points, logits, the cross entropy of each next token, and steps by gradients that are cut."""
    tokens = arrays["tokens"]
    found = {name: arrays[name] for name in ("token_embeddings", "embeddings", "logits") if name in arrays}

    def loss(out: Outputs) -> Any:
        import jax
        import jax.numpy as jnp

        told = jax.nn.log_softmax(out["logits"][:, :-1])
        return -jnp.take_along_axis(told, jnp.asarray(tokens[:, 1:, None]), -1).mean()

    return Recorded({"tokens": tokens}, found, loss, Resumed.of(arrays, clip=CLIP))


def groups(settings: Hyperparameters, keys: Sequence[str]) -> list[list[str]]:
    """Of AdamW all that is flat, the two numbers that nothing uses among it, and of RiemannianAdam the table of points."""
    apart = {TABLE, TURNS, HIDDEN, *RADII.values()}
    return [[key for key in keys if key not in apart], [TABLE]]


def encoded(model: Model, variables: Variables, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The points of all tokens, row after row, after the last block: what logits of the tokens that follow are made of."""
    import jax

    from port_jax.models.helm import require_known

    rows = np.atleast_2d(np.asarray(arrays["tokens"]))
    require_known(rows, model.vocab_size)  # pyright: ignore[reportArgumentType]
    encode = jax.jit(lambda part: model.apply(variables, part, method="encode"))
    points = np.concatenate([np.asarray(encode(rows[n : n + PART])) for n in range(0, len(rows), PART)])
    return {"tokens": points.reshape(-1, points.shape[-1])}


HELM = Port(
    name="helm",
    recognise=recognise,
    settle=settle,
    rules=rules,
    model=build,
    inputs=inputs,
    torch=reference,
    groups=groups,
    probe=Probe(draw, outputs, recorded),
    nodes=NodeEmbeddings(arrays=("tokens",), encoded=encoded, manifold=lambda model, variables: model.space()),
)


__all__ = ["HELM"]
