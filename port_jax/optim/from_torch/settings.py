"""The settings of a group: what each may be, and which of them a kind does not read."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from reprlib import Repr
from typing import Any

import jax
import numpy as np

from port_jax.optim.from_torch.kinds import Kind
from port_jax.optim.from_torch.sections import Settings, plain

__all__ = ["INDIFFERENT", "SettingError", "check_values", "unread"]

INDIFFERENT = frozenset({
    "params", "param_names", "foreach", "fused", "capturable", "differentiable", "initial_lr", "name", "step",
    "decoupled_weight_decay", "compute_derphi", "transport_grad", "transport_search_direction", "rgrad", "expm",
})  # fmt: skip
"""Settings that change how torch computes or stores its state, but not the steps."""
_OF_LOOPS = frozenset({
    "base_lr", "max_lr", "min_lr", "swa_lr", "warmup_lr", "last_epoch", "base_momentum", "initial_momentum", "max_momentum", "min_momentum",
    "initial_weight_decay", "lr_mult", "lr_scale", "lr_ratio", "lr_factor", "wd_mult", "decay_mult",
})  # fmt: skip
"""What schedulers and training loops keep in groups to set `lr`, `momentum` or `weight_decay`, which a step reads as they stand."""
_LABEL = re.compile(r"(^|_)(name|label|tag|group|layer|module|id|key|description|comment)s?$")
_ELSEWHERE: Mapping[str, tuple[str, Any]] = {
    "bias_correction": ("apex's FusedAdam", True),
    "correct_bias": ("AdamW of transformers", True),
    "corrected_weight_decay": ("AdamW of timm", False),
    "caution": ("timm", False),
    "max_grad_norm": ("LAMB, which limits the gradients' norm", 0),
    "grad_averaging": ("LAMB", True),
    "trust_coefficient": ("LARS", None),
    "trust_clip": ("LAMB of timm", False),
    "always_adapt": ("LAMB of timm", None),
    "use_gc": ("Ranger, which centralises gradients", False),
    "use_muon": ("Muon", False),
    "weight_decouple": ("AdaBelief", None),
    "rectify": ("AdaBelief", False),
    "fixed_decay": ("AdaBelief", False),
    "adam_w_mode": ("FusedAdam", None),
    "rho": ("SAM, which takes gradients at another point", 0),
    "adaptive": ("SAM", None),
    "optim_bits": ("bitsandbytes", 32),
    "d": ("D-Adaptation or Prodigy", None),
    "momentum_decay": ("NAdam", None),
    "noise_multiplier": ("opacus", 0),
    "weight_lr_power": ("schedule-free optimizers", None),
}
"""Settings of classes that have those of a kind as well: where they occur, and the value with which the step is the kind's."""


class _Short(Repr):
    """Values of a file in few characters; what is not plain by its class only, whose text may be as long as it likes."""

    def repr_instance(self, x: Any, level: int) -> str:
        plainly = x is None or isinstance(x, bool | float | np.ndarray | np.generic | jax.Array) or callable(x)
        return super().repr_instance(x, level) if plainly else f"a {type(x).__name__}"


_repr = _Short()


class SettingError(ValueError):
    """A setting of a group that has no step here. `cause` names it with its value, `remedy` says what to do. `named`: the class by whose
    name a caller says that it does not read the setting."""

    def __init__(self, cause: str, remedy: str, named: str = ""):
        self.cause, self.remedy, self.named = cause, remedy, named
        super().__init__(f"{cause}: {remedy}")


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _from_zero(value: Any) -> bool:
    return _number(value) and value >= 0


def _pair(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(_number(x) and 0 <= x < 1 for x in value)


def _switch(value: Any) -> bool:
    return isinstance(value, bool) or (isinstance(value, int) and value in (0, 1))


def _interval(value: Any) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 1)


def _named(value: Any) -> bool:
    return isinstance(value, str)


def _mapping(value: Any) -> bool:
    return value is None or isinstance(value, Mapping)


