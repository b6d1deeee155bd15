"""A converted checkpoint on disk: Orbax for the arrays, JSON for everything else."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import numpy as np

from weights import convert
from weights import source as sources
from weights.atomic import new_directory
from weights.checkpoint import TREE, Checkpoint, leaf_of
from weights.convert import Entry
from weights.errors import Unreadable
from weights.geometry import from_json, to_json
from weights.models import ARCHITECTURES
from weights.optim import engine as optimizers
from weights.rules import matching

FORMAT = 1
IN_FLIGHT = 64 << 20


def save(checkpoint: Checkpoint, directory: str | Path) -> None:
    """Writes `arrays` (Orbax), config.json, report.json and torch.json (the way back) into a folder, atomically."""
    numpy: dict[str, np.ndarray] = {}
    tree = sources.encode(checkpoint.source.root, numpy)
    arrays: dict[str, Any] = {f"variables/{p}": v for p, v in convert.flatten(checkpoint.variables).items()}
    arrays |= {f"constants/{n}": v for n, v in enumerate(checkpoint.constants.values())}
    arrays |= {f"kept/{n}": v for n, v in checkpoint.source.kept.items()} | {f"numpy/{n}": v for n, v in numpy.items()}
    if checkpoint.opt_state is not None:
        arrays |= {f"opt_state/{n}": v for n, v in enumerate(jax.tree.leaves(checkpoint.opt_state))}
    description = {
        "format": FORMAT,
        "arch": checkpoint.arch,
        "settings": checkpoint.settings,
        "epoch": checkpoint.epoch,
        "keys": [[e.key, e.role, list(e.shape), e.dtype, e.path, e.tied] for e in checkpoint.entries],
        "constants": list(checkpoint.constants),
        "manifolds": to_json(checkpoint.manifolds) if checkpoint.arch == TREE else None,
        "plan": None if checkpoint.plan is None else asdict(checkpoint.plan),
        "prefix": checkpoint.source.prefix,
        "model_at": list(checkpoint.source.model_at),
        "optimizer_at": list(checkpoint.source.optimizer_at),
        "arrays": {name: [str(np.asarray(v).dtype), list(np.shape(v))] for name, v in arrays.items()},
        "tree": tree,
    }
    with new_directory(directory) as folder:
        _write_arrays(folder / "arrays", arrays)
        (folder / "config.json").write_text(json.dumps(checkpoint.config, indent=1))
        (folder / "report.json").write_text(json.dumps(checkpoint.report, indent=1))
        (folder / "torch.json").write_text(json.dumps(description))


def restore(directory: str | Path) -> Checkpoint:
    """The checkpoint that `save` wrote, bit by bit. Unreadable for a folder that is none or damaged."""
    folder = Path(directory)
    aside = folder.parent / f".{folder.name}.old"
    if not folder.exists() and aside.exists():  # killed between the two renames of a system without exchange
        folder = aside
    try:
        description = json.loads((folder / "torch.json").read_bytes())
        config = json.loads((folder / "config.json").read_bytes())
        report = json.loads((folder / "report.json").read_bytes())
    except OSError:
        raise Unreadable(
            "not a converted checkpoint: no torch.json, config.json and report.json",
            "Give the --out of a conversion",
            path=directory,
        ) from None
    except ValueError as error:
        raise Unreadable(f"a JSON file of it is damaged ({error})", "Convert again", path=directory) from None
    if description.get("format") != FORMAT:
        raise Unreadable(
            f"written as format {description.get('format')}; this version reads {FORMAT}",
            "Convert again",
            path=directory,
        )
    return _rebuilt(description, config, report, _read_arrays(folder / "arrays", description["arrays"], directory))


def _rebuilt(description: Mapping[str, Any], config: dict, report: dict, arrays: dict[str, np.ndarray]) -> Checkpoint:
    numpy = {name.removeprefix("numpy/"): a for name, a in arrays.items() if name.startswith("numpy/")}
    root = sources.decode(description["tree"], numpy)
    kept = {int(name.removeprefix("kept/")): a for name, a in arrays.items() if name.startswith("kept/")}
    origin = sources.Source(
        root, description["prefix"], tuple(description["model_at"]), tuple(description["optimizer_at"]), kept
    )
    variables: dict[str, Any] = {"params": {}}
    for name in [n for n in arrays if n.startswith("variables/")]:
        convert.place(variables, name.removeprefix("variables/"), leaf_of(arrays.pop(name)))
    constants = {key: arrays[f"constants/{n}"] for n, key in enumerate(description["constants"])}
    settings, arch = description["settings"], description["arch"]
    table = ARCHITECTURES.get(arch)
    model = table.build(settings) if table else None
    manifolds = getattr(model, "manifolds", None) if table else from_json(description["manifolds"])
    entries = _entries(description["keys"], table.rules(settings) if table else None)
    plan = transformation = state = None
    if description["plan"] is not None:
        stored = description["plan"]
        plan = optimizers.Plan(**{**stored, "keys": {int(i): key for i, key in stored["keys"].items()}})
        groups = sources.at(root, origin.optimizer_at)["param_groups"]
        beside = manifolds if callable(manifolds) or manifolds is None else lambda params: manifolds
        transformation, shapes = optimizers.build(plan, groups, variables["params"], beside)
        leaves = [leaf_of(arrays[f"opt_state/{n}"]) for n in range(len(jax.tree.leaves(shapes)))]
        state = jax.tree.unflatten(jax.tree.structure(shapes), leaves)
    return Checkpoint(arch, model, variables, transformation, state, constants, manifolds, config, description["epoch"], report,
                      settings, entries, plan, origin)  # fmt: skip


def _entries(rows: list[list[Any]], rules: Any) -> list[Entry]:
    entries = []
    for key, role, shape, dtype, path, tied in rows:
        layout = {} if rules is None or path is None else {"layout": matching(rules, key)[0][0].layout}
        entries.append(Entry(key, role, tuple(shape), dtype, path, tied=tied, **layout))
    return entries


def _write_arrays(folder: Path, arrays: Mapping[str, Any]) -> None:
    import orbax.checkpoint as ocp

    logging.getLogger("absl").setLevel(logging.ERROR)
    tree: dict[str, Any] = {
        "/".join(("a", str(n))): v if np.size(v) else np.zeros(1) for n, v in enumerate(arrays.values())
    }
    with ocp.Checkpointer(_handler(v.nbytes for v in tree.values())) as writer:
        writer.save(
            folder.absolute(),
            {name.partition("/")[2]: v if isinstance(v, jax.Array) else np.asarray(v) for name, v in tree.items()},
        )


def _read_arrays(folder: Path, expected: Mapping[str, Any], directory: str | Path) -> dict[str, np.ndarray]:
    import orbax.checkpoint as ocp

    from weights.dtypes import NUMPY

    logging.getLogger("absl").setLevel(logging.ERROR)
    if not folder.is_dir():
        raise Unreadable("the folder of arrays is missing", "Convert again", path=directory)
    as_numpy = {str(n): ocp.RestoreArgs(restore_type=np.ndarray) for n in range(len(expected))}
    try:
        with ocp.Checkpointer(_handler(int(np.prod(shape)) * 16 for _, shape in expected.values())) as reader:
            found = reader.restore(folder.absolute(), restore_args=as_numpy)
    except (ValueError, OSError, KeyError, TypeError) as error:
        raise Unreadable(
            f"the arrays are damaged ({str(error).splitlines()[0][:120]})", "Convert again", path=directory
        ) from None
    arrays = {}
    for n, (name, (dtype, shape)) in enumerate(expected.items()):
        array = np.asarray(found.pop(str(n)))
        want = NUMPY.get(dtype, np.dtype(dtype) if dtype not in NUMPY else None)
        if 0 in shape:
            array = np.zeros(shape, want)
        if str(array.dtype) != dtype or list(array.shape) != shape:
            raise Unreadable(
                f"{name} is {array.dtype} {array.shape}, not {dtype} {shape}", "Convert again", path=directory
            )
        arrays[name] = array
    return arrays


def _handler(sizes: Iterable[int]) -> Any:
    """Orbax's writer and reader of trees, with few bytes in flight: each of them is in memory twice."""
    import orbax.checkpoint as ocp

    gigabytes: Any = (max(IN_FLIGHT, *sizes) + 4096) / 1e9
    return ocp.PyTreeCheckpointHandler(
        save_concurrent_gb=gigabytes, restore_concurrent_gb=gigabytes, save_device_host_concurrent_gb=gigabytes
    )
