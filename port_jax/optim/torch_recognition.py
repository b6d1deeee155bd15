"""Which optimizer wrote a state: by the settings in its groups, and where these leave a choice, by the numbers beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from port_jax.optim import torch_counts
from port_jax.optim.torch_optimizers import KINDS, plain

Entries = Mapping[str, Mapping[str, Any]]
_ALIASES = {"radam": "RiemannianAdam", "riemannian_adam": "RiemannianAdam", "rsgd": "RiemannianSGD", "riemannian_sgd": "RiemannianSGD"}
_ADAM = {"betas", "eps", "amsgrad"}
# the arguments of classes, the most telling first
_TELLING: tuple[tuple[str, set[str], set[str]], ...] = (
    ("poincare_embeddings.RiemannianSGD", {"rgrad", "expm"}, set()),
    ("RiemannianLineSearch", {"line_search_method", "cg_method"}, set()),
    ("SparseRiemannianAdam", _ADAM | {"stabilize"}, {"weight_decay"}),
    ("RiemannianAdam", _ADAM | {"weight_decay", "stabilize"}, set()),
    ("Adam", _ADAM | {"weight_decay"}, set()),
    ("SparseRiemannianSGD", {"momentum", "dampening", "nesterov", "stabilize"}, {"weight_decay"}),
    ("RiemannianSGD", {"momentum", "dampening", "nesterov", "stabilize"}, set()),
    ("SGD", {"momentum", "dampening", "nesterov"}, set()),
    ("RMSprop", {"alpha", "centered"}, set()),
    ("Adagrad", {"lr_decay", "initial_accumulator_value"}, set()),
)
_NEEDS = {kind: having for kind, having, _ in _TELLING} | {
    "AdamW": _ADAM | {"weight_decay"},
    "hgcn.RiemannianAdam": _ADAM | {"weight_decay"},
    "hybonet.RiemannianAdam": _ADAM | {"weight_decay", "stabilize"},
    "murp.RiemannianSGD": {"lr"},
    "poincare_embeddings.RiemannianSGD": {"lr"},
}


def family(name: str) -> str | None:
    """The class that a name in a configuration means: "radam" is a RiemannianAdam; None for an unknown one."""
    name = name.rpartition(".")[2]
    known = {kind.rpartition(".")[2].lower(): kind.rpartition(".")[2] for kind in KINDS}
    return {**known, **_ALIASES}.get(name.lower())


def recognised(
    groups: Sequence[Mapping[str, Any]], entries: Sequence[Entries], flat: Sequence[str], name: str | None = None, said: str | None = None,
    code: str | None = None,
) -> str:  # fmt: skip
    """The optimizer's class, a key of KINDS.

    entries: the states of each group's parameters by path. flat: the paths that are on no manifold but Euclidean(). name: the
    class, if it is given. said: what a configuration calls it, which is checked and tells apart what the settings do not.
    code: whose code the model is ("hgcn", "hybonet", "murp"), which tells apart what nothing else does.

    Errors: ValueError for an unknown class, settings of none, a name that the settings contradict, and two that fit.
    """
    if name is not None:
        if name not in KINDS:
            raise ValueError(
                f"optimizer {name!r} is not translated; known are {', '.join(KINDS)}; for another, build an optax transformation"
            )
        _check(name, groups)
        return name
    if said in KINDS and "." in said:
        _check(said, groups)
        return said
    keys = set(groups[0]) if groups else set()
    found = next((kind for kind, having, lacking in _TELLING if having <= keys and not lacking & keys), None)
    named = family(said) if said else None
    counted = any("step" in group for group in groups)
    if found == "Adam" and (counted or (named == "RiemannianAdam" and code == "hgcn" and not any(map(any, entries)))):
        found = _of_hgcn(entries, flat, code)
    elif found == "Adam":
        found = _decay(groups, named)
    elif found == "RiemannianAdam":
        found = _of_hybonet(groups, entries, code)
    elif found is None and keys - {"initial_lr", "param_names", "params"} == {"lr"} and code == "murp":
        found = "murp.RiemannianSGD"
    if found is None:
        more = " ('murp.RiemannianSGD' has no other setting than lr)" if "lr" in keys else ""
        raise ValueError(
            f"an optimizer with the settings {sorted(keys - {'params'})} is not recognised; known are {', '.join(KINDS)}: say "
            f"optimizer={more}"
        )
    if named is not None and named != found.rpartition(".")[2]:
        raise ValueError(
            f"the configuration's optimizer is {said}, the file's settings are those of {found}: correct the configuration, or say "
            "optimizer="
        )
    return found


def _check(name: str, groups: Sequence[Mapping[str, Any]]) -> None:
    """Raises ValueError where a group lacks what every state of the class has."""
    for number, group in enumerate(groups):
        if "name" not in group and (missing := _NEEDS[name] - set(group)):
            raise ValueError(
                f"optimizer is {name}, and param_groups[{number}] has no {', '.join(sorted(missing))}: the settings are another class's"
            )


def _decay(groups: Sequence[Mapping[str, Any]], named: str | None) -> str:
    if any("decoupled_weight_decay" in group for group in groups):
        return "AdamW" if groups[0].get("decoupled_weight_decay") else "Adam"
    if named in ("Adam", "AdamW"):
        return named
    if not any(plain(group["weight_decay"]) for group in groups):
        return "Adam"  # without decay the two are one
    raise ValueError("these settings are those of Adam and of AdamW in files of older torch: say optimizer='Adam' or 'AdamW'")


def _of_hgcn(entries: Sequence[Entries], flat: Sequence[str], code: str | None) -> str:
    """A count in the group and no `stabilize`: geoopt 0.1 or HGCN's copy, whose flat second moments are the same along each row."""
    by_rows = elementwise = False
    for path, entry in ((path, entry) for group in entries for path, entry in group.items()):
        if path in flat and entry.get("exp_avg_sq") is not None:
            rows = np.asarray(entry["exp_avg_sq"])
            if rows.ndim and min(rows.shape) > 1:
                # whichever axis torch's last one has become: of equal rows, or of equal columns
                spread = [bool((rows != np.take(rows, [0], axis)).any()) for axis in range(rows.ndim)]
                elementwise |= all(spread)
                by_rows |= bool(rows.any()) and not all(spread)
    if elementwise != by_rows:
        return "RiemannianAdam" if elementwise else "hgcn.RiemannianAdam"
    if code == "hgcn" and not elementwise:
        return "hgcn.RiemannianAdam"
    raise ValueError(
        "this state is geoopt 0.1's or that of HGCN's own RiemannianAdam, which differ in the second moments of flat parameters, and "
        "no number in it tells which: say optimizer='RiemannianAdam' or 'hgcn.RiemannianAdam'"
    )


