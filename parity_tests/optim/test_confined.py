"""Steps from parameters within their bounds, beside a loop of torch whose forward pass overwrites `p.data`."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from parity_tests import draws
from port_jax.manifolds import Euclidean
from port_jax.optim import confined, riemannian_adamw
from port_jax.primitives import in_place

MOST = 0.5


def test_steps_are_those_of_a_loop_that_clamps_in_its_forward_pass():
    """Some numbers begin beyond the bound, and steps lead others there; none is clamped after the last one."""
    start, targets = draws.rng(0).normal(size=6), 2 * draws.rng(1).normal(size=6)
    parameter = torch.nn.Parameter(torch.as_tensor(start.copy()))
    adam = torch.optim.AdamW([parameter], lr=0.3, weight_decay=0.1)
    for _ in range(7):
        adam.zero_grad()
        parameter.data = parameter.data.clamp(max=MOST)
        ((parameter - torch.as_tensor(targets)) ** 2).sum().backward()
        adam.step()

    def confine(params):
        return {"p": jnp.minimum(params["p"], MOST)}

    optimizer = confined(riemannian_adamw(0.3, weight_decay=0.1, manifolds=Euclidean()), confine)
    params = {"p": jnp.asarray(start)}
    state = optimizer.init(params)

    @jax.jit
    def step(params, state):
        slopes = jax.grad(lambda p: ((in_place(p["p"], confine(p)["p"]) - targets) ** 2).sum())(params)
        updates, state = optimizer.update(slopes, state, params)
        return optax.apply_updates(params, updates), state

    for _ in range(7):
        params, state = step(params, state)
    assert (start > MOST).any()
    assert (np.asarray(params["p"]) > MOST).any()
    np.testing.assert_allclose(params["p"], parameter.detach(), rtol=1e-12)


def test_parameters_have_to_be_given():
    optimizer = confined(optax.sgd(0.1), lambda params: params)
    with pytest.raises(ValueError, match="update"):
        optimizer.update({"p": jnp.ones(2)}, optimizer.init({"p": jnp.ones(2)}))


def test_a_value_in_place_of_another_keeps_its_derivatives():
    value, slope = jax.jvp(lambda x: in_place(x, jnp.minimum(x, 1.0)) ** 2, (jnp.array(3.0),), (jnp.array(1.0),))
    assert (float(value), float(slope)) == (1.0, 2.0)
