"""Reads a pickle as plain data and inert records (PEP 307, 3154 opcodes): nothing of the file is called."""

from __future__ import annotations

import struct

from weights.errors import ConversionError, Refused, Unreadable
from weights.files.pickles.machine import MAX_BYTES, Machine
from weights.files.pickles.opcodes import OPERATIONS

MAX_OPERATIONS = 4_000_000
_DAMAGE = (
    IndexError,
    KeyError,
    ValueError,
    TypeError,
    AttributeError,
    OverflowError,
    struct.error,
    MemoryError,
    RecursionError,
)


def unpickled(machine: Machine) -> object:
    """The object of the pickle that starts where the machine is. Refused if it would call anything unknown, Unreadable if it is damaged."""
    try:
        return _run(machine)
    except ConversionError:
        raise
    except _DAMAGE as error:
        where = f"the pickle is damaged at byte {machine.position} ({type(error).__name__})"
        raise Unreadable(where, "Copy or save it again") from None


def _run(machine: Machine) -> object:
    operations = 0
    data = machine.data
    while True:
        if machine.position >= machine.limit:
            short = machine.limit == len(data)
            cause = "ends before its pickle does" if short else f"holds a pickle of more than {MAX_BYTES >> 20} MiB"
            raise (Unreadable if short else Refused)(f"the file {cause}", "Copy or save it again")
        code = data[machine.position]
        machine.position += 1
        operations += 1
        if operations > MAX_OPERATIONS:
            raise Refused(f"the pickle takes more than {MAX_OPERATIONS} operations", "Keep the tensors and leave the rest out")
        if code == 0x2E:  # STOP
            if len(machine.stack) != 1:
                raise Unreadable(f"the pickle leaves {len(machine.stack)} objects", "The file is damaged")
            return machine.stack[0]
        operation = OPERATIONS.get(code)
        if operation is None:
            raise Refused(
                f"the pickle uses operation {bytes([code])!r}, which no torch checkpoint needs",
                "Save it again with torch.save",
            )
        operation(machine)
