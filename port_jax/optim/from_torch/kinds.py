"""The table of kinds: the optimizers of torch, geoopt and repositories, one row each, with everything that distinguishes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from port_jax.optim.from_torch import making, rules
from port_jax.optim.from_torch.dialects import Dialect
from port_jax.optim.from_torch.making import Make
from port_jax.optim.from_torch.sections import Entry, Settings

__all__ = ["KINDS", "MOMENTS", "TENSORS", "Kind", "Untranslated", "kind_named", "trained"]

Keys = frozenset[str]


class Untranslated(ValueError):
    """An optimizer of a class that is no kind: no name of one would make it right."""


@dataclass(frozen=True, eq=False)
class Kind:
    """An optimizer class. Everything that depends on the class is read from its row."""

    title: str
    """The class's name."""
    make: Make
    """The transformation of a group."""
    settings: Settings
    """The settings that change the steps, with torch's defaults."""
    telling: tuple[Keys, ...]
    """The settings by which a group is recognised: one set for each version with different ones. If a group fits several kinds, those with
    the largest set are chosen."""
    dialects: tuple[Dialect, ...]
    """How its versions count, the usual dialect first."""
    buffers: Mapping[str, str] = field(default_factory=dict)
    """torch's names of the tensors in a parameter's state, and the fields of the port's state for them."""
    code: str | None = None
    """The repository from whose code the class comes, if any; it distinguishes kinds that nothing else does."""
    lacking: Keys = frozenset()
    """Settings that no group of the class has."""
    required: Keys | None = None
    """The settings that a group must have if the class is given by name, where these are fewer than a set of `telling`."""
    sole: bool = False
    """Whether `telling` has all of its settings; these are so few that they count only in files of its own code."""
    riemannian: bool = False
    """Whether it moves points on manifolds."""
    defects: bool = False
    """Whether it moves points by geoopt's manifolds, so that a resumed run has their defects (`defects`)."""
    sgd: bool = False
    """Whether it descends along the gradient; a momentum, if it has one, then begins with a parameter's first gradient."""
    sparse: bool = False
    """Whether it takes row gradients, and is a `SparseTransformation`."""
    search: bool = False
    """Whether it searches along one line for all parameters, whatever their groups."""
    by_rows: bool = False
    """Whether second moments of flat parameters are sums along an axis of torch's: the last, or what `ours` has under "axes"."""
    decoupled: bool | None = None
    """The value of `decoupled_weight_decay` in its groups; None if they do not have it."""
    zero_beside: bool = False
    """Whether each parameter has a step that is always 0, while the group counts."""
    from_start: bool = False
    """Whether each parameter has a state before its first step."""
    ignored: Keys = frozenset()
    """Entries of torch's state that the next step does not read."""
    ours: Settings = field(default_factory=dict)
    """Settings that no torch optimizer has: `from_torch` gets them from the caller or a configuration."""
    aliases: tuple[str, ...] = ()
    """Other names of the class in configurations."""

    @property
    def name(self) -> str:
        """The key in `KINDS`: "RiemannianAdam", "hgcn.RiemannianAdam"."""
        return f"{self.code}.{self.title}" if self.code else self.title

    @property
    def alone(self) -> bool:
        """Whether its parameters cannot be divided into groups: it has one state for all of them."""
        return self.sparse or self.search

    def keeps_buffers(self, settings: Settings) -> bool:
        """Whether parameters trained with these settings have a state."""
        return bool(self.buffers) and (not self.sgd or bool(settings["momentum"]))

    def missing(self, keys: Keys | set[str]) -> set[str]:
        """The settings that a group of the class must have and `keys` lack; empty if `keys` are those of any of its versions."""
        versions = self.telling if self.required is None else (self.required,)
        return set() if any(version <= keys for version in versions) else set(versions[0] - keys)


