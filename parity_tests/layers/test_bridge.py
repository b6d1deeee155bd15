"""Every layer to build with, as a module of NNX through flax's bridge: the same numbers, and the collections by their names."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from parity_tests import draws, slow
from parity_tests.layers.to_build_with import BALL, TABLE
from port_jax import layers

KEPT = ("MobiusLinear", "LorentzBatchNorm", "PointEmbedding")


ROWS = slow.all_but(lambda row: type(row[0]).__name__ in KEPT, TABLE)


@pytest.mark.parametrize(("layer", "manifold", "shapes"), ROWS, ids=[type(layer).__name__ for layer, *_ in TABLE])
def test_nnx_gives_the_same_numbers(layer: Any, manifold: Any, shapes: Any):
    """A layer as an NNX module, and by linen with the variables that NNX has made; in one program."""
    rng = draws.rng(0)

    @jax.jit
    def both(tangents: Any) -> Any:
        inputs = [manifold.from_tangent0(u) for u in tangents] or [jnp.array([0, 2])]
        model = nnx.bridge.ToNNX(layer, rngs=nnx.Rngs(draws.key(0))).lazy_init(manifold, *inputs)
        kinds = {"params": nnx.Param, "batch_stats": nnx.BatchStat}
        variables = {name: nnx.to_pure_dict(nnx.state(model, kind)) for name, kind in kinds.items()}
        return model(manifold, *inputs), layer.apply(variables, manifold, *inputs)

    ours, theirs = both([0.5 * rng.normal(size=s) for s in shapes])
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-13)


def test_nnx_keeps_running_statistics():
    x = BALL.from_tangent0(0.5 * draws.rng(1).normal(size=(6, 3)))

    @jax.jit
    def trained(x: Any) -> Any:
        model = nnx.bridge.ToNNX(layers.MidpointBatchNorm(), rngs=nnx.Rngs(draws.key(0))).lazy_init(BALL, x)
        start = nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))
        model(BALL, x, use_running_average=False, mutable=["batch_stats"])
        return start, nnx.to_pure_dict(nnx.state(model, nnx.BatchStat)), jnp.mean(BALL.dist2(BALL.weighted_midpoint(x)[None], x))

    start, after, var = trained(x)
    np.testing.assert_allclose(after["var"], 0.9 * start["var"] + 0.1 * var, rtol=1e-12)
    assert not np.any(start["mean"])
    assert np.all(after["mean"])
