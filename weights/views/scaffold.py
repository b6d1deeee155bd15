"""A first version of a port, written from a torch file: its keys as rules, a flax module with the same tree, and a test of both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from posixpath import commonpath

import numpy as np

from weights.errors import printable
from weights.files.opening import opened
from weights.files.outputs import new_file, require_file
from weights.files.reader import files_of
from weights.files.sections import Choice, Sections
from weights.files.tensors import Tensor
from weights.mapping.curvature_settings import from_raw
from weights.mapping.entries import Entry, tie_repeats
from weights.mapping.manifold_trees import CURVED, curvature, recovered
from weights.optim.resume import moved_keys, points_moved

OF_RAW = {"isp_c": "PoincareBall", "isp_k": "SphereProjection", "k": "Lorentz"}
RAW = (*OF_RAW,)
TABLES = ("emb", "lookup", "table", "lt")
"""Beginnings of names under which tables of embeddings are kept."""
HEAD = '''"""A port of {file}, as `hyperport scaffold` began it.

What is marked GUESS follows from names and shapes: check it. What is marked TODO has to be filled in. `python {own}` says what is left, and
pytest compares both sides when nothing is.
"""

from pathlib import Path

import flax.linen as nn
import jax  # noqa: F401
import jax.numpy as jnp
import numpy as np

import weights
from port_jax import layers, manifolds  # noqa: F401


def TODO(*shape):
    """Stands for what has to be filled in: an input of this shape."""
    return jnp.zeros(shape)

'''
TAIL = '''

PORT = weights.Port(
    Net(),
    rules=[
{rules}
    ],
    inputs=np.zeros((2, 3)),  # TODO: an array as the model takes it, or a tuple of them
    torch=None,  # TODO: the class of the torch module, or a function that makes it
    manifolds={manifolds},
)


def left():
    """What is left to do, by line."""
    lines = enumerate(Path(__file__).read_text().splitlines(), 1)
    return [f"{{n}}: {{line.strip()}}" for n, line in lines if "# " "TODO" in line or "# " "GUESS" in line]


def test_parity():
    """Remove the mark of a guess once it is checked, and of what is filled in."""
    assert not left(), "\\n".join(["left to do:", *left()])
    assert (found := weights.parity(PORT, {path!r})).ok, found


if __name__ == "__main__":
    print("\\n".join(left()) or "nothing is left: run pytest")
'''


@dataclass
class Node:
    """A torch module: its own tensors by name, and those below it."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    below: dict[str, Node] = field(default_factory=dict)


@dataclass(frozen=True)
class Leaf:
    """A standard module. code: makes it in flax. inputs: the shape of an input. kind: torch's class. names: by torch's, the path below."""

    code: str
    inputs: str
    kind: str
    names: Mapping[str, str]


def scaffold(path: str | Path, out: str | Path, overwrite: bool = False, section: str | None = None, prefix: str | None = None) -> str:
    """Writes the port's first version to `out`, and returns it. NotWritten where a file exists and `overwrite` is not said."""
    path, out = Path(path), Path(out)
    require_file(out, overwrite, files_of(path))
    parts = opened(path, None, Choice(section, prefix, None)).parts
    text = written(parts, path, out.name)
    with new_file(out, overwrite) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return text


def written(parts: Sections, path: Path, own: str) -> str:
    """The text of the port."""
    tensors = parts.tensors
    tied = {e.key: e.tied for e in _entries(tensors) if e.tied is not None}
    root = Node()
    for key, tensor in tensors.items():
        *above, name = key.split(".")
        node = root
        for step in above:
            node = node.below.setdefault(step, Node())
        if key not in tied:
            node.tensors[name] = tensor
    trained = {key for key in moved_keys(parts, _entries(tensors), set()) if key.rpartition(".")[2] in RAW}
    trained |= {key for key, t in tensors.items() if key.rpartition(".")[2] in RAW and t.kind == "parameter" and t.requires_grad}
    classes: list[str] = []
    rules = list(_module(root, "Net", "", "", classes, trained))
    rules += [f"weights.tied({key!r}, {first!r})," for key, first in tied.items()]
    spaces = _manifolds(parts, dict(_placed(rules, "param")), dict(_placed(rules, "curvature")))
    head = HEAD.format(file=_said(path.name), own=_said(own))
    tail = TAIL.format(rules="\n".join(f"        {rule}" for rule in rules), manifolds=spaces, path=str(path))
    return head + "\n".join(classes) + tail


def _said(name: str) -> str:
    """A file's name in a docstring, which no quote or backslash of it ends."""
    return printable(name).replace("\\", "\\\\").replace('"', "'")


def _entries(tensors: Mapping[str, Tensor]) -> list[Entry]:
    def role(key: str, t: Tensor) -> str:
        floating = t.dtype.startswith(("float", "bfloat", "complex"))
        return "parameter" if floating and not key.rpartition(".")[2].startswith(("running_", "num_")) else "constant"

    return tie_repeats(tensors, [Entry(key, role(key, t), t.shape, t.dtype, key) for key, t in tensors.items()])


