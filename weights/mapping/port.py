"""What the converter knows of a model: a `Port`, as each table of `weights/models` is one and as a person writes one for their own."""

from __future__ import annotations

import copy
import functools
import inspect
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from weights.errors import Usage
from weights.files.sections import Sections
from weights.files.source import Source
from weights.files.tensors import Tensor
from weights.mapping.code_places import written
from weights.mapping.node_embeddings import ENCODED, NodeEmbeddings
from weights.mapping.probes import Argument, Call, Edges, Inputs, Outputs, Probe, for_jax
from weights.mapping.rules import Module, Rule
from weights.mapping.settings import Settings
from weights.types import Config, Hyperparameters, Model, Params, TorchModule, Variables

TREE = "tree"
"""The name for files of no known architecture: the parameters become a tree, nested as the keys are."""


@dataclass(frozen=True)
class Found:
    """The model in a file, as a port sees it."""

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
class Functions:
    """A model of functions in the place of a flax module. forward: forward(variables, *inputs). start: start(key, *inputs) gives fresh
    variables, whose paths and shapes the file has to fit; without it any are taken as the rules place them.
    """

    forward: Callable[..., Any]
    start: Callable[..., Variables] | None = None

    def init(self, key: Any, *inputs: Argument) -> Variables:
        """Fresh variables; Usage where there is no function for them."""
        if self.start is None:
            raise Usage("the port's functions have no start", "Give Functions(forward, start), where start(key, *inputs) gives variables")
        return self.start(key, *inputs)

    def apply(self, variables: Variables, *inputs: Argument, method: str = "__call__") -> Any:
        """What `forward` computes; `method` is there because flax has it, and has to be "__call__"."""
        if method != "__call__":
            raise Usage(f"a model of functions has no method {method!r}", "Give a flax module, or call_jax= to the port")
        return self.forward(variables, *inputs)


