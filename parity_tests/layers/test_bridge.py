"""Every layer to build with, as a module of NNX through flax's bridge: the same numbers, and the collections by their names."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from parity_tests import draws
from parity_tests.layers.to_build_with import BALL, TABLE
from port_jax import layers


def test_nnx_gives_the_same_numbers():
    """Each layer as an NNX module, and by linen with the variables that NNX has made; in one program."""
    rng = draws.rng(0)
    tangents = [[0.5 * rng.normal(size=s) for s in shapes] for _, _, shapes in TABLE]

    @jax.jit
    def both(tangents: Any) -> Any:
        pairs = []
        for (layer, manifold, _), given in zip(TABLE, tangents, strict=True):
            inputs = [manifold.from_tangent0(u) for u in given] or [jnp.array([0, 2])]
            model = nnx.bridge.ToNNX(layer, rngs=nnx.Rngs(0)).lazy_init(manifold, *inputs)
            kinds = {"params": nnx.Param, "batch_stats": nnx.BatchStat}
            variables = {name: nnx.to_pure_dict(nnx.state(model, kind)) for name, kind in kinds.items()}
            pairs.append((model(manifold, *inputs), layer.apply(variables, manifold, *inputs)))
        return pairs

    for (layer, _, _), (ours, theirs) in zip(TABLE, both(tangents), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-13, err_msg=type(layer).__name__)


def test_nnx_keeps_running_statistics():
    x = BALL.from_tangent0(0.5 * draws.rng(1).normal(size=(6, 3)))

    @jax.jit
    def trained(x: Any) -> Any:
        model = nnx.bridge.ToNNX(layers.MidpointBatchNorm(), rngs=nnx.Rngs(0)).lazy_init(BALL, x)
        start = nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))
        model(BALL, x, use_running_average=False, mutable=["batch_stats"])
        return start, nnx.to_pure_dict(nnx.state(model, nnx.BatchStat)), jnp.mean(BALL.dist2(BALL.weighted_midpoint(x)[None], x))

    start, after, var = trained(x)
    np.testing.assert_allclose(after["var"], 0.9 * start["var"] + 0.1 * var, rtol=1e-12)
    assert not np.any(start["mean"])
    assert np.all(after["mean"])
