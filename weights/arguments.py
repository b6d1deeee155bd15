"""What the public functions of this package take, as `port_jax.arguments` says it, with errors of this package."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from port_jax import arguments
from port_jax.arguments import Kind
from weights.errors import Usage

F = TypeVar("F", bound=Callable[..., object])


def takes(**kinds: Kind) -> Callable[[F], F]:
    """A decorator that checks arguments by name. Raises Usage."""
    return arguments.takes(lambda error, found, wanted: Usage(found, f"Give {wanted}"), **kinds)


__all__ = ["takes"]
