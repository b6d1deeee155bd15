"""Every random draw of the suite. `HYPERPORT_SEED=n` shifts all of them; what is drawn depends on nothing but it and the test's name.

Not on the order of the tests, on what ran before, or on the number of workers. Without the variable the shift is 0.
"""

from __future__ import annotations

import os
import sys
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

# jax, torch and Hypothesis are imported by what needs them: processes that tests start have not all of them.
if TYPE_CHECKING:
    import jax
    import torch

SHIFT = int(os.environ.get("HYPERPORT_SEED", "0"))
_STRIDE = 1_000_003
"""More than any seed in the suite, so that no two shifts share a draw."""
_streams: list[tuple[int, np.random.Generator]] = []
_running = False


def seed(n: int) -> int:
    """The seed n of every library, shifted; below 2**31, which all of them take."""
    return (n + _STRIDE * SHIFT) % 2**31


def rng(n: int) -> np.random.Generator:
    """A new generator of numpy."""
    return np.random.default_rng(seed(n))


def fixed(n: int) -> np.random.Generator:
    """A generator that is never shifted: for numbers that are compared with recorded ones."""
    return np.random.default_rng(n)


def key(n: int, impl: str | None = None) -> jax.Array:
    """A key of jax."""
    import jax

    return jax.random.key(seed(n), impl=impl)


def seed_torch(n: int) -> None:
    """Seeds torch's global generator."""
    import torch

    torch.manual_seed(seed(n))


def generator(n: int) -> torch.Generator:
    """A new generator of torch."""
    import torch

    return torch.Generator().manual_seed(seed(n))


def given(n: int, /, **strategies: Any) -> Callable:
    """`hypothesis.given`, seeded."""
    import hypothesis
    from hypothesis.internal.conjecture import providers

    # Hypothesis mixes in constants that it finds in the modules loaded so far, which differ between a file alone and the suite.
    providers.HypothesisProvider._local_constants = providers.Constants()  # pyright: ignore[reportPrivateImportUsage]
    return lambda test: hypothesis.seed(seed(n))(hypothesis.given(**strategies)(test))


def stream(n: int) -> np.random.Generator:
    """A module's generator, which `restart` puts back at the start of each test; while modules are imported it is `rng(n)`."""
    if _running:
        raise RuntimeError("a stream made while tests run would miss its first restart: import its module at the top of the file")
    made = rng(n)
    _streams.append((n, made))
    return made


def restart(test: str) -> None:
    """Puts the streams and the global generators of numpy and torch where this test, and no other, starts."""
    global _running
    _running = True
    number = zlib.crc32(test.encode())
    for n, made in _streams:
        made.bit_generator.state = np.random.PCG64([seed(n), number]).state
    np.random.seed([seed(0), number])
    if torch := sys.modules.get("torch"):  # conftest imports it where it is installed
        torch.manual_seed(seed(number % 2**31))
