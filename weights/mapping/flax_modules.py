"""What a port's flax module has: its variables with their shapes, and the classes of its modules, without computing anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax

from weights.errors import ConversionError, Unmatched
from weights.mapping.entries import flatten
from weights.mapping.port import Functions, Port
from weights.mapping.standard import Target
from weights.types import Hyperparameters, Model

if TYPE_CHECKING:
    from flax.linen.module import InterceptorContext

OWN = str(Path(__file__).parents[1])


def described(port: Port, settings: Hyperparameters) -> tuple[Model, Target | None]:
    """The model and what it consists of; None for functions that do not say.

    Raises Unmatched where no model can be made, and where it refuses the inputs.
    """
    if port.settle is not None:
        try:
            model = port.build(settings)
            return model, _target(model, port.example(settings))
        except (ValueError, TypeError) as error:
            raise Unmatched(f"no {port.name} can be built from the settings: {error}", "Correct the configuration") from None
    try:
        model, example = port.build(settings), port.example(settings)
    except ConversionError:
        raise
    except Exception as error:  # a person's code may fail in any way
        raise Unmatched(f"the port's model or inputs cannot be made: {said(error)} ({port.at})", "Correct the port") from None
    if isinstance(model, Functions) and model.start is None:
        return model, None
    try:
        return model, _target(model, example)
    except ConversionError:
        raise
    except Exception as error:  # a person's code may fail in any way
        given = ", ".join(f"{getattr(x, 'dtype', type(x).__name__)} {list(getattr(x, 'shape', ()))}" for x in example) or "none"
        raise Unmatched(
            f"the model refuses the port's inputs ({given}): {said(error)} ({port.at})",
            "Give inputs= as the model takes them: an array, a tuple of arrays, or a dict in the order of its arguments",
        ) from None


def said(error: BaseException) -> str:
    """An exception in one line, with the place in the code where it arose."""
    trace, at = error.__traceback__, ""
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if not any(part in name for part in ("site-packages", "/lib/python")) and not name.startswith(("<", OWN)):
            at = f"{name.rpartition('/')[2]}:{trace.tb_lineno}"
        trace = trace.tb_next
    if isinstance(error, SyntaxError) and error.filename:
        at = f"{error.filename.rpartition('/')[2]}:{error.lineno}"
    text = str(error).strip().split("\n")[0]
    return f"{type(error).__name__}: {text:.300}" + f" at {at}" * bool(at)


def _target(model: Model, example: tuple) -> Target:
    from flax import linen as nn

    classes: dict[str, type] = {}

    def seen(call: Callable[..., Any], args: Any, kwargs: Any, context: InterceptorContext) -> Any:
        classes["/".join(context.module.path)] = type(context.module)
        return call(*args, **kwargs)

    with nn.intercept_methods(seen):
        shapes = jax.eval_shape(model.init, jax.random.key(0), *example)
    flat: Mapping[str, Any] = flatten(shapes)  # pyright: ignore[reportArgumentType]
    return Target({path: tuple(s.shape) for path, s in flat.items()}, classes)


__all__ = ["described", "said"]
