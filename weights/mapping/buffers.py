"""What a rule must not make of a key: a parameter of a buffer, and a constant of another curvature."""

from __future__ import annotations

import re

from weights.files.tensors import Tensor
from weights.mapping.curvature_settings import ROUNDING, from_raw
from weights.mapping.entries import Entry
from weights.mapping.rules import Rule

STATISTICS = re.compile(r"(?:.*\.)?(running_mean|running_var|num_batches_tracked)")


def problems(entry: Entry, tensor: Tensor, rule: Rule) -> list[tuple[str, str]]:
    """Causes and remedies: a buffer that a rule makes a parameter, and a curvature other than the rule's."""
    if entry.role == "parameter" and (tensor.kind == "buffer" or STATISTICS.fullmatch(entry.key)):
        name = entry.key.rpartition(".")[2]
        where = entry.path.removeprefix("params/") if entry.path else ""
        what = f"constant({entry.key!r})" if name == "num_batches_tracked" else f"buffer({entry.key!r}, 'batch_stats/{where}')"
        return [(f"the key {entry.key!r} is a buffer, and the rule makes it the parameter {entry.path} ({rule.at})", f"Write {what}")]
    if rule.curvature is None:
        return []
    if tensor.numel != 1:
        return [(f"the key {entry.key!r} has shape {tensor.shape}, and the rule takes it for a curvature ({rule.at})", "Write constant")]
    value = from_raw(entry.key.rpartition(".")[2], float(tensor.array().reshape(-1)[0]))
    if abs(value - rule.curvature) <= ROUNDING * (1 + abs(rule.curvature)):
        return []
    return [(f"the key {entry.key!r} gives curvature {value:.9g}, and the rule {rule.curvature:.9g} ({rule.at})",
             f"Correct the rule, and the curvature in the flax module: c={value:.7g}")]  # fmt: skip


__all__ = ["problems"]
