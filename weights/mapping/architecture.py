"""What the converter knows of an architecture: all of it stands in one table of `weights/models`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from weights.files.tensors import Tensor
from weights.mapping.node_embeddings import ENCODED, NodeEmbeddings
from weights.mapping.probes import Probe
from weights.mapping.rules import Rule
from weights.mapping.settings import Settings
from weights.types import Config, Hyperparameters, Model, TorchModule

TREE = "tree"
"""The name for files of no known architecture: the parameters become a tree, nested as the keys are."""


@dataclass(frozen=True)
class Found:
    """The model in a file, as an architecture sees it."""

    tensors: Mapping[str, Tensor]
    config: Config

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes by key, in the file's order."""
        return {key: tensor.shape for key, tensor in self.tensors.items()}

    def value(self, key: str) -> np.ndarray:
        """A tensor's elements; for the small ones that settings are read from."""
        return self.tensors[key].array()

    def has(self, pattern: str) -> bool:
        """Whether a key matches a regular expression from end to end."""
        return any(re.fullmatch(pattern, key) for key in self.tensors)

    def raw(self, pattern: str) -> dict[str, np.ndarray]:
        """The tensors whose keys match, in the file's order."""
        return {key: self.value(key) for key in self.tensors if re.fullmatch(pattern, key)}

    def count(self, pattern: str) -> int:
        """How many numbers the first group of a regular expression takes: layers, heads."""
        return len({found.group(1) for key in self.tensors if (found := re.fullmatch(pattern, key))})


@dataclass(frozen=True)
class Architecture:
    """One table file of `weights/models`.

    recognise: whether these keys (and configuration) are this architecture's.
    settle: puts every hyper-parameter into `settings` by its three methods; the names are `build`'s.
    rules: the table, for these settings. Paths begin with the collection: "params/...".
    build: the flax module, or None for a plain tree.
    inputs: arguments of `init` from which the variables' shapes follow.
    groups: the parameters' keys as the training code hands them to the optimizer, a list for each group; None: one
        group in the state_dict's order. Only needed where the authors' code makes several groups.
    optimizer: what the configuration says of the optimizer: its name, or a mapping that has its "name"; None if it says nothing.
    reference: makes the torch module from the settings, importing reference_torch when called; `verify` loads the file
        into it.
    probe: what `verify` runs that module and the flax one on, and which of their outputs it compares.
    code: the name of its code base, if that has optimizers of its own, which may have written the files.
    nodes: where the embeddings of its nodes are.
    """

    name: str
    recognise: Callable[[Found], bool]
    settle: Callable[[Found, Settings], None]
    rules: Callable[[Hyperparameters], Sequence[Rule]]
    build: Callable[[Hyperparameters], Model]
    inputs: Callable[[Hyperparameters], tuple]
    groups: Callable[[Hyperparameters, Sequence[str]], list[list[str]]] | None = None
    optimizer: Callable[[Config], object] = lambda config: config.get("optimizer")
    reference: Callable[[Hyperparameters], TorchModule] | None = None
    probe: Probe | None = None
    code: str | None = None
    nodes: NodeEmbeddings = ENCODED


__all__ = ["TREE", "Architecture", "Found"]
