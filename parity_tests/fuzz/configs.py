"""Configurations: JSON files and mappings with keys and values that no training script has written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from parity_tests.fuzz import seeds, texts
from parity_tests.fuzz.draw import Random, below, chance, one_of, plain
from parity_tests.fuzz.trial import Case

KEYS = (
    "c",
    "curvature",
    "dim",
    "num_layers",
    "act",
    "dropout",
    "bias",
    "task",
    "manifold",
    "model",
    "n_classes",
    "optimizer",
    "lr",
    "r",
    "t",
    "use_feats",
    "local_agg",
    "normalize_adj",
)


def case(random: Random, source: Path, folder: Path) -> Case:
    """A model of ours with another configuration, in a file or as a mapping."""
    name = one_of(random, seeds.MODELS)
    model = seeds.copied(source / f"{name}.pth", folder)
    config = json.loads((source / f"{name}.json").read_text())
    given: dict[str, Any] = {"config": folder / "config.json", "arch": name} if chance(random, 0.8) else {"config": folder / "config.json"}
    if chance(random, 0.1):
        given["config"].write_text(texts.respelled(random, config))
        given["arch"] = name
        return Case(model, f"{name}: the configuration in another spelling", given, same=seeds.arrays(source / f"{name}.pth"), must=True)
    if chance(random, 0.3):
        given["config"] = mapping = dict(config)
        for _ in range(1 + below(random, 2)):
            mapping[one_of(random, [*mapping, *KEYS])] = _python(random)
        return Case(model, f"{name}: {mapping!r:.300}", given)
    if chance(random, 0.3):
        said = {one_of(random, (*config, *KEYS)): plain(random, 2)}
        pairs = texts.paired({**config, **said})
    else:
        pairs, said = texts.changed(random, texts.paired(config), 1 + below(random, 2))
    text, twice = texts.written(pairs), texts.repeats(pairs)
    if chance(random, 0.1):
        at = below(random, len(text))
        text = text[:at] + one_of(random, texts.RAW) + text[at + below(random, 3) :]
        twice = False  # if it is JSON at all
    given["config"].write_text(text, encoding="utf-8", errors="surrogatepass")
    return Case(model, f"{name}: {said!s:.300}", given, twice=twice)


def _python(random: Random) -> Any:
    """What a mapping may have that JSON does not."""
    deep: list = []
    deep.append(deep)
    odd = (
        np.float32(0.5),
        np.float64("nan"),
        np.arange(3),
        np.array(2),
        b"x",
        {1, 2},
        (1, 2),
        1j,
        object(),
        deep,
        np.int64(3),
        [np.nan],
        int,
        print,
    )
    return one_of(random, odd) if chance(random, 0.5) else plain(random)
