"""The parts of an architecture's table: rules from torch keys to flax paths, and layout operations that run both ways."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from weights.mapping.code_places import written

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """A change of layout as a pair: `forward` from torch to flax, `inverse` back to an array of torch's shape.

    It permutes elements and never computes with them, so that moments of an optimizer take the same operation.
    """

    name: str
    forward: Callable[[np.ndarray], np.ndarray]
    inverse: Callable[[np.ndarray, Shape], np.ndarray]


IDENTITY = Layout("as it is", lambda a: a, lambda a, shape: a)
TRANSPOSE = Layout("transposed", np.transpose, lambda a, shape: np.transpose(a))
SCALAR = Layout("one number without axes", lambda a: a.reshape(()) if a.size == 1 else a, lambda a, shape: a.reshape(shape))


def _together(a: np.ndarray, shape: Shape) -> np.ndarray:
    """Complex numbers of pairs; of other types than floating-point ones, whose shape alone matters, the first of each pair."""
    if a.shape != (*shape, 2):
        raise ValueError(f"no pairs of {shape}")
    found = np.ascontiguousarray(a)
    return (found.view(np.result_type(a.dtype, np.complex64)) if a.dtype.kind == "f" else found[..., :1]).reshape(shape)


PAIRS = Layout("complex numbers as pairs of real ones", lambda a: np.stack([np.real(a), np.imag(a)], -1), _together)


def permute(*axes: int) -> Layout:
    """Axes in another order, given as for numpy.transpose."""
    back = tuple(int(i) for i in np.argsort(axes))
    return Layout(
        f"axes {axes}",
        lambda a: np.transpose(a, axes) if a.ndim == len(axes) else a,
        lambda a, shape: np.transpose(a, back),
    )


def reshape(*shape: int) -> Layout:
    """The same elements, in the same order, in another shape; -1 for the axis that follows from the rest."""

    def forward(a: np.ndarray) -> np.ndarray:
        try:
            return a.reshape(shape)
        except ValueError:
            return a

    return Layout(f"in shape {shape}", forward, lambda a, torch: a.reshape(torch))


def unfolded(rows: int, columns: int) -> Layout:
    """HypLL's kernel of a convolution [in rows columns, out] as [rows, columns, in, out]."""

    def forward(a: np.ndarray) -> np.ndarray:
        area = rows * columns
        return a.reshape(-1, rows, columns, a.shape[1]).transpose(1, 2, 0, 3) if a.ndim == 2 and a.shape[0] % area == 0 else a

    return Layout(f"windows of {rows} x {columns}", forward, lambda a, shape: a.transpose(2, 0, 1, 3).reshape(shape))


def chain(*operations: Layout) -> Layout:
    """Operations one after the other; all but the last must keep what the inverse needs (no reshape before the end)."""

    def forward(a: np.ndarray) -> np.ndarray:
        for operation in operations:
            a = operation.forward(a)
        return a

    def inverse(a: np.ndarray, shape: Shape) -> np.ndarray:
        for operation in reversed(operations):
            a = operation.inverse(a, shape)
        return a

    return Layout(", ".join(o.name for o in operations), forward, inverse)


@dataclass(frozen=True)
class Rule:
    """What becomes of the keys that match `key`.

    `{i}` in a pattern stands for digits, `{i:any}` for anything without a dot, `{i:deep}` for anything at all; the same
    names in `path` and `tied` take what they matched. Exactly one of: `path`, a slash-separated flax path, which begins with its
    collection; `tied`, the key that this one repeats bit by bit; neither, a constant, carried verbatim.

    curvature: the curvature that a constant of this name stands for, which the file's has to be. optional: whether it may fit no key.
    at: the place in the code where it is written.
    """

    key: str
    path: str | None = None
    layout: Layout = IDENTITY
    tied: str | None = None
    optional: bool = False
    curvature: float | None = None
    at: str = field(default="", compare=False, repr=False)

    def __post_init__(self) -> None:
        if not self.at:
            object.__setattr__(self, "at", written())

    def match(self, key: str) -> dict[str, str] | None:
        """What the placeholders stand for if the key fits, else None."""
        found = _pattern(self.key).fullmatch(key)
        return found.groupdict() if found else None

    def key_for(self, path: str) -> str | None:
        """The key that this rule would turn into `path`, if it could."""
        if self.path is None:
            return None
        found = _pattern(self.path).fullmatch(path)
        return fill(self.key, found.groupdict()) if found else None