@dataclass(frozen=True)
class Port:
    """A model in torch and in JAX, and what leads from one to the other. The smallest one is a flax module, a few rules and an input.

    model: the flax module, or `Functions`. rules: what becomes of the file's keys, see `weights.mapping.rules`; keys of standard modules
    (Linear, BatchNorm, ...) need none where the flax module has their names. inputs: what the model is called with: an array, a tuple of
    them, or a dict by name; shapes follow from it, and both sides are compared on it. name: what messages and reports call the port.
    torch: the torch module, its class, or a function that makes it; `verify` loads the file into it. call_torch, call_jax: how to call
    the two where `module(*inputs)` and `model.apply(variables, *inputs)` are not it: call_torch(module, *inputs) and
    call_jax(model, variables, *inputs); an array, a tuple of arrays or a dict of them. train: the keyword arguments with which the flax
    module is called in training, {"train": True} for example (call_jax is then given them, mutable= and rngs=, as `apply` takes them); with
    it `verify` compares training too. manifolds: by the paths below "params", or the
    beginnings of paths, where parameters lie; or a function from the parameters to that; all others are flat. Without it the flax
    module's own `manifolds`.

    settle: for a family of models, puts every hyper-parameter into `settings` by its three methods. With it `model`, `rules`, `inputs` and
    `torch` may be functions of the settings, and classes are given them by name; without it functions and classes take no arguments, and
    each rule has to fit a key.

    recognise: whether these keys (and configuration) are this model's: for the architectures, among which the converter chooses.
    groups: the parameters' keys as the training code hands them to the optimizer, a list for each group; None: one group in the
    state_dict's order. Only needed where the code makes several groups, or several optimizers, whose groups then follow one another.
    optimizer: what the configuration says of the optimizer: its name,
    or a mapping that has its "name"; None if it says nothing. probe: what `verify` runs both sides on, and which outputs it compares, where
    that is more than `inputs`. code: the name of its code base, if that has optimizers of its own, which may have written the files.
    nodes: where the embeddings of its nodes are. moves: whether one of a file's optimizers, by its section, moves
    parameters of the model; None: all do. confine: confine(model, params) puts parameters within their bounds, where the forward pass of
    the original does that in place; the optimizer of a file then steps from there. in_training: the settings on
    which no output depends, so that outputs do not confirm them. collected: what an export of a run does with the collections of its
    state that are no variables of the model: collected(source, collections) gives the file's objects with their numbers, and the names of
    those that have a place there; None: a run with such collections is refused. begins: what a run that goes
    on from a file begins with beside variables and optimizers: begins(source) gives, by places in the file, what the report says of it;
    None: nothing. at: the place where the port is written, for messages.
    """

    model: Any
    rules: Any = ()
    inputs: Any = ()
    name: str = ""
    torch: Any = None
    call_torch: Callable[..., Any] | None = None
    call_jax: Callable[..., Any] | None = None
    train: Mapping[str, Any] | None = None
    manifolds: Any = None
    settle: Callable[[Found, Settings], None] | None = None
    recognise: Callable[[Found], bool] | None = None
    groups: Callable[[Hyperparameters, Sequence[str]], list[list[str]]] | None = None
    optimizer: Callable[[Config], object] = lambda config: config.get("optimizer")
    probe: Probe | None = None
    code: str | None = None
    nodes: NodeEmbeddings = ENCODED
    moves: Callable[[Mapping], bool] | None = None
    confine: Callable[[Model, Params], Params] | None = None
    in_training: Sequence[str] = ()
    collected: Callable[[Source, Mapping[str, Any]], tuple[Source, Collection[str]]] | None = None
    begins: Callable[[Source], Mapping[str, str]] | None = None
    at: str = field(default="", compare=False, repr=False)

    def __post_init__(self) -> None:
        if not self.at:
            object.__setattr__(self, "at", written())
        if not self.name:
            made = self.model if isinstance(self.model, type) else type(self.model)
            object.__setattr__(self, "name", "port" if inspect.isroutine(self.model) else made.__name__)

    def build(self, settings: Hyperparameters) -> Model:
        """The model of JAX."""
        return self._made(self.model, settings)

    def rules_of(self, settings: Hyperparameters) -> list[Rule | Module]:
        """The table, for these settings. Paths begin with the collection: "params/...". Usage for what is no rule."""
        found: list[Rule | Module] = []
        for rule in self._made(self.rules, settings):
            listed = rule if isinstance(rule, (tuple, list)) else [rule]
            if wrong := [one for one in listed if not isinstance(one, (Rule, Module))]:
                raise Usage(f"{self.at}: the rules of {self.name} contain {wrong[0]!r:.80}", "Make it by param, buffer, constant, ...")
            found += listed
        return found

    def arguments(self, settings: Hyperparameters) -> Inputs:
        """The inputs by name, as numpy arrays and `Edges`."""
        given = self._made(self.inputs, settings)
        if isinstance(given, Mapping):
            return {str(name): _array(value) for name, value in given.items()}
        several = given if isinstance(given, (tuple, list)) else [given]
        names = ["input"] if len(several) == 1 else [f"input{n}" for n in range(len(several))]
        return dict(zip(names, map(_array, several)))

    def example(self, settings: Hyperparameters) -> tuple:
        """The arguments of `init`, from which the variables' shapes follow."""
        given = self._made(self.inputs, settings)
        if self.probe is not None and isinstance(given, tuple):
            return given
        return tuple(for_jax(value, None) for value in self.arguments(settings).values())

    def reference(self, settings: Hyperparameters) -> TorchModule:
        """The torch module; a copy of it, where the port has one that is made already."""
        made = self._made(self.torch, settings)
        return copy.deepcopy(made) if made is self.torch else made

    def parts_of(self, parts: Sections) -> Sections:
        """A file's parts without the optimizers that move nothing of the model, which stand apart."""
        if self.moves is None:
            return parts
        moving = {own.at: own for own in parts.optimizers if self.moves(own.raw)}
        return replace(parts, optimizers=tuple(moving.values()), apart=tuple(own.at for own in parts.optimizers if own.at not in moving))

    def beginnings(self, source: Source) -> Mapping[str, str]:
        """`begins` of a file's objects; empty without it."""
        return {} if self.begins is None else self.begins(source)

    def confining(self, model: Model | None) -> Callable[[Params], Params] | None:
        """`confine` as a function of the parameters."""
        return None if self.confine is None or model is None else functools.partial(self.confine, model)

    @property
    def own(self) -> bool:
        """Whether it is a person's own, which is given by itself and never recognised by a file's keys."""
        return self.recognise is None

    @cached_property
    def compared(self) -> Probe:
        """What both sides are compared on: the probe, else the whole model on its inputs."""
        if self.probe is not None:
            return self.probe

        def outputs(settings: Hyperparameters, call: Call, given: Inputs) -> Outputs:
            found = call("__call__", *[given[name] for name in self.arguments(settings)])  # jax sorts the names of a dict
            return dict(found) if isinstance(found, Mapping) else {"output": found}

        return Probe(lambda settings, draw: self.arguments(settings), outputs)

    def _made(self, value: Any, settings: Hyperparameters) -> Any:
        if isinstance(value, type):
            return value(**settings)
        if inspect.isroutine(value) or isinstance(value, functools.partial):
            return value() if self.settle is None else value(settings)
        return value


def _array(value: Any) -> Any:
    return value if value is None or isinstance(value, (Edges, Mapping)) else np.asarray(value)


__all__ = ["TREE", "Found", "Functions", "Port"]