_Rule = tuple[Callable[[Any], bool], str]
_RATE: _Rule = (_from_zero, "a number that is finite and not negative")
_BOOL: _Rule = (_switch, "True or False")
_METHODS = ("line_search_method", "cg_method")
_RULES: Mapping[str, _Rule] = {
    **dict.fromkeys(
        ("lr", "eps", "weight_decay", "momentum", "alpha", "lr_decay", "initial_accumulator_value", "fallback_stepsize"), _RATE
    ),
    **dict.fromkeys(("amsgrad", "nesterov", "maximize", "centered", "decoupled_weight_decay"), _BOOL),
    **dict.fromkeys(_METHODS, (_named, "the name of a method")),
    "dampening": (_number, "a finite number"),
    "betas": (_pair, "two numbers in [0, 1)"),
    "stabilize": (_interval, "None or a whole number from 1 on"),
    "line_search_params": (_mapping, "None or a mapping"),
}


def check_values(kind: Kind, groups: Sequence[Settings]) -> None:
    """Raises SettingError for a setting whose value the kind's class cannot have, and for one with no step here."""
    decays = [plain(group.get("decoupled_weight_decay", kind.decoupled)) for group in groups]
    mixed = all(map(_switch, decays)) and len(set(map(bool, decays))) > 1
    for number, group in enumerate(groups):
        _check_group(kind, group, number, mixed)


def _check_group(kind: Kind, group: Settings, number: int, mixed: bool) -> None:
    """mixed: whether the groups of an Adam decay in both ways, each in its own (`translation.settled`)."""
    for key in [key for key in group if key in kind.settings or key == "decoupled_weight_decay"]:
        if key in _METHODS and callable(group[key]):
            raise SettingError(f"{_said(number, key)} is a function, which no file holds", "build riemannian_line_search with it")
        fits, what = _RULES.get(key, (None, ""))
        if fits is not None and not fits(_single(group[key])):
            raise SettingError(f"{_said(number, key, group[key])}; {kind.name} has {what} there", "set it and save again")
    if kind.decoupled is not None and not mixed and plain(group.get("decoupled_weight_decay", kind.decoupled)) != kind.decoupled:
        raise SettingError(f"{_said(number, 'decoupled_weight_decay', group['decoupled_weight_decay'])}, which {kind.name} does not have",
                           "name the other of Adam and AdamW")  # fmt: skip
    if "maximize" not in kind.settings and (value := group.get("maximize")):
        raise SettingError(f"{_said(number, 'maximize', value)}, and {kind.name}'s step ignores it", "set it to False and save again")
    if group.get("cg_kwargs"):
        raise SettingError(_said(number, "cg_kwargs", group["cg_kwargs"]), "build riemannian_line_search with a function as cg_method")


def unread(kind: Kind, groups: Sequence[Settings], named: bool) -> list[str]:
    """The settings that no step of the kind reads and torch's own classes do not write, as "param_groups[0]['lr_scale'] is 0.5".

    They are labels, what schedulers and loops keep, and settings of other classes at the value that changes nothing. named: whether the
    caller has named the class, which then does not read whatever else is there.

    Raises SettingError for any other: the state is of a class that takes other steps.
    """
    known = {*kind.settings, *kind.ours, *INDIFFERENT, "maximize", "cg_kwargs"}
    found = []
    for number, group in enumerate(groups):
        for key, value in group.items():
            if key in known:
                continue
            if not (named or key in _OF_LOOPS or _label(key, value) or _neutral(key, value)):
                where = f"; a setting of this name occurs in {_ELSEWHERE[key][0]}" if key in _ELSEWHERE else ""
                raise SettingError(
                    f"{_said(number, key, value)}, which is no setting of {kind.name} and may change the steps{where}",
                    f"remove it in torch and save again, or if the class is {kind.name}, which does not read it, name the class "
                    f"(optimizer={kind.name!r})",
                    kind.name,
                )
            found.append(_said(number, key, value))
    return found


def _label(key: object, value: Any) -> bool:
    texts = value if isinstance(value, list | tuple) else [value]
    return bool(_LABEL.search(str(key))) and all(isinstance(text, str | int) for text in texts)


def _neutral(key: object, value: Any) -> bool:
    """Whether the value leaves the step as it is."""
    if value is None:
        return True
    neutral = _ELSEWHERE[str(key)][1] if key in _ELSEWHERE else None
    return neutral is not None and isinstance(_single(value), bool | int | float) and _single(value) == neutral


def _single(value: Any) -> Any:
    """A tensor of one number as that number."""
    return value if isinstance(value, np.ndarray | jax.Array) and value.size != 1 else plain(value)


def _said(number: int, key: object, *value: Any) -> str:
    """The place of a setting, and what it is if that is given."""
    return " is ".join([f"param_groups[{number}][{_repr.repr(key)}]", *map(_repr.repr, value)])