@dataclass(frozen=True)
class Module:
    """The flax module at `path` below a collection that a torch module stands for, by its key; its tensors become what
    `weights.mapping.standard` says of a module of its class. Placeholders are those of a `Rule`."""

    key: str
    path: str
    at: str = field(default="", compare=False, repr=False)

    def __post_init__(self) -> None:
        if not self.at:
            object.__setattr__(self, "at", written())

    def match(self, key: str) -> tuple[str, str] | None:
        """The path for the beginning of a key, and the rest of the key; None for a key of another module."""
        found = _pattern(self.key + "." + "{rest_:deep}").fullmatch(key)
        return None if found is None else (fill(self.path, found.groupdict()), found["rest_"])


def module(key: str, path: str) -> Module:
    """A standard module that has another name in flax: module("fc1", "Dense_0")."""
    return Module(key, path)


def param(key: str, path: str, layout: Layout = IDENTITY) -> Rule:
    """A parameter."""
    return Rule(key, path, layout)


def buffer(key: str, path: str, layout: Layout = IDENTITY) -> Rule:
    """A tensor that is not trained and is a variable of the flax module: its path begins with another collection than params."""
    return Rule(key, path, layout)


def curvature(key: str, path: str | None = None, *, c: float | None = None) -> Rule:
    """A raw curvature (isp_c, k): trained at a path, or fixed with the number that it stands for, which the file is checked against."""
    return Rule(key, path, SCALAR if path else IDENTITY, curvature=c)


def linear(key: str, path: str) -> tuple[Rule, Rule]:
    """torch.nn.Linear as flax's Dense: weight [out, in] -> kernel [in, out], and the bias."""
    return Rule(f"{key}.weight", f"{path}/kernel", TRANSPOSE), Rule(f"{key}.bias", f"{path}/bias")


def constant(key: str) -> Rule:
    """A tensor that is not a flax variable: a buffer, or a fixed curvature."""
    return Rule(key)


def tied(key: str, to: str) -> Rule:
    """Another name of the tensor `to`."""
    return Rule(key, tied=to)


def fill(pattern: str, values: Mapping[str, str]) -> str:
    """A pattern with its placeholders replaced."""
    return re.sub(r"\{(\w+)(?::\w+)?\}", lambda m: values.get(m.group(1), m.group(0)), pattern)


def matching(rules: Sequence[Rule], key: str) -> list[tuple[Rule, dict[str, str]]]:
    """The rules that a key fits."""
    return [(rule, found) for rule in rules if (found := rule.match(key)) is not None]


@cache
def _pattern(text: str) -> re.Pattern[str]:
    parts, seen = [], set()
    for piece in re.split(r"(\{\w+(?::\w+)?\})", text):
        if piece.startswith("{"):
            name, _, kind = piece[1:-1].partition(":")
            form = {"": r"\d+", "any": r"[^./]+", "deep": r".+"}[kind]
            parts.append(f"(?P={name})" if name in seen else f"(?P<{name}>{form})")
            seen.add(name)
        else:
            parts.append(re.escape(piece))
    return re.compile("".join(parts))


__all__ = [
    "IDENTITY",
    "PAIRS",
    "SCALAR",
    "TRANSPOSE",
    "Layout",
    "Module",
    "Rule",
    "buffer",
    "chain",
    "constant",
    "curvature",
    "fill",
    "linear",
    "matching",
    "module",
    "param",
    "permute",
    "reshape",
    "tied",
    "unfolded",
]
