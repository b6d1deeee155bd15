"""Rules that nobody has to write: standard modules of torch, and variables that have their tensor's name and shape.

A key is looked for below the flax module that has the torch module's path. `layers.0` may be `layers_0`, `layers/0` or, in nn.Sequential,
`layers/layers_0` there. What its tensors become follows from the class of the flax module, never from shapes alone:

| torch | flax | tensors |
| --- | --- | --- |
| Linear | nn.Dense, and a `kernel` of `port_jax.layers` | weight [out, in] -> kernel [in, out], bias |
| Conv1d, 2d, 3d | nn.Conv | weight [out, in, *k] -> kernel [*k, in, out], bias |
| BatchNorm1d, 2d, 3d | nn.BatchNorm | weight -> scale, bias; running_mean and running_var -> batch_stats/mean and var |
| LayerNorm, GroupNorm, RMSNorm | nn.LayerNorm, nn.GroupNorm, nn.RMSNorm | weight -> scale, bias |
| Embedding | nn.Embed | weight -> embedding |
| HypLL's HLinear | a `kernel` of `port_jax.layers` | z [in, out] -> kernel as it is, bias |
| HypLL's HConvolution2d | a `kernel` of `port_jax.layers` | weights [in *k, out] -> kernel [*k, in, out], bias |
| any parameter or buffer, also in a ParameterList or ParameterDict | a variable of the same name and shape | as it is |

The last row includes points of manifolds, and `port_jax.layers.MultiheadAttention`, `LSTM` and `GRU`, whose parameters are torch's.
`num_batches_tracked` is a constant: flax counts no batches. A further name of a tensor that has a place is tied to the first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from weights.errors import Unmatched
from weights.files.tensors import Tensor
from weights.mapping.rules import IDENTITY, SCALAR, TRANSPOSE, Layout, Module, Rule, fill, matching, permute, unfolded

AT = "a standard rule"
COUNT = "num_batches_tracked"
NORM = {"weight": ("params", "scale"), "bias": ("params", "bias")}
MAPS = {"weight": ("params", "kernel"), "bias": ("params", "bias")}
KINDS: dict[str, dict[str, tuple[str, str]]] = {
    "Dense": MAPS,
    "Conv": MAPS,
    "BatchNorm": {**NORM, "running_mean": ("batch_stats", "mean"), "running_var": ("batch_stats", "var")},
    "LayerNorm": NORM,
    "GroupNorm": NORM,
    "RMSNorm": NORM,
    "Embed": {"weight": ("params", "embedding")},
}
"""By the class of flax: torch's names, and the collection and name that they have there."""


@dataclass(frozen=True)
class Target:
    """The variables of a flax module by path, with their shapes, and the classes of its modules by path below a collection."""

    shapes: Mapping[str, tuple[int, ...]]
    classes: Mapping[str, type]


def completed(rules: Sequence[Rule | Module], shapes: Mapping[str, tuple[int, ...]], target: Target | None,
              tensors: Mapping[str, Tensor] | None = None) -> list[Rule]:  # fmt: skip
    """The rules, and standard ones for the keys that fit none. shapes: of all keys. tensors: the same, where further names of one tensor
    are to be tied to the first.

    Raises Unmatched for a key that has several places.
    """
    written = [rule for rule in rules if isinstance(rule, Rule)]
    found = {key: matching(written, key) for key in shapes}
    left = [key for key, fitting in found.items() if not fitting]
    if not left or target is None:
        return written
    taken = {fill(rule.path, values) for fitting in found.values() for rule, values in fitting if rule.path}
    open_ = {path: shape for path, shape in target.shapes.items() if path not in taken}
    modules = [rule for rule in rules if isinstance(rule, Module)]
    made: dict[str, Rule] = {}
    for key in left:
        if (rule := _rule(key, shapes[key], modules, open_, target.classes)) is not None:
            made[key] = rule
    for key in left:
        stem, _, name = key.rpartition(".")
        if name == COUNT and f"{stem}.running_mean" in made:
            made[key] = Rule(key, at=AT)
        elif key not in made and tensors is not None and (first := _first(key, tensors, made, found)):
            made[key] = Rule(key, tied=first, at=AT)
    return [*written, *made.values()]


