"""Several optimizers over disjoint parameters as one optax transformation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from weights.types import OptState, Params, Transformation


class SeveralState(NamedTuple):
    """The states of several optimizers, by the place of each in its file."""

    optimizers: dict[str, OptState]


def together(parts: Mapping[str, Transformation], confine: Callable[[Params], Params] | None = None) -> Transformation:
    """One transformation of several, each of which gives zeros for the parameters that it does not move; of one, that one itself.

    They move in order, as in a training loop that calls `step` of one after the other. `optax.partition` hides from each the parameters of
    the others; here each sees all of them, so that points follow a curvature which another optimizer has moved. confine: what puts the
    parameters within their bounds before a step, see `Port`.
    """
    from port_jax.optim.confined import confined

    moving = next(iter(parts.values())) if len(parts) == 1 else _several(parts)
    return moving if confine is None else confined(moving, confine)


def _several(parts: Mapping[str, Transformation]) -> Transformation:
    import jax
    import optax

    def init(params: Any) -> SeveralState:
        return SeveralState({name: part.init(params) for name, part in parts.items()})

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, SeveralState]:
        if params is None:
            raise ValueError("the optimizers move points: call update(gradients, state, params)")
        moved, states, changes = params, {}, None
        for name, part in parts.items():
            change, states[name] = part.update(updates, state.optimizers[name], moved, **extra)
            moved = jax.tree.map(lambda p, u: p + u, moved, change)
            changes = change if changes is None else jax.tree.map(lambda a, b: a + b, changes, change)
        assert changes is not None
        return changes, SeveralState(states)

    return optax.GradientTransformationExtraArgs(init, update)


def states_of(state: OptState, places: tuple[str, ...]) -> dict[str, OptState]:
    """The state of each optimizer at these places in the state of all of them."""
    return dict.fromkeys(places, state) if len(places) < 2 else {place: state.optimizers[place] for place in places}


__all__ = ["SeveralState", "states_of", "together"]
