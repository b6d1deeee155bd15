"""A converted checkpoint on disk: a folder (Orbax and JSON), a safetensors file, or an .npz file. One content, three forms."""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import cast

import jax
import numpy as np
from numpy.typing import ArrayLike

from weights.contents import Contents
from weights.errors import ConversionError, Unreadable, Usage
from weights.files import folder, json_text, npz, object_json, safetensors
from weights.files import source as sources
from weights.files.archive import Archive
from weights.files.budget import Budget
from weights.files.dtypes import NUMPY
from weights.files.outputs import require_file, require_folder, settled
from weights.mapping import port_manifolds
from weights.mapping.entries import Entry, flatten, place
from weights.mapping.flax_modules import described
from weights.mapping.leaves import leaf_of
from weights.mapping.manifold_trees import from_json, spaces, to_json
from weights.mapping.port import TREE, Port
from weights.mapping.rules import Rule, fill, matching
from weights.mapping.standard import completed
from weights.models import ARCHITECTURES
from weights.optim import plan as optimizers
from weights.optim.plan import Plan
from weights.optim.resume import beside
from weights.soundness import require_sound
from weights.types import Document, ManifoldTree, Model, Variables

FORMAT, FORMAT_OF_SEVERAL = 2, 3
"""The second is for conversions with several optimizers, which versions that read only the first would lose."""
MARK = "hyperport"
FILES = (".safetensors", ".npz")
_DAMAGE = (KeyError, IndexError, ValueError, TypeError, AttributeError, OverflowError, RecursionError)


def require_free(path: str | Path, overwrite: bool = False, inputs: Iterable[str | Path | None] = ()) -> None:
    """Raises NotWritten where `save` would not write, and where it would write over one of the inputs."""
    path = Path(path)
    if path.suffix in FILES:
        require_file(path, overwrite, inputs)
    else:
        ours = folder.has_all if overwrite and folder.has_all(path) else folder.is_ours  # a damaged one is replaced where that is said
        require_folder(path, ours, overwrite, ("arrays", *(f"{name}.json" for name in folder.DOCUMENTS)), inputs)


def save(contents: Contents, path: str | Path, overwrite: bool = False) -> None:
    """Writes a checkpoint, whole or not at all: a .safetensors or .npz file if `path` ends so, else a folder.

    A folder has `arrays` (Orbax), config.json, report.json and torch.json (what export needs). In a file the arrays have
    names such as params/layers_0/linear/kernel, constants/<key of torch>, opt_state/mu/...; the three documents are metadata of
    safetensors and strings in .npz. A folder with a converted checkpoint gets the new one, and keeps its other files; where anything
    else is, `overwrite` has to be said. NotWritten otherwise, if it cannot be written, and for a type that safetensors does not have.
    """
    path = Path(path)
    require_free(path, overwrite)
    arrays = _arrays(contents)
    documents = {"config": contents.config, "report": contents.report, "torch": _description(contents, arrays)}
    if path.suffix != ".npz":  # a zip file has checksums of its own, which are verified; Orbax's arrays have none
        documents["torch"]["crc32"] = {name: _crc(value) for name, value in arrays.items()}
    if path.suffix not in FILES:
        folder.write(path, arrays, documents, overwrite)
        return
    named = {name: value for (name, *_), value in zip(documents["torch"]["arrays"].values(), arrays.values())}
    texts = {name: json.dumps(value) for name, value in documents.items()}
    if path.suffix == ".npz":
        npz.write(path, named, {f"{name}.json": text.encode() for name, text in texts.items()}, overwrite)
    else:
        safetensors.write(path, named, {MARK: str(FORMAT), **texts, "crc32": _sum(texts)}, overwrite)


def read(path: str | Path, port: Port | None = None) -> Contents:
    """What `save` wrote, bit for bit. Unreadable for a path that is not one, or is damaged, Usage for another `port` than made it."""
    path = Path(path)
    try:
        with settled(path) if os.path.isdir(path) else contextlib.nullcontext():
            return _restored(path, port)
    except ConversionError as error:
        raise error.at(path) from None
    except _DAMAGE as error:
        raise Unreadable(f"its description is damaged ({error!r:.100})", "Convert again", path=path) from None


def form_of(path: Path) -> str | None:
    """The form of a converted checkpoint: "folder", "npz" or "safetensors"; None for any other file. Every folder counts as one."""
    if os.path.isdir(path):
        return "folder"
    try:
        budget = Budget.of(path)
        with open(path, "rb") as file:
            head = file.read(9)
        if head.startswith(b"PK"):
            return "npz" if npz.is_converted(Archive(path, budget)) else None
        return "safetensors" if safetensors.is_safetensors(head) and MARK in safetensors.read(path, budget)[1] else None
    except (OSError, ConversionError):
        return None


