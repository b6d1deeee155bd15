"""The fixture `parity` for a person's own tests. It needs pytest, torch and geoopt, and nothing else of this library's own suite.

In `conftest.py`: `pytest_plugins = ["weights.proof.fixture"]`. It is no entry point of pytest, which would load it in every test of an
environment that has the converter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from weights.mapping.port import Port
    from weights.proof.parity import Parity
    from weights.types import TorchModule


@pytest.fixture
def parity() -> Iterator[Callable[..., Parity]]:
    """`weights.parity`, which fails the test where the sides differ: parity(port, original, inputs=None, **options).

    The failure is the explanation: the layer, the index, the kind of error. With `mutants=True` a planted error that the inputs do not show
    fails the test, too. JAX has float64 during the test.
    """
    import jax

    import weights

    def compared(port: Port, original: TorchModule | str | Path, inputs: Any = None, **options: Any) -> Parity:
        found = weights.parity(port, original, inputs, **options)
        if not found.ok or found.missed:
            pytest.fail(str(found), pytrace=False)
        return found

    before = jax.config.read("jax_enable_x64")
    jax.config.update("jax_enable_x64", True)
    yield compared
    jax.config.update("jax_enable_x64", before)


__all__ = ["parity"]
