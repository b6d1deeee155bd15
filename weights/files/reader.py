"""Reads checkpoints without torch and without running code of theirs: torch files of all versions, safetensors, shards."""

from __future__ import annotations

import contextlib
import gc
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from weights.errors import ConversionError, Refused, Unreadable, Usage, shown
from weights.files import json_text, npz, other_formats, safetensors, torch_legacy, torch_zip
from weights.files.archive import Archive
from weights.files.budget import Budget
from weights.files.inputs import as_path, size_of
from weights.files.live_objects import as_state_dicts
from weights.files.pickles.bounds import checked_tree
from weights.files.tensors import Tensor


@dataclass
class TorchFile:
    """The contents of a file. `format`: "zip", "legacy", "safetensors" or "sharded". `root`: plain data, `Tensor`s and `Record`s.

    budget: what is left for those who unfold the contents further.
    """

    path: Path
    format: str
    root: object
    budget: Budget


def read(path: str | Path) -> TorchFile:
    """Reads a checkpoint's structure; the tensors' bytes stay in the file until `Tensor.array()` asks for them.

    Raises Unreadable for a file that is not a checkpoint or is damaged, Refused for one that asks for code to be run, claims more
    data than it has, or would take more time or memory than its size allows (`Budget`).
    """
    path = as_path(path)
    try:
        budget = Budget.of(path)
        other_formats.require_whole(path)
        with _all_is_kept():
            kind, root = _read(path, budget)
    except IsADirectoryError:
        raise other_formats.of_folder(path).at(path) from None
    except OSError as error:
        raise Unreadable(f"cannot be opened ({error.strerror})", "Give the path of a checkpoint", path=path) from None
    except ConversionError as error:
        raise error.at(path) from None
    return TorchFile(path, kind, root, budget)


@contextlib.contextmanager
def _all_is_kept() -> Iterator[None]:
    """A block in which Python does not look for garbage: among a million new objects, that takes most of the time and finds nothing."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _read(path: Path, budget: Budget, shard: bool = False) -> tuple[str, object]:
    with open(path, "rb") as file:
        head = file.read(other_formats.HEAD)
    kind, load = _format(path, head, shard)
    root = load(path, budget)
    checked_tree(root, budget)
    return kind, as_state_dicts(root)


def _format(path: Path, head: bytes, shard: bool) -> tuple[str, Callable[[Path, Budget], object]]:
    if head.startswith(b"PK") and path.suffix != other_formats.PART:
        return "zip", _zip
    if torch_legacy.is_legacy(head):
        return "legacy", torch_legacy.load
    if head.lstrip()[:1] == b"{" and path.name.endswith(".json") and not shard:
        return "sharded", _sharded
    if safetensors.is_safetensors(head):
        return "safetensors", _safetensors
    raise other_formats.of_file(path, head)


def _zip(path: Path, budget: Budget) -> object:
    archive = Archive(path, budget)
    if npz.is_converted(archive):
        raise Usage(*other_formats.CONVERTED)
    return torch_zip.load(archive)


def _safetensors(path: Path, budget: Budget) -> OrderedDict[str, Tensor]:
    tensors, metadata = safetensors.read(path, budget)
    if "hyperport" in metadata:
        raise Usage(*other_formats.CONVERTED)
    return safetensors.with_metadata(tensors, metadata)


def shards(path: Path, budget: Budget) -> dict[str, str]:
    """The file of each key, as an index of shards says. Refused for a name that is not that of a file beside the index."""
    json_text.require(size_of(path), budget)
    try:
        index = json_text.parsed(path.read_bytes(), budget)
        pairs = index["weight_map"].items()
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Unreadable('not an index of shards: it has no "weight_map"', "Give the .index.json or the checkpoint") from None
    for key, name in pairs:
        if not _is_beside(name) or name == path.name:
            raise Refused(f"the index places {shown(key)} in {shown(name)}, which is not a file beside it", "Do not trust this index")
    return dict(pairs)


def files_of(*given: str | Path | None) -> list[Path]:
    """The files and folders that a command was given, the shards of an index, and what links in a folder lead to."""
    found: list[Path] = []
    for path in (Path(each) for each in given if each is not None):
        found.append(path)
        with contextlib.suppress(OSError, ConversionError):
            if os.path.isdir(path):
                found += [entry for entry in path.iterdir() if entry.is_symlink()]
            elif path.suffix == ".json":
                found += [path.parent / name for name in set(shards(path, Budget.of(path)).values())]
    return found


def _is_beside(name: object) -> bool:
    if not isinstance(name, str) or Path(name).name != name or name in ("", ".", "..") or "\0" in name:
        return False
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return True


def _sharded(path: Path, budget: Budget) -> OrderedDict[str, Tensor]:
    """The state_dict whose tensors an index {"weight_map": {key: file}} finds in the files beside it."""
    places = shards(path, budget)
    found = {name: _shard(path.parent / name, budget) for name in dict.fromkeys(places.values())}
    for key, name in places.items():
        if not isinstance(found[name].get(key), Tensor):
            raise Unreadable(
                f"the index places {shown(key)} in {shown(name)}, which does not contain it",
                "Give the shards that the index was written with",
            )
    extra = next(((name, key) for name, shard in found.items() for key in shard if places.get(key) != name), None)
    if extra is not None:
        raise Unreadable(
            f"the shard {shown(extra[0])} contains {shown(extra[1])}, which the index does not place there",
            "Give the index of these shards",
        )
    told = {name: text for shard in found.values() for name, text in safetensors.metadata_of(shard).items()}
    return safetensors.with_metadata(OrderedDict((key, found[name][key]) for key, name in places.items()), told)


def _shard(path: Path, budget: Budget) -> dict:
    try:
        budget.grow(size_of(path))
        _, root = _read(path, budget, shard=True)
    except OSError as error:
        raise Unreadable(f"the shard cannot be opened ({error.strerror})", "Put the shards beside the index", path=path) from None
    except ConversionError as error:
        raise error.at(path) from None
    if not isinstance(root, dict):
        raise Unreadable("the shard is not a state_dict", "Give the shards that the index was written with", path=path)
    return root


__all__ = ["TorchFile", "files_of", "read", "shards"]
