"""TiDHy, elliottabe/TiDHy at its last commit on torch (`reference_torch.models.tidhy` <-> `port_jax.models.TiDHy`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from weights.errors import Unmatched
from weights.mapping.node_embeddings import NodeEmbeddings
from weights.mapping.port import Found, Port
from weights.mapping.probes import Call, Draw, Inputs, Outputs, Probe, Recorded
from weights.mapping.rules import Rule, linear, param
from weights.mapping.settings import Settings, same_flag, same_numbers
from weights.models.tidhy_training import begins, collected
from weights.types import Config, Hyperparameters, Model, TorchModule

INFERENCE: dict[str, Any] = {
    "max_iter": 2000, "tol": 0.01, "batch_converge": True, "lr_r": 0.2, "lr_r2": 0.2, "temp_weight": 2.0, "L1_inf_r": 0.0, "L1_inf_r2": 0.0,
    "L1_inf_w": 0.0, "lmda_r": 0.0, "lmda_r2": 0.0, "grad_norm_inf": False, "grad_alpha_inf": 1.0, "lr_weights_inf": 0.005,
}  # fmt: skip
"""What the latents depend on, with the original's defaults."""
TRAINING: dict[str, Any] = {
    "grad_norm": True, "grad_alpha": 0.5, "lr_weights": 0.01, "weight_decay": 1e-5, "clip_grad": 500.0,
    "cos_eta": 5.0, "Orth_alpha_r2": 5.0, "Orth_alpha_spat": 0.0, "L1_alpha": 0.0, "L0_alpha": 0.0, "Lnuc_alpha": 0.0,
    "L1_alpha_spat": 0.0, "L1_alpha_W": 0.0, "normalize_temporal": False, "normalize_spatial": False,
    "learning_rate_s": 0.01, "learning_rate_t": 0.01, "learning_rate_h": 0.001,
}  # fmt: skip
"""What only steps of training depend on. No number of the original depends on stateful, converge_dyn, learning_rate_gamma, spat_weight,
L1_alpha_inf and L1_alpha_r2, which its configurations have too."""
KINDS = ("MSE", "BCE", "Poisson")
ROWS, TIMES, STEPS = 4, 3, 10
"""Sequences, time steps and iterations of a comparison."""


def recognise(found: Found) -> bool:
    """The mixture of dynamics beside the decoder and the hypernetwork."""
    return {"temporal", "spatial_decoder.0.weight", "hypernet.0.weight", "hypernet.4.weight"} <= found.tensors.keys()


def settle(found: Found, settings: Settings) -> None:
    """Sizes and switches from keys and shapes, the rest from the configuration."""
    shapes = _shapes(found)
    low = settings.settle("low_rank_temp", len(shapes["temporal"]) == 3, "shape of temporal", same=same_flag)
    settings.settle("rank", shapes["temporal"][2] if low else 2, "shape of temporal")
    settings.settle("mix_dim", shapes["temporal"][0], "shape of temporal")
    settings.settle("r_dim", shapes["spatial_decoder.0.weight"][1], "shape of spatial_decoder.0.weight")
    hidden, r2 = shapes["hypernet.0.weight"]
    settings.settle("r2_dim", r2, "shape of hypernet.0.weight")
    settings.settle("hyper_hid_dim", hidden, "shape of hypernet.0.weight")
    settings.settle("dyn_bias", "temporal_bias" in shapes, "keys", same=same_flag)
    deep = settings.settle("nonlin_decoder", "spatial_decoder.4.weight" in shapes, "keys", same=same_flag)
    last = f"spatial_decoder.{4 if deep else 0}.weight"
    settings.settle("input_dim", shapes[last][0], f"shape of {last}")
    wide = [shapes[f"spatial_decoder.{n}.weight"][0] for n in (0, 3)] if deep else None
    settings.settle("decoder_hid_dims", wide, "keys of spatial_decoder", same=same_numbers)
    if settings.settle("use_r2_decoder", "R2_Decoder.0.weight" in shapes, "keys", same=same_flag):
        settings.settle("r2_decoder_hid_dim", shapes["R2_Decoder.0.weight"][0], "shape of R2_Decoder.0.weight")
    kind = settings.settle("loss_type", default="MSE")
    if kind not in KINDS:
        raise Unmatched(
            f"loss_type is {kind!r}; TiDHy is converted with {', '.join(KINDS)}",
            "The original takes every other name for MSE: give 'MSE' in the configuration",
        )
    for name, default in {**INFERENCE, **TRAINING}.items():
        if "alpha" in name and settings.config.get(name, 0) in (None, ""):
            settings.config[name] = 0.0  # a regulariser that is not used, as the original reads it
        settings.settle(name, default=default, same=same_flag if isinstance(default, bool) else same_numbers)


