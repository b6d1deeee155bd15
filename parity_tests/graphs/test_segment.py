"""Segment operations and sparse products against torch: values, random cotangents, second derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from parity_tests import draws, slow
from parity_tests.graphs import witness
from parity_tests.graphs.witness import LAYOUTS, graph
from port_jax.graphs import (
    Graph,
    GraphError,
    aggregate,
    edge_dot,
    gather_receivers,
    gather_senders,
    segment_max,
    segment_softmax,
    segment_sum,
)

H, C = 3, 4

# name -> (port, torch, shapes of the arguments: E and N stand for the graph's numbers)
OPERATIONS = {
    "segment_sum": (segment_sum, witness.total, [("E", H, C)]),
    "segment_max": (lambda x, g: segment_max(x, g, 0.0), lambda x, g: _finite(witness.largest(x, g)), [("E", H)]),
    "gather_senders": (gather_senders, lambda x, g: x[witness.ends(g)[0]], [("N", H, C)]),
    "gather_receivers": (gather_receivers, lambda x, g: x[witness.ends(g)[1]], [("N",)]),
    "aggregate": (
        aggregate,
        lambda a, v, g: witness.total(a[:, None] * v[witness.ends(g)[0]], g),
        [("E",), ("N", C)],
    ),
    "aggregate_heads": (
        aggregate,
        lambda a, v, g: witness.total(a[..., None] * v[witness.ends(g)[0]], g),
        [("E", H), ("N", H, C)],
    ),
    "edge_dot": (
        edge_dot,
        lambda x, y, g: (x[witness.ends(g)[1]] * y[witness.ends(g)[0]]).sum(-1),
        [("N", H, C), ("N", H, C)],
    ),
}


def _finite(x: torch.Tensor) -> torch.Tensor:
    return torch.where(torch.isfinite(x), x, torch.zeros_like(x))


def _arguments(shapes, g: Graph, seed: int = 0) -> list[np.ndarray]:
    rng = draws.rng(seed)
    sizes = {"E": g.num_edges, "N": g.num_nodes}
    return [rng.standard_normal([sizes.get(n, n) for n in shape]) for shape in shapes]


def _port(f, args, g: Graph):
    """Value, vector-Jacobian product and Hessian-vector product of <c, f(sin x)>, in one compilation."""

    def run(args, cotangent, direction):
        def scalar(args):
            return jnp.vdot(f(*jax.tree.map(jnp.sin, args), g), cotangent)

        value, pullback = jax.vjp(lambda args: f(*args, g), args)
        return value, pullback(cotangent)[0], jax.jvp(jax.grad(scalar), (args,), (direction,))[1]

    shape = jax.eval_shape(lambda a: f(*a, g), args).shape
    rng = draws.rng(9)
    cotangent = jnp.asarray(rng.standard_normal(shape), args[0].dtype)
    direction = [jnp.asarray(rng.standard_normal(x.shape), x.dtype) for x in args]
    return jax.jit(run)(args, cotangent, direction), cotangent, direction


def _torch(f, args, cotangent, direction, g: Graph):
    xs = [torch.tensor(np.asarray(x), requires_grad=True) for x in args]
    c = torch.tensor(np.asarray(cotangent))
    value = f(*xs, g)
    pulled = torch.autograd.grad(value, xs, c)
    scalar = (f(*map(torch.sin, xs), g) * c).sum()
    first = torch.autograd.grad(scalar, xs, create_graph=True)
    along = sum((a * torch.tensor(np.asarray(d))).sum() for a, d in zip(first, direction))
    return value.detach(), pulled, torch.autograd.grad(along, xs)


def _error(ours, theirs) -> float:
    leaves = zip(jax.tree.leaves(ours), jax.tree.leaves(jax.tree.map(np.asarray, theirs)), strict=True)
    return max(float(np.abs(np.asarray(a, np.float64) - b).max() / max(np.abs(b).max(), 1)) for a, b in leaves)


CASES = [(name, layout) for name in OPERATIONS for layout in LAYOUTS]
# Without blocks: a sum of products, a maximum and products of edges. The other operations and their derivatives are made of these.
PADDED = {"segment_max", "aggregate_heads", "edge_dot"}


@pytest.mark.parametrize(("name", "layout"), slow.all_but(lambda case: case[1] == "fine" or case[0] in PADDED, CASES))
def test_value_cotangent_and_hessian_equal_torch(name: str, layout: str):
    port, original, shapes = OPERATIONS[name]
    g = graph(layout)
    args = [jnp.asarray(x) for x in _arguments(shapes, g)]
    ours, cotangent, direction = _port(port, args, g)
    theirs = _torch(original, args, cotangent, direction, g)
    for part, a, b in zip(("value", "vjp", "hvp"), ours, theirs):
        assert _error(a, b) < 1e-13, part  # sums of up to 300 numbers of order 1


@pytest.mark.parametrize("name", slow.all_but({"aggregate_heads"}, ["segment_sum", "aggregate_heads", "edge_dot"]))
def test_float32_is_no_worse_than_torch(name: str):
    port, original, shapes = OPERATIONS[name]
    g = graph("fine")
    exact = [jnp.asarray(np.float32(x), jnp.float64) for x in _arguments(shapes, g)]
    args = [x.astype(jnp.float32) for x in exact]
    with jax.enable_x64(False):
        ours, c32, d32 = _port(port, args, g)
    theirs = _torch(original, args, c32, d32, g)
    exact_c, exact_d = c32.astype(jnp.float64), [x.astype(jnp.float64) for x in d32]
    truth = _torch(original, exact, exact_c, exact_d, g)
    for a, b, t in zip(ours, theirs, truth):
        assert jax.tree.leaves(a)[0].dtype == jnp.float32
        assert _error(a, t) <= 2 * _error(b, t) + 4 * 2**-24


def test_vmap_over_values_and_over_graphs():
    g = graph("coarse")
    a, v = (np.stack(x) for x in zip(*(_arguments([("E", H), ("N", H, C)], g, seed) for seed in range(3))))

    def loss(a, v):
        return jnp.sum(jnp.sin(aggregate(a, v, g)) ** 2) + jnp.sum(jnp.cos(edge_dot(v, v, g)))

    batched = jax.jit(jax.vmap(jax.grad(loss, argnums=(0, 1))))(a, v)
    alone = jax.jit(jax.grad(loss, argnums=(0, 1)))
    for i in range(3):
        assert _error([x[i] for x in batched], list(alone(a[i], v[i]))) < 1e-13
    shared, last = jax.jit(lambda v: (jax.vmap(lambda v: aggregate(a[0], v, g))(v), aggregate(a[0], v[2], g)))(v)  # one operand batched
    assert _error(shared[2], last) < 1e-13

    one = graph("padded")
    other = Graph.from_edges(one.receivers, one.senders, num_nodes=one.num_nodes).padded(num_nodes=one.num_nodes, num_edges=one.num_edges)
    both = jax.tree.map(lambda *x: jnp.stack(x), one, other)
    a, v = _arguments([("E", H), ("N", H, C)], one)

    def slope(g):
        return jax.grad(lambda v: jnp.sum(aggregate(a, v, g) ** 3))(v)

    together, apart = jax.jit(lambda both, each: (jax.vmap(slope)(both), [slope(g) for g in each]))(both, (one, other))
    for i in range(2):
        assert _error(together[i], apart[i]) < 1e-13


def test_graph_as_an_argument_and_as_a_constant_give_the_same_numbers():
    """Two programs, which XLA may round in other places: within a few roundings of the sum of sizes. One program repeats its bits."""
    g = graph("fine")
    a, v = _arguments([("E", H), ("N", H, C)], g)
    passed = jax.jit(aggregate)
    closed = jax.jit(lambda a, v: aggregate(a, v, g))
    room = 4 * float(np.finfo(np.float64).eps) * passed(np.abs(a), np.abs(v), g)
    assert np.all(np.abs(passed(a, v, g) - closed(a, v)) <= room)
    assert np.array_equal(passed(a, v, g), passed(a, v, g))


def test_equal_largest_values_share_the_derivative():
    g = Graph.from_edges([0, 1, 2, 0], [1, 1, 1, 2], num_nodes=4)
    weighted = jax.grad(lambda x: jnp.vdot(segment_max(x, g, 0.0), jnp.array([1.0, 6.0, 5.0, 2.0])))
    pulled, largest = jax.jit(lambda x: (weighted(x), segment_max(x, g)))(jnp.array([2.0, 2, 1, 3]))
    assert np.array_equal(pulled, [3, 3, 0, 5])
    assert np.array_equal(largest, [-np.inf, 2, 3, -np.inf])


def test_no_edges_at_all():
    g = Graph.from_edges([], [], num_nodes=3)
    assert np.array_equal(segment_sum(jnp.zeros((0, 2)), g), np.zeros((3, 2)))
    assert np.array_equal(jax.grad(lambda v: aggregate(jnp.zeros(0), v, g).sum())(jnp.ones((3, 2))), np.zeros((3, 2)))
    assert edge_dot(jnp.ones((3, 2)), jnp.ones((3, 2)), g).shape == (0,)


def test_a_wide_product_over_several_chunks(monkeypatch):
    """On CPU the edge products go through memory in chunks: whole ones, and the rest."""
    monkeypatch.setattr("port_jax.graphs.products.CHUNK", 1000)
    g = graph("coarse")
    x, y = (jnp.asarray(a[..., :2, :]) for a in _arguments([("N", 5, 7), ("N", 5, 7)], g))
    expected = np.einsum("ehc,ehc->eh", np.asarray(x)[g.receivers], np.asarray(y)[g.senders])
    assert _error(edge_dot(x, y, g), expected) < 1e-14


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda g: segment_sum(jnp.zeros((4, 2)), g), "the graph has 633 edges"),
        (lambda g: gather_senders(jnp.zeros((4, 2)), g), "the graph has 60 nodes"),
        (lambda g: aggregate(jnp.zeros((633, 2)), jnp.zeros((60, 3, 2)), g), r"\[E, H\] with \[N, H, C\]"),
        (lambda g: edge_dot(jnp.zeros((60, 2)), jnp.zeros((60, 3)), g), "twice"),
    ],
)
def test_a_wrong_shape_is_named(call, named: str):
    with pytest.raises(GraphError, match=named):
        call(graph("fine"))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_summed_in_single_precision(dtype):
    """4096 ones at one node are 256 in bfloat16 and 2048 in float16 when they are added in these types."""
    count = 4096
    ends = np.arange(1, count + 1), np.zeros(count, int)
    graphs = [Graph.from_edges(*ends, num_nodes=count + 1, layout=layout) for layout in (True, False)]
    graphs.append(graphs[0].padded(num_nodes=count + 2, num_edges=count + 1))
    third = jnp.full(count + 1, 1 / 3, dtype)
    for g in graphs:
        ones = jnp.ones((g.num_edges, 1), dtype)
        assert segment_sum(ones, g).dtype == dtype
        assert float(segment_sum(ones, g)[0, 0]) == count
        assert float(aggregate(ones[:, 0], jnp.ones((g.num_nodes, 1), dtype), g)[0, 0]) == count
        # the sum of rounded thirds, rounded once
        want = jnp.asarray(count * float(third[0]), dtype)
        assert segment_sum(third[: g.num_edges, None].at[count:].set(0), g)[0, 0] == want
        alpha = segment_softmax(jnp.zeros(g.num_edges, dtype), g)
        np.testing.assert_allclose(np.asarray(alpha[:count], float), 1 / count, rtol=float(jnp.finfo(dtype).eps))
        slope = jax.grad(lambda x, g=g: segment_sum(gather_receivers(x, g), g).astype(jnp.float32)[0, 0])(jnp.ones((g.num_nodes, 1), dtype))
        assert float(slope[0, 0]) == count
        dots = edge_dot(jnp.ones((g.num_nodes, 300), dtype), jnp.ones((g.num_nodes, 300), dtype), g)
        assert float(dots[0]) == 300


def test_integers_are_numbers_and_stay_indices_where_they_are_gathered():
    g = Graph.from_edges([0, 1, 2], [1, 1, 0], num_nodes=3)
    assert segment_sum([1, 2, 4], g).tolist() == [1, 6, 0]  # in the graph's order: the edges 2 -> 0, 0 -> 1, 1 -> 1
    assert segment_max(np.array([1, 2, 4]), g, -1).tolist() == [1, 4, -1]
    assert aggregate([1, 2, 4], torch.tensor([[1], [2], [3]]), g).tolist() == [[3], [10], [0]]
    labels = gather_senders([5, 6, 7], g)
    assert labels.dtype.kind == "i"
    assert sorted(labels.tolist()) == [5, 6, 7]
    with pytest.raises(TypeError, match=r"values is a torch\.Tensor.*detach"):
        segment_sum(torch.ones(3, requires_grad=True), g)
    with pytest.raises(TypeError, match="logits is a str"):
        segment_softmax("abc", g)
