"""What has to be true of a result: the same numbers as before, and as torch reads; of a message: one line, with its file and a remedy."""

from __future__ import annotations

import pickletools
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors
import torch

from weights.errors import LONGEST, ConversionError, Usage
from weights.files.reader import read
from weights.files.tensors import Tensor, same_bits

DEEP = 20


class Fault(Exception):
    """What is wrong with a result."""


def require(true: bool, what: str) -> None:
    """Raises Fault."""
    if not true:
        raise Fault(what)


def require_same(found: Mapping, expected: Mapping, where: str) -> None:
    """Raises Fault unless both have the same names, and under each the same array to the bit."""
    require(found.keys() == expected.keys(), f"{where} has {sorted(map(str, found))[:8]}, not {sorted(map(str, expected))[:8]}")
    for key, value in expected.items():
        require(same_bits(np.asarray(found[key]), np.asarray(value)), f"{where} has other numbers in {key}")


def wrong_message(error: ConversionError, folder: Path) -> str:
    """What is wrong with an error's message; "" if nothing is."""
    text = str(error)
    if not text.isprintable():
        return f"a message with control characters: {text!r:.300}"
    if len(text) > 2 * LONGEST + len(str(error.path)) + 20:
        return f"a message of {len(text)} characters: {text:.300}"
    of_an_argument = isinstance(error, Usage) and error.path is None  # which is wrong whatever the file
    if not (of_an_argument or text.startswith(str(folder))) or not error.remedy:
        return f"a message without file or remedy: {text:.300}"
    return ""


def require_torch_agrees(path: Path) -> None:
    """Raises Fault where torch reads the file (weights only) and finds something else in it, and where it finds a view that is not inside
    of its storage. What it refuses for another reason is no matter."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = torch.load(path, weights_only=True)
    except Exception as error:  # whatever torch says of a file that it does not read
        require("out of bounds" not in str(error), f"a tensor is not inside of its storage: {error}")
        return
    _compared(read(path).root, theirs, "the file", 0)


def require_safetensors_agrees(path: Path) -> None:
    """Raises Fault where the library of the format refuses the file, or finds other numbers in it."""
    ours = read(path).root
    assert isinstance(ours, dict)
    try:
        with safetensors.safe_open(path, "pt") as file:
            theirs = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except safetensors.SafetensorError as error:
        require("invalid JSON" in str(error), f"it is read, and its own library says {error}")  # NaN is JSON for Python
        return
    _compared(ours, theirs, "the file", 0)


def require_sums(path: Path) -> None:
    """Raises Fault where the checksum of a member is wrong that somebody reads: an array, a pickle, or a storage that a pickle names."""
    with zipfile.ZipFile(path) as file:
        pickles = [info.filename for info in file.infolist() if info.filename.endswith("/data.pkl")]
        storages = set[str]()
        for name in pickles:
            _require_sum(file, name)
            storages |= {f"/data/{key}" for key in _strings(file.read(name))}
        for info in file.infolist():
            if info.filename.endswith(".npy") or any(info.filename.endswith(storage) for storage in storages):
                _require_sum(file, info.filename)


def _require_sum(file: zipfile.ZipFile, name: str) -> None:
    try:
        file.read(name)
    except (zipfile.BadZipFile, NotImplementedError) as error:
        require("CRC" not in str(error), f"it is read, although {error}")


def _strings(pickle: bytes) -> set[str]:
    """All that a pickle says: the keys of its storages are among them."""
    return {argument for _, argument, _ in pickletools.genops(pickle) if isinstance(argument, str)}


def _compared(ours: object, theirs: object, at: str, depth: int) -> None:
    if isinstance(theirs, torch.Tensor):
        if theirs.layout is not torch.strided or theirs.is_quantized:  # carried as what it is made of
            return
        if not isinstance(ours, Tensor):
            raise Fault(f"{at} is a tensor for torch")
        require(tuple(theirs.shape) == ours.shape, f"{at} has shape {ours.shape}, for torch {tuple(theirs.shape)}")
        require(f"torch.{ours.dtype}" == str(theirs.dtype), f"{at} is {ours.dtype}, for torch {theirs.dtype}")
        flat = theirs.detach().resolve_conj().resolve_neg().clone(memory_format=torch.contiguous_format).reshape(-1)
        raw = flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""
        require(np.ascontiguousarray(ours.array()).tobytes() == raw, f"{at} has other numbers for torch")
    elif isinstance(theirs, dict) and isinstance(ours, dict) and depth < DEEP:
        require(len(ours) == len(theirs), f"{at} has {len(ours)} entries, for torch {len(theirs)}")
        for key, value in theirs.items():
            if isinstance(key, (str, int)):
                require(key in ours, f"{at} has no {key!r:.80}")
                _compared(ours[key], value, f"{at}.{key!s:.80}", depth + 1)
    elif isinstance(theirs, (list, tuple)) and isinstance(ours, (list, tuple)) and depth < DEEP:
        require(len(ours) == len(theirs), f"{at} has {len(ours)} items, for torch {len(theirs)}")
        for number, (one, other) in enumerate(zip(ours, theirs)):
            _compared(one, other, f"{at}.{number}", depth + 1)
    elif type(theirs) in (int, float, str, bool):
        require(type(ours) is type(theirs), f"{at} is {type(ours).__name__}, for torch {type(theirs).__name__}")
        require(ours == theirs or theirs != theirs, f"{at} is {ours!r:.80}, for torch {theirs!r:.80}")
