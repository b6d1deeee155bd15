"""Back to torch: a file's optimizer section with the present state, in the file's dialect, layouts and forms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from weights.errors import Unmatched
from weights.files.pickles.standins import unwrapped
from weights.files.tensors import Tensor, contiguous_stride, deferred, from_array, same_bits
from weights.mapping.entries import Entry, inverse
from weights.optim.forms import in_file, unwrapped_state, wrapped_as
from weights.optim.layouts import forward_shape, path_of
from weights.optim.plan import Plan
from weights.types import OptState


def save(raw: Mapping, plan: Plan, state: OptState, entries: Sequence[Entry], *, kept: Mapping[int, np.ndarray],
         scheduler: Mapping | None = None) -> tuple[dict, Mapping | None]:  # fmt: skip
    """The optimizer's section and the scheduler's with the numbers of `state`.

    raw, scheduler: the sections as the file has them. kept: by the id of its tensor in `raw`, what the state does not contain (see
    `unheld`). Raises Unmatched for a state that the file's format cannot express.
    """
    from port_jax.optim.from_torch.back import written
    from port_jax.optim.from_torch.sections import Section

    found, translation = _entries(plan, entries), plan.translation
    old = [{path_of(found[i]): raw["state"].get(i, {}) for i in listed} for listed in plan.listed]
    section = Section(raw["param_groups"], [[path_of(found[i]) for i in listed] for listed in plan.listed], old)
    try:
        new, timed = written(section, translation, state, scheduler)
    except ValueError as error:
        raise Unmatched(
            str(error), "Save the checkpoint with ckpt.save, which keeps the whole state, or convert from a file of geoopt 0.5.1"
        ) from None
    states: dict[int, dict] = {}
    for listed, before, after in zip(plan.listed, old, new.entries, strict=True):
        for index in listed:
            path = path_of(found[index])
            states[index] = _stored(before[path], after[path], found[index], kept)
    order = [*raw["state"], *sorted(i for i in states if i not in raw["state"] and states[i])]
    groups = [
        {name: _setting(group.get(name), value, kept) for name, value in changed.items()}
        for group, changed in zip(raw["param_groups"], new.groups, strict=True)
    ]
    return {**raw, "state": {i: states.get(i, {}) for i in order}, "param_groups": type(raw["param_groups"])(groups)}, timed


def unheld(raw: Mapping, plan: Plan, state: OptState, entries: Sequence[Entry]) -> list[Tensor]:
    """The file's tensors that the state does not contain, which are kept so that nothing is lost: those of parameters that are not moved,
    those that the next step does not read, and those of which the state has one number for several that differ in a bit."""
    from port_jax.optim.from_torch.back import held
    from port_jax.optim.from_torch.dialects import Dialect

    by_index, translation = _entries(plan, entries), plan.translation
    found = []
    for number, indexes in enumerate(plan.listed):
        place = 0 if translation.kind.search else number
        group, (_, buffers, _) = translation.groups[place], held(translation, state, place)
        for index in indexes:
            entry = by_index[index]
            stored = unwrapped_state(raw["state"].get(index, {}))
            path, own = path_of(entry), {name: x for name, x in stored.items() if isinstance(x, Tensor)}
            if path not in group.members:
                found += own.values()
                continue
            written = {*buffers, *(["step"] if group.dialect is Dialect.PARAMETER else [])}
            found += [tensor for name, tensor in own.items() if name not in written]
            found += [own[name] for name, tree in buffers.items() if name in own and not _held_whole(tree[path], own[name], entry)]
    return found


def _held_whole(array: ArrayLike, tensor: Tensor, entry: Entry) -> bool:
    """Whether the file's tensor can be recovered from the state's array, bit for bit."""
    shape = forward_shape(entry)
    if np.shape(array) == shape:
        return True
    return same_bits(np.broadcast_to(np.asarray(array), shape), entry.layout.forward(tensor.array()))


def _entries(plan: Plan, entries: Sequence[Entry]) -> dict[int, Entry]:
    by_key = {entry.key: entry for entry in entries}
    return {index: by_key[key] for index, key in plan.keys.items()}


def _stored(before: Mapping, after: Mapping, entry: Entry, kept: Mapping[int, np.ndarray]) -> dict[str, object]:
    """What is kept beside a parameter as the file has it: buffers in torch's layout, made when they are written; counts in their form."""
    new: dict[str, object] = {}
    for name, value in after.items():
        old = before.get(name)
        if value is old:
            new[name] = _as_kept(value, kept)
        elif name == "step":
            new[name] = in_file(old, value)
        else:
            new[name] = wrapped_as(old, _buffer(name, unwrapped(old), np.asarray(value), entry, kept))
    return new


def _buffer(name: str, old: object, array: np.ndarray, entry: Entry, kept: Mapping[int, np.ndarray]) -> Tensor:
    whole = np.broadcast_to(array, forward_shape(entry))
    first = kept.get(id(old)) if array.shape != whole.shape else None
    if first is not None and (first.dtype != array.dtype or not _same_once(first, entry, array)):
        first = None

    def back() -> np.ndarray:
        return inverse(entry, whole, path_of(entry)) if first is None else first  # untouched since it was read

    if not isinstance(old, Tensor):  # a real second moment of complex points is complex in torch
        dtype = np.result_type(array.dtype, np.complex64) if entry.dtype.startswith("complex") else array.dtype
        return deferred(dtype, entry.shape, lambda: back().astype(dtype))
    if old.dtype != str(array.dtype):
        raise Unmatched(f"{name} of {entry.key!r} is {array.dtype}; in the file it is {old.dtype}", "Export a state of the same types")
    return replace(_strided(entry.shape, array.dtype, back, old.stride), requires_grad=old.requires_grad)


def _strided(shape: tuple[int, ...], dtype: np.dtype, back: Callable[[], np.ndarray], stride: Sequence[int]) -> Tensor:
    """The tensor with its elements in the order that it had in the file: moments take that of the gradients, which may be transposed."""
    order = sorted(range(len(shape)), key=lambda axis: -stride[axis])
    turned = tuple(shape[axis] for axis in order)
    if 0 in shape or tuple(stride[axis] for axis in order) != contiguous_stride(turned):
        return deferred(dtype, shape, back)
    return replace(deferred(dtype, turned, lambda: back().transpose(order)), shape=shape, stride=tuple(stride))


def _same_once(first: np.ndarray, entry: Entry, array: np.ndarray) -> bool:
    """Whether the state still has the numbers of the file, one for all along an axis."""
    once = entry.layout.forward(first)[tuple(slice(0, 1) if n == 1 else slice(None) for n in array.shape)]
    return same_bits(np.array(once), array)


def _setting(old: object, value: object, kept: Mapping[int, np.ndarray]) -> object:
    """A group's setting in the form that the file has it; a learning rate may be a tensor."""
    if value is old:
        return _as_kept(value, kept)
    return in_file(old, value)


def _as_kept(value: object, kept: Mapping[int, np.ndarray]) -> object:
    """What has not moved: with the elements that were kept, where it is a tensor whose file may be gone."""
    tensor = unwrapped(value)
    if not isinstance(tensor, Tensor) or id(tensor) not in kept:
        return value
    return wrapped_as(value, replace(from_array(kept[id(tensor)]), requires_grad=tensor.requires_grad))


__all__ = ["save", "unheld"]
