"""Stand-ins for a file's classes and functions: inert records that contain data and do nothing."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from weights.errors import Unreadable
from weights.files.tensors import Tensor


@dataclass(eq=False)
class Name:
    """A global that the file names and the reader does not know. `makes`: whether it is taken for a class, whose objects are records."""

    module: str
    name: str
    owner: Name | None = None
    makes: bool = False

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False)
class Known:
    """A global on the reader's list. `call(budget, ...)` builds data from plain arguments; `new` makes an empty instance."""

    module: str
    name: str
    call: Callable[..., object] | None = None
    new: Callable[..., object] | None = None

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False)
class Record:
    """An object of the file: the name of its class and its attributes."""

    cls: Name | Known
    args: tuple = ()
    state: object = None
    items: dict = field(default_factory=dict)
    called: bool = False
    """Whether the file makes it by calling its class (REDUCE) rather than by __new__ (NEWOBJ)."""
    listed: list = field(default_factory=list)
    """What the file appends to it."""

    @property
    def name(self) -> str:
        """The full name of its class."""
        return str(self.cls)

    @property
    def attributes(self) -> dict:
        """Its attributes as the pickle sets them, without those in slots; empty where the state is not a dictionary."""
        if isinstance(self.state, tuple) and len(self.state) == 2 and isinstance(self.state[0], dict):
            return self.state[0]
        return self.state if isinstance(self.state, dict) else {}

    @property
    def is_module(self) -> bool:
        """Whether this was a torch.nn.Module."""
        return isinstance(self.attributes.get("_parameters"), dict) and isinstance(self.attributes.get("_modules"), dict)


class Buildable:
    """A stand-in that takes its state from the pickle by its own rules."""

    def build(self, state: object) -> None:
        """Takes over the pickled state; ValueError or Refused for a state that is not of its kind."""
        raise NotImplementedError


class Size(tuple):
    """A torch.Size."""


class Counts(dict):
    """A collections.Counter."""


class DefaultDict(dict):
    """A collections.defaultdict, its factory kept for writing."""

    def __init__(self, factory: object = None, items: Iterable = ()):
        super().__init__(items)
        self.factory = factory


def named_tensors(module: Record, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """The entries of a module's state_dict, in torch's order: parameters, persistent buffers, then the children's."""
    if depth > 100:
        raise Unreadable(f"modules nest deeper than 100 at {prefix!r}", "The file is damaged")
    attributes = module.attributes
    transient = attributes.get("_non_persistent_buffers_set") or ()
    buffers = attributes.get("_buffers") or {}
    for name, value in (attributes["_parameters"] or {}).items():
        if isinstance(value := unwrapped(value), Tensor):
            yield f"{prefix}{name}", value
    for name, value in buffers.items():
        if isinstance(value, Tensor) and name not in transient:
            value.kind = "buffer"
            yield f"{prefix}{name}", value
    for name, child in attributes["_modules"].items():
        if isinstance(child, Record) and child.is_module:
            yield from named_tensors(child, f"{prefix}{name}.", depth + 1)


def unwrapped(value: object) -> object:
    """The tensor inside a HypLL ManifoldTensor or ManifoldParameter; anything else unchanged."""
    if isinstance(value, Record) and value.name.startswith("hypll.tensors.") and isinstance(value.attributes.get("tensor"), Tensor):
        inner = value.attributes["tensor"]
        inner.manifold, inner.kind = value.attributes.get("manifold"), "manifold"
        return inner
    return value


def state_dict(module: Record) -> OrderedDict[str, Tensor]:
    """A whole module's state_dict."""
    return OrderedDict(named_tensors(module))


def kind(value: object) -> str:
    """The name of an object's type, for messages."""
    return type(value).__name__


__all__ = [
    "Buildable",
    "Counts",
    "DefaultDict",
    "Known",
    "Name",
    "Record",
    "Size",
    "kind",
    "named_tensors",
    "state_dict",
    "unwrapped",
]
