"""Which kind wrote a state: by the settings in its groups, and where these leave a choice, by its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from port_jax.optim.from_torch.dialects import Dialect, integer
from port_jax.optim.from_torch.kinds import KINDS, Kind, Untranslated, kind_named
from port_jax.optim.from_torch.numbers import UNEVEN, pieces
from port_jax.optim.from_torch.sections import Section, plain

__all__ = ["moves_points", "recognise", "summed_along"]

# the keys of a group that are not arguments of the class
_BESIDE = {"initial_lr", "param_names", "params"}

# settings by which classes of torch are told that are no kind
_NO_KIND = {"NAdam": "momentum_decay", "Muon": "ns_steps", "ASGD": "lambd", "Rprop": "etas", "LBFGS": "history_size", "Adadelta": "rho",
            "Adafactor": "beta2_decay"}  # fmt: skip


def recognise(section: Section, flat: Sequence[str], name: str | None = None, said: str | None = None, code: str | None = None) -> Kind:
    """The kind of the optimizer whose state this is.

    flat: the paths on Euclidean(). name: the kind, if it is given. said: the name of the optimizer in a configuration, which is checked
    and decides between kinds with the same settings. code: whose code the model comes from ("hgcn", "hybonet", "murp"), which decides
    where nothing else does.

    Errors: Untranslated for an unknown kind and a class of torch that is none, ValueError for other settings of no kind, a name that
    contradicts the settings, and two kinds that fit.
    """
    own = KINDS.get(said) if said is not None else None
    if name is None and own is not None and own.code:
        return _checked(own, section)
    if name is not None:
        return _checked(kind_named(name), section)
    named = _title(said) if said else None
    fitting = _fitting(section.groups, code)
    if fresh := _fresh(fitting, section, named, code):
        return fresh
    if not fitting:
        raise _unknown(section)
    if not any(kind.riemannian for kind in fitting) and (path := _summed(section)) is not None:
        raise ValueError(
            f"this state is that of HypLL's RiemannianAdam: exp_avg_sq of {path!r} is the same along an axis along which exp_avg is not, "
            "so it is a squared norm: pass optimizer='hypll.RiemannianAdam', with last_axes= where another axis than the last is summed; "
            f"optimizer={fitting[0].name!r} would go on entry by entry"
        )
    found = fitting[0] if len(fitting) == 1 else _told_apart(fitting, section, flat, named, code)
    if named is not None and named != found.title:
        raise ValueError(
            f"the configuration's optimizer is {said}, the file's settings are those of {found.name}: correct the configuration, or pass "
            "optimizer="
        )
    return found


def _summed(section: Section) -> str | None:
    """A parameter whose second moment is the same along an axis, while its first is not, if all that could tell agree."""
    found = None
    for path, entry in section.everything.items():
        second, first = (entry.get(name) for name in ("exp_avg_sq", "exp_avg"))
        if second is None or first is None:
            continue
        second, first = np.asarray(second), np.asarray(first)
        if second.shape != first.shape or second.ndim < 2 or min(second.shape) < 2 or not second.any():
            continue
        if not any(summed_along(first, second, axis) for axis in range(second.ndim)):
            return None
        found = path
    return found


def summed_along(first: np.ndarray, second: np.ndarray, axis: int) -> bool:
    """Whether a second moment is that of squared norms along an axis: the same along it but for torch's rounding (`numbers.UNEVEN`), while
    the first moment's size is not.

    Its size, since the gradients of two classes' logits are opposite: their squares are equal entry by entry.
    """
    if not first.size or not all(np.isfinite(part).all() for (part,) in pieces(first)):
        return False
    room = 1e-3 * max(np.max(np.abs(part)) for (part,) in pieces(first))
    near = min(UNEVEN * float(jnp.finfo(second.dtype).eps), 1e-3)
    wide = np.result_type(second.dtype, np.float32)  # of complex points it is complex
    differs = False
    for part, start, own, once in pieces(first, _at_first(first, axis), second, _at_first(second, axis)):
        differs |= bool((np.abs(np.abs(part) - np.abs(start)) > room).any())
        repeated = once.astype(wide)
        if not (np.abs(own.astype(wide) - repeated) <= near * np.abs(repeated)).all():
            return False
    return differs and bool(second.any())


def _at_first(array: np.ndarray, axis: int) -> np.ndarray:
    """The first element along an axis, which stays with length 1."""
    place = [slice(None)] * array.ndim
    place[axis] = slice(0, 1)
    return array[tuple(place)]


def moves_points(groups: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the settings are those of a Riemannian optimizer, before anything is known about the parameters."""
    return any(kind.riemannian for kind in _fitting(groups))


def _fitting(groups: Sequence[Mapping[str, Any]], code: str | None = None) -> list[Kind]:
    """The kinds with the largest set of telling settings that the groups have; several if their settings are the same."""
    keys = {*(groups[0] if groups else ()), *("step" for group in groups if "step" in group)}
    sizes = {}
    for kind in KINDS.values():
        versions = [telling for telling in kind.telling if telling <= keys and not kind.lacking & keys]
        if versions and not (kind.sole and (code != kind.code or keys - _BESIDE not in versions)):
            sizes[kind] = max(map(len, versions))
    return [kind for kind, size in sizes.items() if size == max(sizes.values())]


def _fresh(fitting: Sequence[Kind], section: Section, named: str | None, code: str | None) -> Kind | None:
    """The kind of the model's code that the configuration names, if a state without numbers lacks nothing but the count to fit it."""
    if code is None or any(section.everything.values()) or not fitting or any(kind.riemannian for kind in fitting):
        return None
    begun = _fitting([{**section.groups[0], "step": 0}], code)
    return next((kind for kind in begun if kind.code == code and kind.title == named), None)