# settings with torch's defaults
_ROW_ADAM = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "amsgrad": False}
_ADAM = {**_ROW_ADAM, "weight_decay": 0.0}
_ROW_SGD = {"lr": 1e-3, "momentum": 0.0, "dampening": 0.0, "nesterov": False, "stabilize": None}
_SGD = {"lr": 1e-3, "momentum": 0.0, "dampening": 0.0, "weight_decay": 0.0, "nesterov": False, "maximize": False}
_HYPLL_SGD = {name: value for name, value in _SGD.items() if name != "maximize"}
_RMSPROP = {"lr": 1e-2, "alpha": 0.99, "eps": 1e-8, "weight_decay": 0.0, "momentum": 0.0, "centered": False, "maximize": False}
_ADAGRAD = {
    "lr": 1e-2, "lr_decay": 0.0, "weight_decay": 0.0, "initial_accumulator_value": 0.0, "eps": 1e-10, "maximize": False,
}  # fmt: skip
_SEARCH = {
    "line_search_method": "armijo", "line_search_params": None, "cg_method": "steepest", "cg_kwargs": None,
    "fallback_stepsize": 1.0, "stabilize": None,
}  # fmt: skip
# telling settings
_RATE, _DECAY, _STABILIZE, _COUNT = (frozenset({name}) for name in ("lr", "weight_decay", "stabilize", "step"))
_OF_ADAM = frozenset({"betas", "eps", "amsgrad"})
_OF_SGD = frozenset({"momentum", "dampening", "nesterov"})
# buffers, and what a line search stores of its trials
MOMENTS = {"exp_avg": "mu", "exp_avg_sq": "nu", "max_exp_avg_sq": "nu_max"}
"""Adam's buffers, all of which a trained parameter has."""
_MOMENTUM = {"momentum_buffer": "momentum"}
_FLAT_MOMENTUM = {"momentum_buffer": "momentum_buffer"}
_CARRIED = {"grad": "grad", "grad_transported": "transported_grad", "search_transported": "transported_direction"}
_TRIALS = frozenset({
    "grad", "grad_transported", "search_transported", "search_direction", "new_point", "new_grad", "der_phi", "prev_grad",
    "prev_grad_norm_squared",
})  # fmt: skip

