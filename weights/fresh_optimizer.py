"""A checkpoint of a file without an optimizer, with the one of the run that began with it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from weights import from_jax
from weights.contents import Contents
from weights.errors import Usage
from weights.files.reader import read
from weights.files.sections import split_again
from weights.mapping.conversion import Converted
from weights.mapping.entries import Entry
from weights.mapping.report import accounted
from weights.models import ARCHITECTURES
from weights.optim.resume import Asked, resumed
from weights.types import Config

C = TypeVar("C", bound=Contents)
MODEL, PLACE = "model", "optimizer"


def made_with(contents: C, optimizer: Config) -> C:
    """The contents with a fresh optimizer, "name" and arguments, over all trained parameters in the file's order, in one group.

    Its section stands under "optimizer" in the file that is exported; a file that is a state_dict itself then stands under "model".
    Needs torch and geoopt. Raises Usage where the file has an optimizer already, and for one that there is not.
    """
    source, parts = contents.source, split_again(contents.source)
    if contents.plans or parts.optimizers:
        said = "and its conversion goes on with it" if contents.plans else "which its conversion left out"
        raise Usage(
            f"the file has an optimizer ({', '.join(each.place for each in parts.optimizers)}), {said}",
            "Omit --made-with" if contents.plans else "Give the torch file itself with --like, and omit --made-with",
        )
    wrapped = source.model_at == ()
    old = {MODEL: source.root} if wrapped else source.root
    if not isinstance(old, dict) or PLACE in old:
        raise Usage(f"the file has no place for {PLACE!r}", "Save a dictionary of sections without one of that name, and convert it again")
    section = _section([entry for entry in contents.entries if entry.role == "parameter"], optimizer)
    source = replace(source, root={**old, PLACE: section}, model_at=(MODEL,) if wrapped else source.model_at, optimizer_at=(PLACE,))
    parts, table = split_again(source), ARCHITECTURES.get(contents.arch)
    found = Converted(table=table, parts=parts, settings=contents.settings, model=contents.model, entries=contents.entries,
                      variables=contents.variables, constants=contents.constants, manifolds=contents.manifolds,
                      report=contents.report)  # fmt: skip
    made = resumed(found, contents.config, Asked(groups=None, name=str(optimizer[from_jax.NAME]), updates_per_step=None))
    begins = table.beginnings(source) if table else {}
    report = {**contents.report, **made.reported, **accounted(parts, made.reports, "", begins)}
    return replace(contents, optimizer=made.transformation, opt_state=made.state, plans=made.plans, source=source, report=report)


def _section(entries: Sequence[Entry], optimizer: Config) -> Any:
    """What the class's `state_dict()` is before its first step, as the reader gives it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "fresh.pth")
        from_jax.write_fresh(path, [(entry.shape, entry.dtype) for entry in entries], optimizer)
        root: Any = read(path).root
        return root[PLACE]


__all__ = ["made_with"]