def _shapes(found: Found) -> Mapping[str, tuple[int, ...]]:
    """Those of the file, in which the tensors that sizes are read from are matrices; Unmatched where one is not, or is not there."""
    deep, decoder = "spatial_decoder.4.weight" in found.shapes, "R2_Decoder.0.weight" in found.shapes
    read = ["temporal", "hypernet.0.weight", "spatial_decoder.0.weight"]
    read += ["spatial_decoder.3.weight", "spatial_decoder.4.weight"] * deep + ["R2_Decoder.0.weight"] * decoder
    for key in read:
        if key not in found.shapes:
            raise Unmatched(f"the file has 'spatial_decoder.4.weight' and no {key!r}", "Save the whole state_dict of the model")
        shape, axes = found.shapes[key], (2, 3) if key == "temporal" else (2,)
        if len(shape) not in axes:
            raise Unmatched(f"{key} has shape {shape}, not {' or '.join(map(str, axes))} axes", "Save the state_dict as the model has it")
    return found.shapes


def rules(settings: Hyperparameters) -> list[Rule]:
    """Linear layers and LayerNorms by their positions in the sequences; the dynamics as they are."""
    found = [param("temporal", "params/temporal"), *linear("spatial_decoder.0", "params/spatial_decoder/layers_0")]
    if settings["dyn_bias"]:
        found.append(param("temporal_bias", "params/temporal_bias"))
    if settings["nonlin_decoder"]:
        found += _deep("spatial_decoder")
    if settings["use_r2_decoder"]:
        found += [*linear("R2_Decoder.0", "params/r2_decoder/layers_0"), *_deep("R2_Decoder", "r2_decoder")]
    return [*found, *linear("hypernet.0", "params/hypernet/layers_0"), *_deep("hypernet")]


def _deep(name: str, path: str = "") -> list[Rule]:
    """The layers 1 (LayerNorm), 3 and 4 of a network; the last may have no bias. path: its name here, if it has another."""
    path = f"params/{path or name}"
    scale = Rule(f"{name}.1.weight", f"{path}/layers_1/scale")
    layers = [linear(f"{name}.{n}", f"{path}/layers_{n}") for n in (3, 4)]
    *found, bias = (rule for pair in layers for rule in pair)
    return [scale, param(f"{name}.1.bias", f"{path}/layers_1/bias"), *found, Rule(bias.key, bias.path, optional=True)]


def build(settings: Hyperparameters) -> Model:
    """The flax module."""
    from port_jax.models.tidhy import TiDHy as Module
    from port_jax.models.tidhy_inference import Inference

    given: dict[str, Any] = {
        name: settings[name] for name in ("input_dim", "r_dim", "r2_dim", "mix_dim", "hyper_hid_dim", "rank", "loss_type")
    }
    given |= {name: bool(settings[name]) for name in ("low_rank_temp", "dyn_bias", "nonlin_decoder", "use_r2_decoder")}
    if settings["use_r2_decoder"]:
        given["r2_decoder_hid_dim"] = settings["r2_decoder_hid_dim"]
    wide = settings["decoder_hid_dims"]
    how = Inference(**{name: settings[name] for name in INFERENCE}, loss_type=settings["loss_type"])
    return Module(**given, decoder_hid_dims=tuple(wide) if wide else None, inference=how)


def inputs(settings: Hyperparameters) -> tuple:
    """Two short sequences."""
    return (np.zeros((2, 2, settings["input_dim"]), np.float32),)


def reference(settings: Hyperparameters) -> TorchModule:
    """The torch module."""
    from reference_torch.models.tidhy import TiDHy as Module

    return Module(dict(settings))


def groups(settings: Hyperparameters, keys: Sequence[str]) -> list[list[str]]:
    """The three groups of the training code: decoder, dynamics, hypernetwork. It leaves out the R2 decoder, which therefore never moves."""
    return [[key for key in keys if key.startswith(first)] for first in ("spatial_decoder.", "temporal", "hypernet.")]


def moves(section: Mapping) -> bool:
    """Whether an optimizer moves the model: GradNorm's has a single parameter, the weights of the losses."""
    groups = [group for group in section["param_groups"] if isinstance(group, Mapping)]
    return sum(len(group.get("params", ())) for group in groups) != 1