def _of_hybonet(groups: Sequence[Mapping[str, Any]], entries: Sequence[Entries], code: str | None) -> str:
    """A count in the group and 0 beside parameters: geoopt until 0.3.1, twice a parameter, or fully-hyperbolic-nn, once an update."""
    zero = [
        (torch_counts.integer(group["step"], "step"), 2 * sum(bool(e) for e in own.values()))
        for group, own in zip(groups, entries, strict=True)
        if "step" in group and any("step" in e for e in own.values())
    ]
    zero = [(total, turn) for total, turn in zero if total]
    if not zero or any(torch_counts.integer(e.get("step", 0), "step") for own in entries for e in own.values()):
        return "RiemannianAdam"
    once = len({total for total, _ in zero}) == 1
    twice = all(total % turn == 0 for total, turn in zero) and len({total // turn for total, turn in zero}) == 1
    if once != twice:
        return "hybonet.RiemannianAdam" if once else "RiemannianAdam"
    if not once:
        raise ValueError(f"the groups count {[total for total, _ in zero]} steps, which no known optimizer does: save them from one run")
    if code == "hybonet":
        return "hybonet.RiemannianAdam"
    raise ValueError(
        f"a count of {zero[0][0]} in the groups and 0 beside parameters is {zero[0][0]} steps of fully-hyperbolic-nn's RiemannianAdam or "
        f"{zero[0][0] // zero[0][1]} of geoopt's until 0.3.1, and no number in the state tells which: say "
        "optimizer='hybonet.RiemannianAdam' or 'RiemannianAdam'"
    )