def _module(node: Node, name: str, key: str, path: str, classes: list[str], trained: set[str]) -> Iterator[str]:
    """Adds the class of a module and of those below it, and gives the rules of their keys. key, path: where they begin."""
    lines: list[str] = []
    for own, tensor in node.tensors.items():
        at = f"{key}{own}"
        if own in RAW and tensor.numel == 1:
            c = from_raw(own, float(tensor.array().reshape(-1)[0]))
            if at in trained:
                lines.append(
                    f"        {own} = self.param({own!r}, nn.initializers.zeros, ())  # TODO: the raw curvature; it gives {c:.6g} here"
                )
                yield f"weights.curvature({at!r}, 'params/{path}{own}'),"
            else:
                yield f"weights.curvature({at!r}, c={c:.7g}),  # GUESS: fixed"
        elif tensor.kind == "buffer" or not tensor.dtype.startswith(("float", "bfloat", "complex")):
            yield f"weights.constant({at!r}),  # GUESS: a buffer that the model does not need"
        else:
            variable = own if own.isidentifier() else f"p_{own}"
            lines.append(f"        {variable} = self.param({variable!r}, nn.initializers.zeros, {tensor.shape})  # TODO: use it")
            yield f"weights.param({at!r}, 'params/{path}{variable}'),"
    for below, child in _children(node):
        at, flax = f"{key}{below}.", below.replace(".", "_")
        flax = f"layers_{flax}" if flax[0].isdecimal() else flax
        if (leaf := _leaf(child, below)) is not None:
            if leaf.kind == "Embedding":
                lines += _lookup(leaf, child, flax)
            else:
                lines.append(
                    f"        h = {leaf.code[:-1]}{', ' * (leaf.code[-2] != '(')}name={flax!r})({leaf.inputs})  # TODO: GUESS {leaf.kind}"
                )
            yield from _rules(leaf, child, at, f"{path}{flax}/")
        elif child.tensors.keys() <= {*RAW} and not child.below and not any(f"{at}{own}" in trained for own in child.tensors):
            yield from _module(child, "", at, "", [], trained)
        else:
            inner = f"{name}{flax.title().replace('_', '')}"
            lines.append(f"        h = {inner}(name={flax!r})(x)  # TODO: its input")
            yield from _module(child, inner, at, f"{path}{flax}/", classes, trained)
    if name:
        body = "\n".join(lines)
        call = f"    @nn.compact\n    def __call__(self, x):\n{body}\n        return x  # TODO: what it gives\n"
        classes.append(f"\nclass {name}(nn.Module):\n{call}")


def _lookup(leaf: Leaf, node: Node, name: str) -> Iterator[str]:
    """The lines of a table of embeddings: a row of zeros is likely the padding, whose gradient is 0 in torch. A file does not say it."""
    found = np.flatnonzero(~np.any(node.tensors["weight"].array(), axis=-1))
    made = f"{leaf.code[:-1]}, name={name!r})"
    if len(found) != 1:
        yield f"        h = {made}({leaf.inputs})  # TODO: GUESS Embedding, without padding_idx"
        return
    yield f"        ids = {leaf.inputs}  # TODO: its input"
    yield f"        rows = {made}(ids)  # GUESS Embedding"
    stopped = f"jnp.where((ids == {found[0]})[..., None], jax.lax.stop_gradient(rows), rows)"
    yield f"        h = {stopped}  # GUESS: row {found[0]} is 0 in the file, as that of padding_idx={found[0]}, whose gradient is 0"


def _children(node: Node) -> Iterator[tuple[str, Node]]:
    """The modules below; those of a list with the list's name, as `layers.0`."""
    for name, child in node.below.items():
        if child.below and not child.tensors and all(step.isdecimal() for step in child.below):
            yield from ((f"{name}.{step}", inner) for step, inner in child.below.items())
        elif child.tensors or child.below:
            yield name, child


def _rules(leaf: Leaf, node: Node, key: str, path: str) -> Iterator[str]:
    for name, tensor in node.tensors.items():
        if name == "num_batches_tracked":
            yield f"weights.constant({key + name!r}),"
            continue
        collection, _, last = leaf.names[name].rpartition("/")
        layout = ""
        if last == "kernel":
            axes = len(tensor.shape)
            layout = ", weights.TRANSPOSE" if axes == 2 else f", weights.permute({', '.join(map(str, (*range(2, axes), 1, 0)))})"
        maker = "buffer" if collection else "param"
        yield f"weights.{maker}({key + name!r}, '{collection or 'params'}/{path}{last}'{layout}),  # GUESS: {leaf.kind}"
    if inner := node.below.get("out_proj"):
        for name in inner.tensors:
            last, layout = ("kernel", ", weights.TRANSPOSE") if name == "weight" else ("bias", "")
            yield f"weights.param({f'{key}out_proj.{name}'!r}, 'params/{path}out_proj/{last}'{layout}),  # GUESS: {leaf.kind}"


