"""Errors in layers and models of port_jax."""

from parity_tests.mutants.mutation import Mutation, error

LAYERS, MODELS = "port_jax/layers", "port_jax/models"
HGAT = "models/test_hgat.py::test_outputs_gradients_float32_and_the_way_back"

MUTATIONS: tuple[Mutation, ...] = (
    error(
        "q and k swapped",
        f"{LAYERS}/hgat.py",
        "logits, own = gather_receivers(receiver, graph) + gather_senders(sender, graph)",
        "logits, own = gather_senders(receiver, graph) + gather_receivers(sender, graph)",
        HGAT,
    ),
    error(
        "a blanket's message not carried to the origin",
        f"{LAYERS}/hgat.py",
        "manifold.coordinates0(manifold.transp0back(target.point, manifold.logmap(target.point, other.point)))",
        "manifold.coordinates0(manifold.logmap(target.point, other.point))",
        f"{HGAT}[markov_blanket-PoincareBall-7]",
    ),
    error(
        "heads added, not averaged, in the last layer",
        f"{LAYERS}/hgat.py",
        "out = out.reshape(-1, width) if self.concat else out.mean(1)",
        "out = out.reshape(-1, width) if self.concat else out.sum(1)",
        f"{HGAT}[gil-PoincareBall-6]",
    ),
    error(
        "a mask of dropout that is not scaled back",
        f"{LAYERS}/hgat.py",
        'jax.random.bernoulli(module.make_rng("dropout"), 1 - rate, shape) / (1 - rate)',
        'jax.random.bernoulli(module.make_rng("dropout"), 1 - rate, shape)',
        "models/test_hgat.py::test_drawn_dropout_keeps_the_mean_and_the_rate",
    ),
    error(
        "the curvature of the layer before",
        f"{MODELS}/hgcn.py",
        "return exp0(manifolds[-1], u)",
        "return exp0(manifolds[0], u)",
        "models/test_hgcn.py::test_forward_and_gradients",
    ),
    error(
        "HGCN's activation before the sum over neighbours",
        f"{LAYERS}/hgcn.py",
        'HgcnAggregation(self.use_att, self.local_agg, name="agg")(manifold, h, graph))',
        'manifold.to_tangent0(h)) + 0 * HgcnAggregation(self.use_att, self.local_agg, name="agg")(manifold, h, graph)',
        "models/test_hgcn.py::test_forward_and_gradients",
    ),
    error(
        "the bias added from the left",
        f"{LAYERS}/tangent.py",
        'return manifold.mobius_add(z, manifold.from_tangent0(self.param("bias", nn.initializers.zeros, (self.features,))))',
        'return manifold.mobius_add(manifold.from_tangent0(self.param("bias", nn.initializers.zeros, (self.features,)))[None], z)',
        f"{HGAT}[markov_blanket-PoincareBall-7]",
    ),
    error(
        "gates of the recurrent cell in another order",
        f"{MODELS}/htgn.py",
        "(xr, xz, xn), (hr, hz, hn)",
        "(xz, xr, xn), (hz, hr, hn)",
        "models/test_htgn.py::test_forward_and_gradients",
    ),
    error(
        "the newest hidden state in place of the attention's mean",
        f"{MODELS}/htgn.py",
        "        if not self.use_hta:\n            return window[-1]\n",
        "        if self.use_hta:\n            return window[-1]\n",
        "models/test_htgn.py::test_forward_and_gradients",
    ),
    error(
        "GAT's scores with the sign of its paper, not of its code",
        f"{LAYERS}/gcn.py",
        "segment_softmax(-leaky_relu(logits, self.negative_slope), graph)",
        "segment_softmax(leaky_relu(logits, self.negative_slope), graph)",
        "models/test_gat.py::test_forward_and_gradients",
    ),
    error(
        "scores of HyboNet's triples with head and tail exchanged",
        f"{MODELS}/hybonet_kg.py",
        "return self._match(self._moved(h[s], r), h[o]) + self.bias_head[s] + self.bias_tail[o]",
        "return self._match(self._moved(h[o], r), h[s]) + self.bias_head[s] + self.bias_tail[o]",
        "models/test_hybonet_kg.py::test_scores_and_gradients",
    ),
    error(
        "MuRP's scores of triples with the biases exchanged",
        f"{MODELS}/murp.py",
        "return self._far(h[s], self.Wu[r], h[o], self.rvh[r]) + self.bs[s] + self.bo[o]",
        "return self._far(h[s], self.Wu[r], h[o], self.rvh[r]) + self.bo[s] + self.bs[o]",
        "models/test_murp.py::test_scores_against_the_paper_at_50_digits",
    ),
    error(
        "the ball's margin of geoopt in hyptorch",
        f"{MODELS}/hyptorch.py",
        "MARGIN = 1e-3\n",
        "MARGIN = 1e-5\n",
        "models/test_hyptorch.py::test_forward_and_gradients",
    ),
    error(
        "a gradient by the inverse metric's root",
        f"{MODELS}/hyptorch.py",
        "(1 - c * (x * x).sum(-1, keepdims=True)) ** 2 / 4, jnp",
        "(1 - c * (x * x).sum(-1, keepdims=True)) / 2, jnp",
        "models/test_hyptorch.py::test_forward_and_gradients",
    ),
    error(
        "the classifier's points on the first manifold",
        f"{MODELS}/hgat.py",
        "return self.decoder(self._at(len(self.features)), h)",
        "return self.decoder(self._at(0), h)",
        f"{HGAT}[markov_blanket-PoincareBall-7]",
    ),
    error(
        "squared distances on the hyperboloid without their bound",
        f"{MODELS}/node_model.py",
        'return jnp.minimum(square, FARTHEST) if self.manifold == "Hyperboloid" else square',
        "return square",
        "models/test_node_model.py::test_links_between_far_points_of_the_hyperboloid_have_a_least_probability",
    ),
    error(
        "a probability of links without its temperature",
        f"{LAYERS}/decoders.py",
        "return jax.nn.sigmoid((r - square_distance) / t)",
        "return jax.nn.sigmoid(r - square_distance)",
        "layers/test_decoders.py::test_fermi_dirac_and_where_the_exponential_overflows",
    ),
    error(
        "a feature of the last node of another batch",
        f"{MODELS}/gil.py",
        "gates = [nn.Dropout(rate)(gate, deterministic=deterministic)[-1] for",
        "gates = [nn.Dropout(rate)(gate, deterministic=deterministic)[0] for",
        "models/test_gil.py::test_class_logits_against_the_paper_at_50_digits",
    ),
)
