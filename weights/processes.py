"""Outputs of a program that runs in several processes: one of them writes, and all of them learn what came of it."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from weights.contents import Contents
from weights.errors import ConversionError, NotWritten, Usage

C = TypeVar("C", bound=Contents)
LONGEST = 2000
"""Bytes of a message that processes get from the one that writes."""


def gathered(contents: C) -> C:
    """The contents with whole arrays in each process, where they are split over the devices of several."""
    if not jax.distributed.is_initialized():
        return contents
    variables, opt_state, constants = jax.tree.map(_whole, (contents.variables, contents.opt_state, contents.constants))
    return replace(contents, variables=variables, opt_state=opt_state, constants=constants)


def written_by_one(write: Callable[[], None], path: str | Path) -> None:
    """Calls `write` in the first process alone; the others wait for it. Each process has to come here, with the same path.

    Errors: Usage in all of them if the paths differ. The first process raises the error of `write`, the others NotWritten with its words.
    """
    if not jax.distributed.is_initialized():
        write()
        return
    sums = multihost_utils.process_allgather(np.uint32(zlib.crc32(os.fsencode(path)))).reshape(-1)
    if len(others := np.flatnonzero(sums != sums[0])):
        raise Usage(f"process {others[0]} would write to another path than process 0", "Give the same path in each process", path=path)
    failure: BaseException | None = None
    if jax.process_index() == 0:
        try:
            write()
        except BaseException as error:  # whatever it is, it is raised again when the others know of it
            failure = error
    words = failure.cause if isinstance(failure, ConversionError) else repr(failure)
    remedy = failure.remedy if isinstance(failure, ConversionError) else ""
    said = "" if failure is None else f"process 0 did not write it: {words}\0{remedy}"
    told = multihost_utils.broadcast_one_to_all(np.frombuffer(said.encode()[:LONGEST].ljust(LONGEST, b"\1"), np.uint8))
    if failure is not None:
        raise failure
    if text := bytes(np.asarray(told, np.uint8)).rstrip(b"\1").decode(errors="replace"):
        cause, _, remedy = text.partition("\0")
        raise NotWritten(cause, remedy, path=path)


def _whole(x: object) -> object:
    if not isinstance(x, jax.Array) or x.is_fully_addressable:
        return x
    return np.asarray(x.addressable_data(0)) if x.is_fully_replicated else multihost_utils.process_allgather(x, tiled=True)


__all__ = ["gathered", "written_by_one"]