def _leaf(node: Node, name: str) -> Leaf | None:
    """The standard module that has these tensors; None for one of the person's own."""
    shapes = {own: tensor.shape for own, tensor in node.tensors.items()}
    same = {own: own for own in shapes}
    if "in_proj_weight" in shapes:
        width = shapes["in_proj_weight"][1]
        return Leaf(f"layers.MultiheadAttention({width}, 1)", f"*[TODO(1, 1, {width})] * 3", "MultiheadAttention, of how many heads?", same)
    if node.below:
        return None
    if "weight_ih_l0" in shapes:
        (rows, width), size = shapes["weight_ih_l0"], shapes["weight_hh_l0"][1]
        count = sum(own.startswith("weight_ih") and not own.endswith("_reverse") for own in shapes)
        kind = {4: "LSTM", 3: "GRU"}.get(rows // size)
        if kind is None or "bias_ih_l0" not in shapes:
            return None
        return Leaf(f"layers.{kind}({size}, {count}, {'weight_ih_l0_reverse' in shapes})", f"TODO(1, 1, {width})", kind, same)
    weight, others = shapes.get("weight"), {*shapes} - {"weight"}
    if weight is None:
        return None
    if "running_mean" in shapes:
        names = {"weight": "scale", "bias": "bias", "running_mean": "batch_stats/mean", "running_var": "batch_stats/var"}
        code = "nn.BatchNorm(use_running_average=True, momentum=0.9, epsilon=1e-5)"
        return Leaf(code, f"TODO(1, {weight[0]})", "BatchNorm", names)
    bias = "" if "bias" in others else ", use_bias=False"
    if not others <= {"bias"} or (shapes.get("bias", weight[:1]) != weight[:1]):
        return None
    if len(weight) == 1 and others:
        return Leaf("nn.LayerNorm(epsilon=1e-5)", f"TODO(1, {weight[0]})", "LayerNorm (or GroupNorm)", {"weight": "scale", "bias": "bias"})
    if len(weight) == 2 and not others and name.rpartition(".")[2].lower().startswith(TABLES):
        return Leaf(f"nn.Embed({weight[0]}, {weight[1]})", "jnp.zeros(1, int)", "Embedding", {"weight": "embedding"})
    maps = {"weight": "kernel", "bias": "bias"}
    if len(weight) == 2:
        return Leaf(f"nn.Dense({weight[0]}{bias})", f"TODO(1, {weight[1]})", f"Linear({weight[1]}, {weight[0]})", maps)
    if len(weight) in (3, 4, 5):
        window = ", ".join(map(str, weight[2:]))
        shape = ", ".join(map(str, (1, *weight[2:], *weight[1:2])))
        kind = f"Conv{len(weight) - 2}d; its stride, padding and groups?"
        return Leaf(f'nn.Conv({weight[0]}, ({window},), padding="VALID"{bias})', f"TODO({shape})", kind, maps)
    return None


def _placed(rules: Sequence[str], maker: str) -> Iterator[tuple[str, str]]:
    """Keys and paths below params of the rules of one maker as they are written."""
    for rule in rules:
        parts = rule.split("'")
        if rule.startswith(f"weights.{maker}(") and len(parts) > 3:
            yield parts[1], parts[3].removeprefix("params/")


def _manifolds(parts: Sections, paths: Mapping[str, str], raws: Mapping[str, str]) -> str:
    """The argument: what the file has pickled, and what its optimizer has moved as points of nobody knows which manifold. raws: keys and
    paths of the trained curvatures, which the manifolds follow.
    """
    told = {}
    for key, tensor in parts.tensors.items():
        if key in paths and tensor.manifold is not None:
            space, raw = recovered(tensor.manifold)
            kind = type(space).__name__
            if raws and raw is not None and raw.requires_grad:
                told[paths[key]] = _followed(paths[key], raws, kind)
            else:
                told[paths[key]] = f"manifolds.{kind}({f'{curvature(tensor.manifold):.7g}' if kind in CURVED else ''})"
    lines = [f"        {path!r}: {code}," for path, code in told.items()]
    for key in sorted(points_moved(parts, _entries(parts.tensors))):
        if key in paths and paths[key] not in told:
            guess = _followed(paths[key], raws) if raws else "manifolds.Euclidean()"
            mark = "TODO: the optimizer moves it as points: of which manifold?"
            mark = "GUESS: the optimizer moves it as points, and this curvature is trained" if raws else mark
            lines.append(f"        {paths[key]!r}: {guess},  # {mark}")
    follows = "lambda params: " if any("params[" in line for line in lines) else ""
    return follows + "{\n" + "\n".join(lines) + "\n    }" if lines else "None"


def _followed(path: str, raws: Mapping[str, str], kind: str = "") -> str:
    """The manifold of the trained curvature whose path is nearest."""
    key = max(raws, key=lambda key: len(commonpath([path, raws[key]])))
    own = key.rpartition(".")[2]
    at = "params" + "".join(f"[{step!r}]" for step in raws[key].split("/"))
    made = f"manifolds.{kind or OF_RAW[own]}"
    return f"{made}({at})" if own == "k" else f"{made}.from_raw({at})"


__all__ = ["scaffold", "written"]