def _arrays(contents: Contents) -> dict[str, ArrayLike]:
    """Every array, under the names by which `_rebuilt` finds it."""
    numpy: dict[str, np.ndarray] = {}
    object_json.encode(contents.source.root, numpy)
    arrays: dict[str, ArrayLike] = {f"variables/{p}": v for p, v in flatten(contents.variables).items()}
    arrays |= {f"constants/{n}": v for n, v in enumerate(contents.constants.values())}
    arrays |= {f"kept/{n}": v for n, v in contents.source.kept.items()} | {f"numpy/{n}": v for n, v in numpy.items()}
    if contents.opt_state is not None:
        arrays |= {f"opt_state/{n}": v for n, v in enumerate(jax.tree.leaves(contents.opt_state))}
    return arrays


def _description(contents: Contents, arrays: Mapping[str, ArrayLike]) -> Document:
    """What export needs: keys, settings, the file's object tree; and of each array its public name, type and shape."""
    names = [path.removeprefix("variables/") for path in arrays if path.startswith("variables/")]
    names += [f"constants/{key}" for key in contents.constants]
    names += [path for path in arrays if path.startswith(("kept/", "numpy/"))]
    if contents.opt_state is not None:
        moments = jax.tree.leaves_with_path(contents.opt_state)
        names += [f"opt_state/{jax.tree_util.keystr(path, simple=True, separator='/')}" for path, _ in moments]
    if len(set(names)) != len(names):
        names = list(arrays)
    return {
        "format": FORMAT_OF_SEVERAL if len(contents.plans) > 1 else FORMAT,
        "arch": contents.arch,
        "settings": contents.settings,
        "epoch": contents.epoch,
        "keys": [[e.key, e.role, list(e.shape), e.dtype, e.path, e.tied] for e in contents.entries],
        "constants": list(contents.constants),
        "manifolds": to_json(cast("ManifoldTree", contents.manifolds)) if contents.arch == TREE else None,
        "plan": None if contents.plan is None else _stored(contents.plan),
        "prefix": contents.source.prefix,
        "model_at": list(contents.source.model_at),
        "optimizer_at": list(contents.source.optimizer_at),
        "arrays": {path: [name, str(np.asarray(v).dtype), list(np.shape(v))] for name, (path, v) in zip(names, arrays.items())},
        "tree": object_json.encode(contents.source.root, {}),
        **({"own_port": True} if contents.own_port else {}),
        **({"plans": [{**_stored(plan), "at": list(plan.at)} for plan in contents.plans]} if len(contents.plans) > 1 else {}),
    }


def _restored(path: Path, port: Port | None) -> Contents:
    form = form_of(path)
    if form == "npz":
        found = npz.read(Archive(path, Budget.of(path)))
        texts = {name: found.pop(f"{name}.json").item() for name in folder.DOCUMENTS}
    elif form == "safetensors":
        tensors, metadata = safetensors.read(path, Budget.of(path))
        if metadata.get("crc32") != _sum({name: metadata[name] for name in folder.DOCUMENTS}):
            raise Unreadable("its metadata are damaged: their checksum does not match", "Convert again")
        texts = {name: metadata[name].encode() for name in folder.DOCUMENTS}
        found = {name: tensor.array() for name, tensor in tensors.items()}
    elif os.path.isdir(path):
        texts, found = folder.read_documents(path), None
    else:
        raise Unreadable("not a converted checkpoint", "Give a folder or a file that hyperport convert wrote")
    budget = Budget(sum(map(len, texts.values())), "Convert again")
    config, report, description = (json_text.parsed(texts[name], budget) for name in folder.DOCUMENTS)
    expected = _checked_format(description)
    if found is None:
        found = folder.read_arrays(path, {name: rest for name, *rest in expected.values()})
    contents = _rebuilt(description, config, report, _typed(found, expected, description.get("crc32")), budget, port)
    require_sound(contents)
    return contents


def _checked_format(description: Document) -> Mapping[str, list]:
    if description.get("format") not in (FORMAT, FORMAT_OF_SEVERAL):
        raise Unreadable(
            f"written as format {description.get('format')}; this version reads {FORMAT} and {FORMAT_OF_SEVERAL}", "Convert again"
        )
    return description["arrays"]


def _typed(found: dict[str, np.ndarray], expected: Mapping[str, list], sums: Mapping[str, int] | None) -> dict[str, np.ndarray]:
    """The arrays by path, with the types, shapes and checksums that they were written with; none missing, none more."""
    arrays = {}
    for path, (name, dtype, shape) in expected.items():
        if name not in found:
            raise Unreadable(f"the array {name!r} is missing", "Convert again")
        array, want = found.pop(name), NUMPY.get(dtype) or np.dtype(dtype)
        if 0 in shape:
            array = np.zeros(shape, want)
        if array.dtype.kind == "V" and array.dtype != want and array.dtype.itemsize == want.itemsize:
            array = array.view(want)
        if array.dtype != want or list(array.shape) != shape:
            raise Unreadable(f"{name} is {array.dtype} {array.shape}, not {dtype} {shape}", "Convert again")
        if sums is not None and sums.get(path) != _crc(array):
            raise Unreadable(f"the numbers of {name!r} are damaged: their checksum does not match", "Convert again")
        arrays[path] = array
    if found:
        raise Unreadable(f"the array {next(iter(found))!r} is not one that was written", "Convert again")
    return arrays


