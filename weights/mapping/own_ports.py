"""What may be wrong with a port that a person has written: each problem with its place in the code and what to write instead."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence

from weights.files.tensors import Tensor
from weights.mapping import foreign
from weights.mapping.curvature_settings import from_raw
from weights.mapping.rules import Rule

RAW = ("isp_c", "isp_k", "k", "c")


def problems(unused: Sequence[Rule], unexpected: Sequence[str], absent: Mapping[str, tuple[int, ...]], tensors: Mapping[str, Tensor],
             at: str) -> list[tuple[str, str]]:  # fmt: skip
    """Causes and remedies: rules that fit no key, keys that fit no rule, and variables that nothing fills. at: the port's place."""
    found: list[tuple[str, str]] = []
    if (written := foreign.remedy(unexpected)) is not None:
        keys, call = written
        found.append((f"the keys {foreign.some(keys)} stand in the place of a tensor", f"Save the model after {call}"))
    for rule in unused:
        near = _near(rule.key, [*unexpected, *tensors])
        found.append((f"the rule {rule.key!r} fits no key of the file ({rule.at})",
                      f"The nearest key is {near!r}: correct the rule, remove it, or say Rule(..., optional=True)"))  # fmt: skip
    for key in unexpected:
        found.append((f"the key {key!r} of shape {tensors[key].shape} fits no rule, and no variable has its name ({at})",
                      _rule_for(key, tensors[key], absent)))  # fmt: skip
    for path, shape in sorted(absent.items()):
        near = _near(path.partition("/")[2].replace("/", "."), unexpected or list(tensors))
        found.append((f"no key fills the variable {path} of shape {shape} ({at})",
                      f"Write a rule for it: param({near!r}, {path!r}), for example, or leave it out of the flax module"))  # fmt: skip
    return found


def _rule_for(key: str, tensor: Tensor, absent: Collection[str]) -> str:
    """What a person may write for a key."""
    *_, name = key.split(".")
    if tensor.numel == 1 and name in RAW:
        c = from_raw(name, float(tensor.array().reshape(-1)[0]))
        made = {"isp_c": "PoincareBall.from_raw", "isp_k": "SphereProjection.from_raw", "k": "Lorentz"}.get(name, "PoincareBall")
        trained = f"curvature({key!r}, 'params/...') and manifolds=lambda params: {{'point': {made}(params[...])}} if it is trained"
        return f"Write curvature({key!r}, c={c:.7g}) if it is fixed, or {trained}"
    path = _near(key.replace(".", "/"), absent) if absent else "params/..."
    return f"Write param({key!r}, {path!r}), or constant({key!r}) if the flax module does not have it"


def _near(name: str, names: Collection[str]) -> str:
    return (difflib.get_close_matches(name, names, 1, 0) or ["..."])[0]


__all__ = ["problems"]