def _told_apart(fitting: Sequence[Kind], section: Section, flat: Sequence[str], named: str | None, code: str | None) -> Kind:
    """The right one of two kinds with the same settings, by the differences of their rows."""
    if len({kind.decoupled for kind in fitting}) > 1:
        return _by_decay(fitting, section, named)
    if len({kind.by_rows for kind in fitting}) > 1:
        return _by_rows(fitting, section, flat, code)
    return _by_turns(fitting, section, code)


def _by_decay(fitting: Sequence[Kind], section: Section, named: str | None) -> Kind:
    """torch's Adam or AdamW: the states of newer versions say which."""
    if any("decoupled_weight_decay" in group for group in section.groups):
        return next(kind for kind in fitting if kind.decoupled == bool(section.groups[0].get("decoupled_weight_decay")))
    if chosen := next((kind for kind in fitting if kind.title == named), None):
        return chosen
    if not any(plain(group["weight_decay"]) for group in section.groups):
        return next(kind for kind in fitting if not kind.decoupled)  # without decay the two are the same
    names = [kind.name for kind in fitting]
    raise ValueError(
        f"these settings are those of {' and of '.join(names)} in files of older torch: pass optimizer={' or '.join(map(repr, names))}"
    )


def _by_rows(fitting: Sequence[Kind], section: Section, flat: Sequence[str], code: str | None) -> Kind:
    """A count in the group and no `stabilize`: geoopt 0.1 or HGCN's copy, whose flat second moments are the same along each row."""
    entrywise, rowwise = sorted(fitting, key=lambda kind: kind.by_rows)
    seen_rows = seen_entries = False
    for path, entry in section.everything.items():
        if path in flat and (second := entry.get("exp_avg_sq")) is not None:
            rows = np.asarray(second)
            if rows.ndim and min(rows.shape) > 1:
                # torch's last axis may be either axis here: equal along rows, or along columns
                spread = [bool((rows != np.take(rows, [0], axis)).any()) for axis in range(rows.ndim)]
                seen_entries |= all(spread)
                seen_rows |= bool(rows.any()) and not all(spread)
    if seen_entries != seen_rows:
        return entrywise if seen_entries else rowwise
    if code == rowwise.code and not seen_entries:
        return rowwise
    raise ValueError(
        "this state is geoopt 0.1's or that of HGCN's own RiemannianAdam, which differ in the second moments of flat parameters, and "
        f"no number in it tells which: pass optimizer={entrywise.name!r} or {rowwise.name!r}"
    )


def _by_turns(fitting: Sequence[Kind], section: Section, code: str | None) -> Kind:
    """A count in the group and 0 beside parameters: geoopt until 0.3.1, twice per parameter, or fully-hyperbolic-nn, once per update."""
    single, double = sorted(fitting, key=lambda kind: Dialect.DOUBLE in kind.dialects)
    zero = [
        (integer(group["step"], "step"), 2 * sum(bool(e) for e in own.values()))
        for group, own in zip(section.groups, section.entries, strict=True)
        if "step" in group and any("step" in e for e in own.values())
    ]
    zero = [(total, turn) for total, turn in zero if total]
    if not zero or any(integer(e.get("step", 0), "step") for e in section.everything.values()):
        return double
    once = len({total for total, _ in zero}) == 1
    twice = all(total % turn == 0 for total, turn in zero) and len({total // turn for total, turn in zero}) == 1
    if once != twice:
        return single if once else double
    if not once:
        raise ValueError(f"the groups count {[total for total, _ in zero]} steps, which no known optimizer does: save them in one run")
    if code == single.code:
        return single
    raise ValueError(
        f"a count of {zero[0][0]} in the groups and 0 beside parameters is {zero[0][0]} steps of fully-hyperbolic-nn's RiemannianAdam or "
        f"{zero[0][0] // zero[0][1]} of geoopt's until 0.3.1, and no number in the state tells which: pass "
        f"optimizer={single.name!r} or {double.name!r}"
    )


def _checked(kind: Kind, section: Section) -> Kind:
    """Raises ValueError if a group lacks a setting that every state of the kind has."""
    for number, group in enumerate(section.groups):
        if "name" not in group and (missing := kind.missing(set(group))):
            raise ValueError(
                f"optimizer is {kind.name}, and param_groups[{number}] has no {', '.join(sorted(missing))}: the settings are those of "
                "another class"
            )
    return kind


def _title(name: str) -> str | None:
    """The class that a name in a configuration means: "radam" is a RiemannianAdam; None for an unknown one."""
    known = {word.lower(): kind.title for kind in KINDS.values() for word in (kind.title, *kind.aliases)}
    return known.get(name.rpartition(".")[2].lower())


def _unknown(section: Section) -> ValueError:
    keys = set(section.groups[0]) if section.groups else set()
    if cls := next((cls for cls, setting in _NO_KIND.items() if setting in keys), None):
        return Untranslated(f"the optimizer is torch's {cls}, which is not translated; known are {', '.join(KINDS)}")
    sole = [kind for kind in KINDS.values() if kind.sole and kind.telling[0] <= keys]
    few = [f"{kind.name!r} has no other setting than {', '.join(sorted(kind.telling[0]))}" for kind in sole]
    more = f" ({'; '.join(few)})" if "lr" in keys else ""
    said = f"an optimizer with the settings {sorted(keys - {'params'})} is not recognised; known are {', '.join(KINDS)}"
    rate = {kind: kind.required or kind.telling[0] for kind in KINDS.values() if not kind.missing(keys)}
    if any(len(least) > 1 or keys - _BESIDE <= least for least in rate.values()):
        return ValueError(f"{said}: pass optimizer={more}")
    return Untranslated(said)
