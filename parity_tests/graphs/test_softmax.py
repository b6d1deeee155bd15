"""The softmax over incoming edges against one torch.softmax per node."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from parity_tests import draws, slow
from parity_tests.graphs import witness
from parity_tests.graphs.witness import LAYOUTS, graph
from port_jax.graphs import Graph, GraphError, segment_softmax

H = 3


CASES = [(form, layout) for form in ("plain", "one_head", "with_loops", "loops_replaced") for layout in LAYOUTS]
KEPT = {("plain", "fine"), ("with_loops", "fine"), ("loops_replaced", "fine"), ("loops_replaced", "padded")}


@pytest.mark.parametrize(("form", "layout"), slow.all_but(KEPT, CASES))
def test_value_cotangent_and_hessian_equal_torch(form: str, layout: str):
    g = graph(layout)
    rng = draws.rng(0)
    heads = () if form == "one_head" else (H,)
    logits = 3 * rng.standard_normal((g.num_edges, *heads))
    alone = 3 * rng.standard_normal((g.num_nodes, *heads)) if form in ("with_loops", "loops_replaced") else None
    keep = ~np.asarray(g.loop_mask) if form == "loops_replaced" else None
    args = (jnp.asarray(logits),) if alone is None else (jnp.asarray(logits), jnp.asarray(alone))

    def port(args):
        return segment_softmax(args[0], g, self_logits=args[1] if len(args) > 1 else None, mask=keep)

    shapes = jax.eval_shape(port, args)
    cotangent = jax.tree.map(lambda s: jnp.asarray(rng.standard_normal(s.shape)), shapes)
    direction = jax.tree.map(lambda x: jnp.asarray(rng.standard_normal(x.shape)), args)

    @jax.jit
    def run(args):
        value, pullback = jax.vjp(port, args)
        return (
            value,
            pullback(cotangent)[0],
            jax.jvp(lambda a: jax.vjp(port, a)[1](cotangent)[0], (args,), (direction,))[1],
        )

    xs = [torch.tensor(np.asarray(x), requires_grad=True) for x in args]
    mask = None if keep is None else torch.tensor(keep)
    value = witness.softmax(xs[0], g, xs[1] if len(xs) > 1 else None, mask)
    c = jax.tree.map(lambda x: torch.tensor(np.asarray(x)), cotangent)
    scalar = sum((a * b).sum() for a, b in zip(jax.tree.leaves(value), jax.tree.leaves(c)))
    pulled = torch.autograd.grad(scalar, xs, create_graph=True)
    along = sum((a * torch.tensor(np.asarray(d))).sum() for a, d in zip(pulled, direction))
    theirs = (value, pulled, torch.autograd.grad(along, xs))
    for part, a, b in zip(("value", "vjp", "hvp"), run(args), theirs):
        for ours, original in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
            assert np.abs(np.asarray(ours) - original.detach().numpy()).max() < 1e-13, part


@pytest.mark.parametrize("dtype", slow.all_but({np.float32}, [np.float32, np.float64]))
def test_weights_sum_to_one_however_large_the_logits(dtype):
    """Those of the edges, and those of the nodes for themselves."""
    g, rng = graph("fine"), draws.rng(1)
    logits, own = (jnp.asarray(rng.standard_normal((n, H)) * 1e4, dtype) for n in (g.num_edges, g.num_nodes))
    alpha, (beside, alone) = jax.jit(lambda a, b: (segment_softmax(a, g), segment_softmax(a, g, self_logits=b)))(logits, own)
    assert alpha.dtype == beside.dtype == alone.dtype == dtype
    degree = np.bincount(g.receivers, minlength=g.num_nodes)
    for weights, rest, want in ((alpha, 0, (degree > 0)[:, None]), (beside, alone, 1)):
        sums = np.zeros((g.num_nodes, H)) + np.asarray(rest)
        np.add.at(sums, np.asarray(g.receivers), np.asarray(weights, np.float64))
        assert np.abs(sums - want).max() < 40 * np.finfo(dtype).eps


def test_no_neighbours_no_weights_and_finite_derivatives():
    g = Graph.from_edges([0, 1, 1], [1, 1, 2], num_nodes=4)

    def f(logits, alone):
        alpha, loops = segment_softmax(logits, g, self_logits=alone, mask=~g.loop_mask)
        masked = segment_softmax(logits, g, mask=jnp.array([False, False, True]))
        return jnp.sum(jnp.cos(alpha)) + jnp.sum(jnp.sin(loops)) + jnp.sum(masked**2)

    args = (jnp.array([0.3, jnp.inf, -jnp.inf]), jnp.array([0.5, -1.0, 2.0, 0.1]))

    @jax.jit
    def run(*args):
        softmax = segment_softmax(args[0], g, self_logits=args[1], mask=~g.loop_mask)
        return jax.grad(f, argnums=(0, 1))(*args), softmax, segment_softmax(args[0], g, mask=jnp.zeros(3, bool))

    pulled, (alpha, loops), nothing = run(*args)
    assert all(np.isfinite(x).all() for x in pulled)
    assert pulled[0][1] == 0  # the masked loop, whose logit is not even finite
    assert np.array_equal(alpha[1:], [0, 0])
    assert np.array_equal(loops[jnp.array([0, 2, 3])], [1, 1, 1])
    assert np.array_equal(nothing, np.zeros(3))


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"logits": jnp.zeros((2, 1))}, "logits has shape"),
        ({"self_logits": jnp.zeros((3, 1))}, "self_logits has shape"),
        ({"mask": jnp.zeros(3)}, "pass bool"),
    ],
)
def test_a_wrong_argument_is_named(changed, named: str):
    g = Graph.from_edges([0, 1, 1], [1, 1, 2], num_nodes=4)
    arguments = {"logits": jnp.zeros(3), **changed}
    with pytest.raises(GraphError, match=named):
        segment_softmax(arguments.pop("logits"), g, **arguments)
