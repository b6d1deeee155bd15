"""Errors in graphs and in the sums over their edges."""

from parity_tests.mutants.mutation import Mutation, error

HOME = "port_jax/graphs"

MUTATIONS: tuple[Mutation, ...] = (
    error(
        "softmax over the senders",
        f"{HOME}/softmax.py",
        "total = segment_sum(raised, graph)\n    if self_logits is None:",
        "total = jax.ops.segment_sum(raised, graph.senders, graph.num_nodes)\n    if self_logits is None:",
        "graphs/test_softmax.py",
    ),
    error(
        "the derivative of a softmax without its mean",
        f"{HOME}/softmax.py",
        "return (alpha, None), (moved - alpha * gather_receivers(mean, graph), None)",
        "return (alpha, None), (moved, None)",
        "graphs/test_softmax.py::test_value_cotangent_and_hessian_equal_torch",
    ),
    error(
        "the largest value of a node's own edges, not of all",
        f"{HOME}/softmax.py",
        "    if self_logits is not None:\n        top = jnp.maximum(top, self_logits)\n",
        "",
        "graphs/test_softmax.py::test_weights_sum_to_one_however_large_the_logits",
    ),
    error(
        "senders and receivers exchanged",
        f"{HOME}/graph.py",
        "return Graph.from_edges(index[0], index[1], num_nodes",
        "return Graph.from_edges(index[1], index[0], num_nodes",
        "graphs/test_graph.py::test_constructors_agree",
    ),
    error(
        "a transpose of scipy's adjacency",
        f"{HOME}/graph.py",
        "Graph.from_edges(coo.col, coo.row,",
        "Graph.from_edges(coo.row, coo.col,",
        "graphs/test_graph.py::test_constructors_agree",
    ),
    error(
        "weights in the user's order beside edges in the graph's",
        f"{HOME}/graph.py",
        "weights=None if w is None else jax.device_put(w[order]),",
        "weights=None if w is None else jnp.asarray(w),",
        "graphs/test_graph.py::test_edges_are_sorted_by_receiver_and_keep_the_order_of_the_user",
    ),
    error(
        "columns normalised in place of rows",
        f"{HOME}/graph.py",
        'scaled = w / (degree[r] if kind == "row"',
        'scaled = w / (degree[s] if kind == "row"',
        "graphs/test_graph.py::test_graphs_made_from_a_graph",
    ),
    error(
        "a second loop beside an existing one",
        f"{HOME}/graph.py",
        "        kept = self.without_self_loops()\n",
        "        kept = self\n",
        "graphs/test_graph.py::test_graphs_made_from_a_graph",
    ),
    error(
        "padding that reaches the last real node",
        f"{HOME}/graph.py",
        "tail = np.full(edges, num_nodes - 1, np.int32)",
        "tail = np.full(edges, self.num_nodes - 1, np.int32)",
        "graphs/test_graph.py::test_padding_reaches_no_real_node",
    ),
    error(
        "ties for the largest value that each take the whole derivative",
        f"{HOME}/segment.py",
        "return top, segment_sum(at_top * dx, graph) / count",
        "return top, segment_sum(at_top * dx, graph)",
        "graphs/test_segment.py::test_equal_largest_values_share_the_derivative",
    ),
    error(
        "other parents left out of a Markov blanket",
        f"{HOME}/markov_blanket.py",
        "        blanket = blanket + children @ parents\n",
        "",
        "graphs/test_markov_blanket.py::test_of_a_directed_graph",
    ),
    error(
        "a row of a halo at the place of another owner",
        f"{HOME}/partition.py",
        "np.add.at(counts[p], (p - once // n) % parts, 1)",
        "np.add.at(counts[p], (once // n - p) % parts, 1)",
        "graphs/test_partition.py::test_every_edge_finds_its_ends",
    ),
    error(
        "the last node not in the last row",
        f"{HOME}/partition.py",
        "_last_node_last(*_ordered(order, senders, receivers, num_nodes, parts))",
        "_ordered(order, senders, receivers, num_nodes, parts)",
        "graphs/test_partition.py::test_every_edge_finds_its_ends",
    ),
    error(
        "rows sent to the device before in place of the one behind",
        f"{HOME}/halo.py",
        "[(p, (p + distance) % count) for p in range(count)]",
        "[(p, (p - distance) % count) for p in range(count)]",
        "graphs/test_parts.py::test_eight_devices_give_what_one_gives[models hgcn]",
    ),
)