_TABLE = (
    Kind(
        "RiemannianAdam", making.adam, {**_ADAM, "stabilize": None}, buffers=MOMENTS, riemannian=True, defects=True,
        telling=(_OF_ADAM | _DECAY | _STABILIZE, _OF_ADAM | _DECAY | _COUNT),  # the second is geoopt 0.1's
        dialects=(Dialect.PARAMETER, Dialect.GROUP, Dialect.DOUBLE), aliases=("radam", "riemannian_adam"),
    ),
    Kind(
        "RiemannianAdam", making.hgcn_adam, _ADAM, buffers=MOMENTS, riemannian=True, code="hgcn",
        telling=(_OF_ADAM | _DECAY | _COUNT,), lacking=_STABILIZE, required=_OF_ADAM | _DECAY,
        dialects=(Dialect.DOUBLE,), zero_beside=True, by_rows=True, ours={"axes": {}},
    ),
    Kind(
        "RiemannianAdam", making.hybonet_adam, {**_ADAM, "stabilize": None}, buffers=MOMENTS, riemannian=True, code="hybonet",
        telling=(_OF_ADAM | _DECAY | _STABILIZE,), dialects=(Dialect.GROUP,), zero_beside=True,
    ),
    Kind(
        "RiemannianSGD", making.sgd, {**_ROW_SGD, "weight_decay": 0.0}, buffers=_MOMENTUM, riemannian=True, defects=True, sgd=True,
        telling=(_OF_SGD | _STABILIZE | _DECAY,), required=_OF_SGD | _STABILIZE, dialects=(Dialect.GROUP,),
        aliases=("rsgd", "riemannian_sgd"),
    ),
    Kind(
        "RiemannianSGD", making.murp_sgd, {"lr": 1e-3}, riemannian=True, sgd=True, code="murp",
        telling=(_RATE,), sole=True, dialects=(Dialect.NONE,),
    ),
    Kind(
        "RiemannianAdam", making.hypll_adam, _ADAM, buffers=MOMENTS, riemannian=True, code="hypll",
        telling=(_OF_ADAM | _DECAY | _RATE,), sole=True, dialects=(Dialect.PARAMETER,), by_rows=True, ours={"axes": {}},
    ),
    Kind(
        "RiemannianSGD", making.hypll_sgd, _HYPLL_SGD, buffers=_MOMENTUM, riemannian=True, sgd=True, code="hypll",
        telling=(_OF_SGD | _DECAY | _RATE,), sole=True, dialects=(Dialect.NONE,),
    ),
    Kind(
        "RiemannianSGD", making.embedding_sgd, {"lr": 1e-3}, riemannian=True, sgd=True, code="poincare_embeddings",
        telling=(frozenset({"rgrad", "expm"}),), required=_RATE, dialects=(Dialect.NONE,), ours={"sparse": False},
    ),
    Kind(
        "SparseRiemannianAdam", making.sparse_adam, {**_ROW_ADAM, "stabilize": None}, buffers=MOMENTS, riemannian=True, defects=True,
        sparse=True, telling=(_OF_ADAM | _STABILIZE,), lacking=_DECAY, dialects=(Dialect.PARAMETER,),
    ),
    Kind(
        "SparseRiemannianSGD", making.sparse_sgd, _ROW_SGD, buffers=_MOMENTUM, riemannian=True, defects=True, sgd=True, sparse=True,
        telling=(_OF_SGD | _STABILIZE,), lacking=_DECAY, dialects=(Dialect.GROUP,),
    ),
    Kind(
        "RiemannianLineSearch", making.line_search, _SEARCH, buffers=_CARRIED, ignored=_TRIALS, riemannian=True, defects=True,
        search=True, telling=(frozenset({"line_search_method", "cg_method"}),), dialects=(Dialect.GROUP,),
    ),
    Kind(
        "Adam", making.flat_adam, {**_ADAM, "maximize": False}, buffers=MOMENTS,
        telling=(_OF_ADAM | _DECAY,), dialects=(Dialect.PARAMETER,), decoupled=False,
    ),
    Kind(
        "AdamW", making.flat_adamw, {**_ADAM, "weight_decay": 1e-2, "maximize": False}, buffers=MOMENTS,
        telling=(_OF_ADAM | _DECAY,), dialects=(Dialect.PARAMETER,), decoupled=True,
    ),
    Kind(
        "SGD", making.by_rule(rules.sgd, "momentum", "dampening", "weight_decay", "nesterov"), _SGD, buffers=_FLAT_MOMENTUM, sgd=True,
        telling=(_OF_SGD,), dialects=(Dialect.NONE,),
    ),
    Kind(
        "RMSprop", making.by_rule(rules.rmsprop, "alpha", "eps", "weight_decay", "momentum", "centered"), _RMSPROP,
        buffers={"square_avg": "square_avg", "grad_avg": "grad_avg", **_FLAT_MOMENTUM},
        telling=(frozenset({"alpha", "centered"}),), dialects=(Dialect.PARAMETER,),
    ),
    Kind(
        "Adagrad", making.by_rule(rules.adagrad, "lr_decay", "weight_decay", "initial_accumulator_value", "eps"), _ADAGRAD,
        buffers={"sum": "sum"}, from_start=True,
        telling=(frozenset({"lr_decay", "initial_accumulator_value"}),), dialects=(Dialect.PARAMETER,),
    ),
)  # fmt: skip

KINDS: Mapping[str, Kind] = {kind.name: kind for kind in _TABLE}
"""The kinds by name."""
TENSORS: Keys = frozenset(name for kind in _TABLE for name in (*kind.buffers, *kind.ignored))
"""The names of all tensors that any kind has in a parameter's state."""
_FROM_START = frozenset(name for kind in _TABLE if kind.from_start for name in kind.buffers)


def kind_named(name: str) -> Kind:
    """The kind of this name. Raises Untranslated, with the names of all kinds, if there is none."""
    if name not in KINDS:
        raise Untranslated(f"optimizer {name!r} is not translated; known are {', '.join(KINDS)}; for others, build an optax transformation")
    return KINDS[name]


def trained(entry: Entry | None, step: Any) -> bool:
    """Whether a parameter with this entry has been trained; `step` is its count, as a number."""
    return bool(entry) and (step != 0 or _FROM_START.isdisjoint(entry))
