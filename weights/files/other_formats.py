"""Files and folders that are not torch checkpoints, named for what they are, with what to do about it."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path

from weights.errors import ConversionError, Unreadable, Usage, shown

PART = ".distcp"
HEAD = 4096
"""Bytes of a file by which it is recognised."""
GIVE = "Give the file that torch.save wrote"
CONVERTED = "a converted checkpoint, not a torch file", "Use weights.restore, or hyperport export to get the torch file back"
_CALL = "torch.distributed.checkpoint.format_utils.dcp_to_torch_save(FOLDER, FILE)"
JOIN = f"Join it in Python with {_CALL}, and give FILE"
GATHER = (
    f"Save it in the training program with torch.distributed.checkpoint, and join that with {_CALL}; or save what "
    "torch.distributed.checkpoint.state_dict.get_model_state_dict gives with StateDictOptions(full_state_dict=True)"
)
"""What to do with a folder of torch.distributed.checkpoint, and with a file in which one process of several saved its part."""
_UNPACK = "Unpack it, and give the checkpoint in it"
_TENSORFLOW = "Convert it to a torch checkpoint, or give the one that it was made from"
_BEGINNINGS = (
    (b"version https://git-lfs", "a pointer of git-lfs to a file", "Run git lfs pull in its repository, or download the file"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file, such as Keras writes", _TENSORFLOW),
    (b"GGUF", "a GGUF file of llama.cpp", "Give the checkpoint that it was made from"),
    (b"\x93NUMPY", "a single array of numpy", GIVE),
    (b"\x1f\x8b", "a file packed by gzip", _UNPACK),
    (b"BZh", "a file packed by bzip2", _UNPACK),
    (b"\xfd7zXZ\0", "a file packed by xz", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "a file packed by zstd", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"Rar!", "a rar archive", _UNPACK),
)
_MARKUP = (b"<!doctype", b"<html", b"<head", b"<?xml", b"<error")
_TENSORFLOW_NAME = re.compile(r".*\.(index|data-\d{5}-of-\d{5}|pb|tflite)")
_GLOBAL = re.compile(
    rb"c([A-Za-z_][\w.]*)\n([A-Za-z_]\w*)\n|\x8c(.)([A-Za-z_][\w.]*)(?:\x94)?\x8c(.)([A-Za-z_]\w*)(?:\x94)?\x93", re.DOTALL
)
INDEX = ".index.json"
PIECE = re.compile(r"(.*?)-?\d+-of-0*([1-9]\d*)\.(?:safetensors|bin|pth?|ckpt)")
"""The name of a shard: what all begin with, and how many there are."""
_OTHER = ("optimizer", "scheduler", "training_args", "rng_state", "scaler")
"""What trainers write beside a model in files of their own."""
_MODELS = (".pth", ".pt", ".ckpt", ".bin", ".safetensors")


def of_file(path: Path, head: bytes) -> ConversionError:
    """The error for a file that is no checkpoint, by its first bytes and its name."""
    what, remedy = _file(path, head)
    return Unreadable(f"{what}, not a checkpoint", remedy)


def _file(path: Path, head: bytes) -> tuple[str, str]:
    if path.suffix == PART:
        return "a part of a folder that torch.distributed.checkpoint wrote", JOIN
    for beginning, what, remedy in _BEGINNINGS:
        if head.startswith(beginning):
            return what, remedy
    if not head:
        return "an empty file", GIVE
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_MARKUP):
        return "a web page, as after a download that failed", "Download the file again, by the address of the file itself"
    if head[257:262] == b"ustar":
        return "a tar archive", _UNPACK
    if _TENSORFLOW_NAME.fullmatch(path.name):
        return "a file of TensorFlow", _TENSORFLOW
    if path.suffix == ".onnx" or (head.startswith(b"\x08") and b"pytorch" in head[:64]):
        return "an ONNX graph", "Give the checkpoint that it was exported from"
    classes = _classes(head)
    if head.startswith(b"\x80") or (classes and head.startswith((b"c", b"("))):
        return f"a pickle that torch.save did not write{classes}", GIVE
    if head.lstrip()[:1] in (b"{", b"["):
        return "a JSON file", "If it is the model's configuration, give it with --config (config=...) beside the checkpoint"
    if not re.search(rb"[^\t\n\r\x20-\x7e\x80-\xff]", head):
        return "a text file", GIVE
    return "neither one of torch's formats nor safetensors", GIVE


def of_zip(names: Collection[str]) -> ConversionError:
    """The error for a zip archive that no torch wrote, by the names of its entries."""
    tops, remedy = {name.partition("/")[0] for name in names}, GIVE
    inside = next((name for name in names if name.endswith(_MODELS)), None)
    if "model.weights.h5" in tops:
        what, remedy = "a model of Keras", _TENSORFLOW
    elif "MAR-INF" in tops:
        what, remedy = "an archive of TorchServe", _UNPACK
    elif inside is not None:
        what, remedy = f"a zip archive that contains {shown(inside)}", _UNPACK
    elif names and all(name.endswith(".npy") for name in names):
        what = "arrays of numpy (.npz), not a checkpoint"
    else:
        what = "a zip file without data.pkl"
    return Unreadable(what, remedy)


RUN = "Export it first: hyperport export FOLDER back.pth --like CONVERTED (weights.restore(...).after(folder))"


def is_run(path: str | Path) -> bool:
    """Whether a path is a folder in which `port_jax.training.fit` saves states, and none that `convert` wrote."""
    return os.path.isdir(Path(path, "checkpoints")) and not os.path.exists(Path(path, "torch.json"))


def of_folder(path: Path) -> ConversionError:
    """The error for a folder that is given for a file."""
    names = {child.name for child in path.iterdir()} if path.is_dir() else set()
    if ".metadata" in names or any(name.endswith(PART) for name in names):
        return Unreadable("a folder that torch.distributed.checkpoint wrote", JOIN)
    if {"torch.json", "config.json", "report.json"} <= names or ".hyperport.new" in names:
        return Usage(*CONVERTED)
    if is_run(path):
        return Usage("the folder of a run of port_jax.training.fit", RUN)
    if {"saved_model.pb", "checkpoint"} & names:
        return Unreadable("a folder of TensorFlow", _TENSORFLOW)
    if "data.pkl" in names:
        return Unreadable("a torch file that somebody has unpacked", "Give the file itself")
    inside = sorted(name for name in names if name.endswith((INDEX, *_MODELS)) and not (name.startswith(_OTHER) or PIECE.fullmatch(name)))
    inside.sort(key=lambda name: not name.endswith(INDEX))
    return Unreadable("a folder, not a file", f"Give a checkpoint in it, {shown(inside[0])} for example" if inside else GIVE)


def require_whole(path: Path) -> None:
    """Usage for one shard of several: of a model in parts, it is only a part."""
    found = PIECE.fullmatch(path.name)
    if found is None or int(found[2]) < 2:
        return
    beside = sorted(each.name for each in path.parent.glob(f"*{INDEX}") if each.name.startswith(found[1]))
    remedy = (
        f"Give the index beside it, {shown(beside[0])}"
        if beside
        else f"Put the other shards and their {INDEX} beside it, and give that; or rename the file, if it is the whole model"
    )
    raise Usage(f"one of the {int(found[2])} shards of a model", remedy)


def _classes(head: bytes) -> str:
    """The first classes that a pickle names, for the message."""
    found: list[str] = []
    for match in _GLOBAL.finditer(head):
        module, name = (match[1], match[2]) if match[1] else (match[4], match[6])
        full = f"{module.decode()}.{name.decode()}"
        if full not in found:
            found.append(full)
    return f" (it contains a {found[0]:.100})" if found else ""


__all__ = ["CONVERTED", "GATHER", "GIVE", "HEAD", "PART", "RUN", "is_run", "of_file", "of_folder", "of_zip", "require_whole"]
