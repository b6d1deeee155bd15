"""Training mode with masks that a test knows, so that a formula can say where they belong and how they are scaled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parity_tests import draws


def with_known_masks(run: Callable[[Any], Any], params: Any, rates: Sequence[float], seed: int) -> tuple[Any, list[np.ndarray]]:
    """`run(params)`, compiled, and the masks of what is kept in it, in the order in which they are drawn.

    They are numpy's, in place of `jax.random.bernoulli`'s. `rates` are the rates of dropout that have to be asked for, one a mask, and
    each mask has to have a key of its own: two with one key would be the same mask.
    """
    rng, asked, masks, keys = draws.rng(seed), [], [], []

    def bernoulli(key: Any, p: Any = 0.5, shape: Any = None) -> Any:
        asked.append(1 - p)
        masks.append(rng.random(shape) < p)
        keys.append(jax.random.key_data(key))
        return jnp.asarray(masks[-1])

    def with_keys(params: Any) -> tuple[Any, Any]:
        out = run(params)
        return out, jnp.stack(keys)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax.random, "bernoulli", bernoulli)
        out, drawn = jax.jit(with_keys)(params)
    assert asked == pytest.approx(list(rates), abs=1e-12)
    assert len({tuple(key) for key in np.asarray(drawn).tolist()}) == len(masks)
    return out, masks
