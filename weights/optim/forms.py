"""The forms of numbers in a file: tensors of one number, and the plain numbers that they mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from weights.errors import Unmatched
from weights.files.pickles.standins import Record, unwrapped
from weights.files.tensors import Tensor, from_array


def plain(value: Any) -> Any:
    """A setting as plain Python data; a tensor of one number becomes that number."""
    if isinstance(value, Tensor):
        return value.array().reshape(-1)[0].item() if value.numel == 1 else value.array().tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def in_file(old: object, value: object) -> object:
    """A number in the form that it had in the file: a tensor where `old` is one. Arrays always become tensors.

    Raises Unmatched for a tensor of a type that numpy does not have.
    """
    if isinstance(old, Tensor):
        from weights.files.dtypes import NUMPY

        if old.dtype not in NUMPY:
            raise Unmatched(
                f"a setting of the optimizer has type {old.dtype}, which numpy does not have", "Make it a plain number in torch"
            )
        return from_array(np.asarray(value, NUMPY[old.dtype]).reshape(old.shape))
    return from_array(value) if isinstance(value, np.ndarray) else value


def unwrapped_state(state: Mapping[str, object]) -> dict[str, object]:
    """What an optimizer keeps of a parameter, tensors of HypLL's classes as the tensors inside of them."""
    return {name: unwrapped(value) for name, value in state.items()}


def wrapped_as(old: object, new: Tensor) -> object:
    """A tensor in the object of HypLL's class in which it was, if it was in one."""
    if not isinstance(old, Record):
        return new
    return Record(old.cls, old.args, {**old.attributes, "tensor": new}, old.items, old.called, old.listed)


__all__ = ["in_file", "plain", "unwrapped_state", "wrapped_as"]