def _rule(key: str, shape: tuple[int, ...], modules: Sequence[Module], open_: Mapping[str, tuple[int, ...]],
          classes: Mapping[str, type]) -> Rule | None:  # fmt: skip
    """The rule of a key; None where no variable is its place. Unmatched where several are."""
    base, rest, at = "", key, AT
    for rule in sorted(modules, key=lambda rule: -len(rule.key)):
        if (matched := rule.match(key)) is not None:
            base, rest, at = *matched, rule.at
            break
    *stem, name = rest.split(".")
    whole, inside = _aligned(base, [*stem, name]), _aligned(base, stem)
    found: dict[str, Layout] = {}
    for path, want in open_.items():
        collection, _, below = path.partition("/")
        above, _, last = below.rpartition("/")
        kind = _kind(classes.get(above))
        if kind is None and whole.fullmatch(below) and _fits(shape, want):
            found[path] = IDENTITY if shape == want else SCALAR
        elif kind is None and last == "kernel" and _ours(classes.get(above)) and (layout := _kernel(name, shape, want)) is not None:
            if inside.fullmatch(above):
                found[path] = layout
        elif kind is not None and inside.fullmatch(above) and KINDS[kind].get(name) == (collection, last):
            found[path] = _layout(last, len(shape))
    if len(found) > 1:
        raise Unmatched(
            f"the key {key!r} could become {' or '.join(found)}", f"Write a rule: param({key!r}, {next(iter(found))!r}), for example"
        )
    return next((Rule(key, path, layout, at=at) for path, layout in found.items()), None)


def _kernel(name: str, shape: tuple[int, ...], want: tuple[int, ...]) -> Layout | None:
    """How a tensor of this name becomes the `kernel` of a layer of port_jax; None where it does not."""
    if name == "weight" and len(shape) == 2:
        return TRANSPOSE
    if name == "z" and shape == want:
        return IDENTITY
    windows = name == "weights" and len(want) == 4 and shape == (want[0] * want[1] * want[2], want[3])
    return unfolded(*want[:2]) if windows else None


def _layout(name: str, axes: int) -> Layout:
    if name != "kernel":
        return IDENTITY
    return TRANSPOSE if axes == 2 else permute(*range(2, axes), 1, 0)


def _aligned(base: str, parts: Sequence[str]) -> re.Pattern[str]:
    """The paths that a torch path may have in flax, below `base`."""
    pattern = re.escape(base)
    for part in parts:
        between = "(?:/|_|/layers_)" if part.isdecimal() else "(?:/|_)"
        first = "(?:layers_)?" if part.isdecimal() else ""
        pattern += (between if pattern else first) + re.escape(part)
    return re.compile(pattern)


def _kind(cls: type | None) -> str | None:
    """The standard class of flax that a module's class is, or is derived from."""
    return next((c.__name__ for c in (cls.__mro__ if cls else ()) if c.__name__ in KINDS and c.__module__.startswith("flax.linen")), None)


def _ours(cls: type | None) -> bool:
    return cls is not None and cls.__module__.startswith("port_jax.")


def _fits(shape: tuple[int, ...], want: tuple[int, ...]) -> bool:
    return shape == want or (want == () and all(n == 1 for n in shape))


def _first(key: str, tensors: Mapping[str, Tensor], made: Mapping[str, Rule], found: Mapping[str, list]) -> str | None:
    """Another key of the same tensor, which has a place of its own."""
    place = tensors[key].place
    others = (at for at, tensor in tensors.items() if at != key and tensor.place == place)
    return next((at for at in others if (at in made and made[at].path) or any(rule.path for rule, _ in found.get(at, ()))), None)


__all__ = ["AT", "KINDS", "Target", "completed"]