def draw(settings: Hyperparameters, draw: Draw) -> Inputs:
    """Sequences, latents of one step, and how many iterations are made, as the length of an array: a stopping rule may flip on a bit."""
    x = 2 * draw.normal(ROWS, TIMES, settings["input_dim"])
    if settings["loss_type"] == "BCE":
        x = 1 / (1 + np.exp(-x))
    if settings["loss_type"] == "Poisson":  # counts: for numbers below 0 the loss has no minimum
        x = np.abs(x)
    r, r2 = draw.normal(ROWS, settings["r_dim"]), draw.normal(ROWS, settings["r2_dim"])
    return {"x": x, "r": r, "r2": r2, "begin": 0.5 * draw.normal(ROWS, settings["r2_dim"]), "iterations": np.zeros(STEPS)}


def outputs(settings: Hyperparameters, call: Call, given: Inputs) -> Outputs:
    """The prediction; the inference of a first and of a second step; a whole record; the training losses.

    Drawn numbers leave the domain of the losses that have one, as no sigmoid is before them: there the cross entropy has no inference, and
    Poisson's loss no value. What the authors recorded is compared with all of it.
    """
    x, steps = given["x"], None if given["iterations"] is None else len(given["iterations"])
    found, drawn = call("predict", given["r"], given["r2"]), steps is not None
    result = {"prediction_r": found.r, "prediction_V": found.V, "prediction_w": found.w}
    if settings["use_r2_decoder"] and drawn:
        result["foretold_r2"] = call("foretell", given["r"], given["r2"])
    if settings["loss_type"] == "BCE" and drawn:
        return {**result, "decoded": call("decode", given["r"])}
    second = call("infer", x[:, 1], given["r"], given["begin"], steps)
    whole = call("record", x, None, steps)
    whole = whole if isinstance(whole, Mapping) else whole._asdict()
    record = {f"record_{name}": whole[name] for name in RECORDED[:-1]}
    result |= {"first_r": whole["R_hat"][:, 0], "inf_r": second[0], "inf_r2": second[1], **record}
    losses, _ = call("training_losses", x, None, steps)
    if settings["use_r2_decoder"]:
        result["r2_loss"] = losses[3]
    if drawn and settings["loss_type"] == "Poisson":
        return result
    return {**result, "record_losses": _vector(whole["losses"]), "losses": losses[:3]}


RECORDED = ("I_bar", "I_hat", "R_bar", "R_hat", "R2_hat", "W", "losses")


def _vector(losses: Any) -> Any:
    """Three numbers as an array of the side that they are from."""
    if not isinstance(losses, tuple):
        return losses
    import jax.numpy as jnp

    return jnp.stack(losses)


def recorded(settings: Hyperparameters, arrays: Mapping[str, np.ndarray]) -> Recorded:
    """What the authors' code computed, with its stopping rule: W of it may have the dynamic bias behind the shares."""
    mix = settings["mix_dim"]
    given = {
        "x": arrays["inputs"],
        "r": arrays["first/r"],
        "r2": arrays["inf/r2"],
        "begin": np.zeros_like(arrays["inf/r2"]),
        "iterations": None,
    }
    names = [
        "first/r",
        "inf/r",
        "inf/r2",
        "prediction/r",
        "prediction/V",
        "prediction/w",
        *(f"record/{name}" for name in RECORDED),
        "losses",
    ]
    found = {name.replace("/", "_"): arrays[name] for name in names}
    found |= {name: found[name][..., :mix] for name in ("prediction_w", "record_W")}
    if len(found["losses"]) > 3:
        found |= {"losses": found["losses"][:3], "r2_loss": found["losses"][3]}
        return Recorded(given, found, lambda out: out["losses"].sum() + out["r2_loss"])
    return Recorded(given, found, lambda out: out["losses"].sum())


def dynamics(temporal: np.ndarray) -> np.ndarray:
    """The dynamics that are mixed, one in each row [mix_dim, r_dim^2]: of low-rank factors T_m [r_dim, rank] the numbers of T_m T_m^T."""
    return temporal if temporal.ndim == 2 else (temporal @ temporal.swapaxes(1, 2)).reshape(len(temporal), -1)


def optimizer(config: Config) -> object:
    """The training code has one."""
    return "AdamW"


TIDHY = Port(
    name="tidhy",
    recognise=recognise,
    settle=settle,
    rules=rules,
    model=build,
    inputs=inputs,
    torch=reference,
    groups=groups,
    optimizer=optimizer,
    probe=Probe(draw, outputs, recorded),
    nodes=NodeEmbeddings(table="temporal", rows=dynamics),
    moves=moves,
    in_training=tuple(TRAINING),
    collected=collected,
    begins=begins,
)


__all__ = ["TIDHY", "TRAINING"]
