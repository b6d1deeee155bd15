"""What the programs of this folder have in common on the command line."""

from __future__ import annotations

import argparse
import os
from pathlib import Path


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The arguments, with --out and --simulate. To be called before JAX is imported, as simulated devices are a matter of its start."""
    parser.add_argument("--out", type=Path, help="a folder, which all processes see; a run there goes on where it ended")
    parser.add_argument("--simulate", type=int, help="so many devices of one processor, to try things out")
    given = parser.parse_args()
    if given.simulate is not None:
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={given.simulate}"
        os.environ.update(XLA_FLAGS=flags, JAX_PLATFORMS="cpu")
    return given