def _crc(value: ArrayLike) -> int:
    """CRC-32 of an array's elements in C order."""
    return zlib.crc32(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)


def _sum(texts: Mapping[str, str]) -> str:
    return f"{zlib.crc32(chr(0).join(texts[name] for name in folder.DOCUMENTS).encode()):08x}"


def _rebuilt(description: Document, config: Document, report: Document, arrays: dict[str, np.ndarray], budget: Budget,
             port: Port | None) -> Contents:  # fmt: skip
    numpy = {name.removeprefix("numpy/"): a for name, a in arrays.items() if name.startswith("numpy/")}
    root = object_json.decode(description["tree"], numpy, budget)
    kept = {int(name.removeprefix("kept/")): a for name, a in arrays.items() if name.startswith("kept/")}
    origin = sources.Source(
        root=root,
        prefix=description["prefix"],
        model_at=tuple(description["model_at"]),
        optimizer_at=tuple(description["optimizer_at"]),
        kept=kept,
    )
    variables: Variables = {"params": {}}
    for name in [n for n in arrays if n.startswith("variables/")]:
        place(variables, name.removeprefix("variables/"), leaf_of(arrays.pop(name)))
    constants = {key: arrays[f"constants/{n}"] for n, key in enumerate(description["constants"])}
    settings, arch = description["settings"], description["arch"]
    table = _port(arch, bool(description.get("own_port")), port)
    if table is None:
        model, rules, manifolds = None, None, spaces(cast("dict", from_json(description["manifolds"])))
    else:
        model, rules = _rules(table, settings, {key: tuple(shape) for key, _, shape, *_ in description["keys"]})
        manifolds = port_manifolds.beside(table, model, variables["params"])
    entries = _entries(description["keys"], rules)
    plans, transformation, state = _plans(description), None, None
    if plans:
        confine = None if table is None else table.confining(model)
        transformation, shapes = optimizers.build(plans, variables["params"], beside(manifolds), confine)
        leaves = [leaf_of(arrays.pop(f"opt_state/{n}")) for n in range(len(jax.tree.leaves(shapes)))]
        state = jax.tree.unflatten(jax.tree.structure(shapes), leaves)
    return Contents(
        arch=arch,
        model=model,
        variables=variables,
        optimizer=transformation,
        opt_state=state,
        constants=constants,
        manifolds=manifolds,
        config=config,
        epoch=description["epoch"],
        report=report,
        settings=settings,
        entries=entries,
        plans=plans,
        source=origin,
        port=table,
    )


def _port(arch: str, own: bool, port: Port | None) -> Port | None:
    """The port of a conversion: the person's own, or the architecture's; None for a tree."""
    if own and port is None:
        raise Usage(
            f"it was converted by a port of your own, {arch!r}, whose code is not in it",
            "Give it with --port package.module:NAME (port=...)",
        )
    if port is not None and (not own or port.name != arch):
        what = f"by the port {arch!r}" if own else f"as {arch!r}"
        raise Usage(f"it was converted {what}, and the port {port.name!r} is given", "Give that port" if own else "Omit --port (port=...)")
    return port or ARCHITECTURES.get(arch)


def _rules(port: Port, settings: Document, shapes: Mapping[str, tuple[int, ...]]) -> tuple[Model, list[Rule]]:
    rules = [rule for rule in port.rules_of(settings) if isinstance(rule, Rule)]
    if all(matching(rules, key) for key in shapes):
        return port.build(settings), rules
    model, target = described(port, settings)
    return model, completed(port.rules_of(settings), shapes, target)


def _stored(plan: Plan) -> Document:
    """A plan as JSON, without its place."""
    return {name: value for name, value in asdict(plan).items() if name != "at"}


def _plans(description: Document) -> tuple[Plan, ...]:
    stored = (
        [{**description["plan"], "at": description["optimizer_at"]}] if description["plan"] is not None else description.get("plans", [])
    )
    keys = [{int(i): key for i, key in each["keys"].items()} for each in stored]
    return tuple(Plan(**{**each, "keys": own, "at": tuple(each["at"])}) for each, own in zip(stored, keys))


def _entries(rows: list[list], rules: Sequence[Rule] | None) -> list[Entry]:
    entries = []
    for key, role, shape, dtype, path, tied in rows:
        found = [] if rules is None or path is None else matching(rules, key)
        if rules is not None and path is not None and (len(found) != 1 or fill(str(found[0][0].path), found[0][1]) != path):
            raise Usage(f"the port has another place for the key {key!r} than {path}, where it was converted to", "Convert again")
        layout = {"layout": found[0][0].layout} if found else {}
        entries.append(Entry(key, role, tuple(shape), dtype, path, tied=tied, **layout))
    return entries


__all__ = ["form_of", "read", "require_free", "save"]
