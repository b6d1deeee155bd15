"""The processes of one program: how each of them finds the others."""

from __future__ import annotations

import os

import jax

from port_jax.arguments import TEXT, optional, takes, whole
from port_jax.training.state import TrainingError

__all__ = ["distributed"]

VARIABLES = {"address": "JAX_COORDINATOR_ADDRESS", "processes": "JAX_NUM_PROCESSES", "index": "JAX_PROCESS_ID"}


@takes(address=optional(TEXT), processes=optional(whole(1)), index=optional(whole(0)))
def distributed(address: str | None = None, processes: int | None = None, index: int | None = None) -> tuple[int, int]:
    """Joins the processes of a program, before its first computation, and returns the index of this one and their number.

    The same line is right on a laptop and on a cluster: what is not given is taken from the variables JAX_COORDINATOR_ADDRESS,
    JAX_NUM_PROCESSES and JAX_PROCESS_ID, and then from SLURM, Open MPI, TPU pods or Kubernetes (with the package `kubernetes`), as
    `jax.distributed.initialize` finds them. Where nothing says that there are several, this is the only process. A second call changes
    nothing.

    Arguments:
        address: a host and a port of the process with index 0: "node0:1234".
        processes: their number.
        index: that of this process, from 0.

    Errors: ValueError for an index that the number of processes does not have, for a variable that is no whole number, and where only a
    part is known. TrainingError if something was computed before.
    """
    if jax.distributed.is_initialized():
        return jax.process_index(), jax.process_count()
    address = address or os.environ.get(VARIABLES["address"])
    processes, index = (_number(name, given) for name, given in (("processes", processes), ("index", index)))
    if processes is not None and index is not None and index >= processes:
        raise ValueError(f"index is {index}, and processes is {processes}; give an index from 0 to {processes - 1}")
    if processes == 1:
        return 0, 1
    if jax.config.values["jax_platforms"] == "cpu":
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(address, processes, index)
    except RuntimeError as error:
        raise TrainingError(f"the processes cannot be joined ({str(error).splitlines()[0]}); make distributed() the first call") from None
    except ValueError as error:
        known = {"address": address, "processes": processes, "index": index}
        missing = [name for name, value in known.items() if value is None]
        if len(missing) == len(known):
            return 0, 1
        if not missing:
            raise
        raise ValueError(
            f"{' and '.join(name for name in known if name not in missing)} given, {' and '.join(missing)} not known ({error}); give all "
            f"three to distributed, or set {', '.join(VARIABLES[name] for name in missing)}"
        ) from None
    return jax.process_index(), jax.process_count()


def _number(name: str, given: int | None) -> int | None:
    text = os.environ.get(VARIABLES[name])
    if given is not None or not text:
        return given
    if not text.isdecimal():
        raise ValueError(f"{VARIABLES[name]} is {text!r}; set it to a whole number")
    return int(text)
