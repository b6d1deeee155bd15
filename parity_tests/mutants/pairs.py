"""The same error in port_jax and in reference_torch: their comparison with each other says nothing, and a third side has to."""

from parity_tests.mutants.mutation import Mutation, both

MURP, KGEMB = "models/test_murp.py::test_scores_against_the_paper_at_50_digits", "models/test_kgemb.py"
KG_PAPER = f"{KGEMB}::test_scores_against_the_paper_at_50_digits"
CONES = "models/test_poincare_embeddings.py::test_energies_against_closed_forms_at_50_digits"
GIL_LINKS, GIL_CLASSES = (
    "models/test_gil.py::test_embeddings_and_links_against_the_paper_at_50_digits",
    "models/test_gil.py::test_class_logits_against_the_paper_at_50_digits",
)
HGCN, HGCN_PAPER = "layers/test_hgcn.py::test_attention_by_edges_is_the_dense_formula", "models/test_hgcn.py"
HYBONET_ATTENTION, HYBONET = "layers/test_hybonet.py", "models/test_hybonet.py"

MUTATIONS: tuple[Mutation, ...] = (
    Mutation(
        "both: a sign between MuRP's biases",
        (
            ("port_jax/models/murp.py", "+ self.bs[s] + self.bo[o]\n\n    def score", "+ self.bs[s] - self.bo[o]\n\n    def score"),
            ("port_jax/models/murp.py", "+ self.bs[s] + self.bo[o]\n\n    def manif", "+ self.bs[s] - self.bo[o]\n\n    def manif"),
            (
                "reference_torch/models/murp.py",
                "return -ball.dist2(moved, target) + self.bs[subjects] + self.bo[objects]",
                "return -ball.dist2(moved, target) + self.bs[subjects] - self.bo[objects]",
            ),
        ),
        (MURP,),
    ),
    both(
        "both: MuRP's translation added from the left",
        "models/murp.py",
        "ball.mobius_add(o, r))",
        "ball.mobius_add(r, o))",
        MURP,
        reference=(
            "ball.mobius_add(self.Eh.weight[objects], self.rvh.weight[relations])",
            "ball.mobius_add(self.rvh.weight[relations], self.Eh.weight[objects])",
        ),
    ),
    both(
        "both: MuRP's distance, not its square",
        "models/murp.py",
        "return -ball.dist2(",
        "return -ball.dist(",
        MURP,
    ),
    both(
        "both: halves of AttH's rotations and reflections exchanged",
        "models/kgemb.py",
        "rotation, reflection = jnp.split(diagonal, 2)",
        "reflection, rotation = jnp.split(diagonal, 2)",
        KG_PAPER,
        reference=("rotation, reflection = diagonal.chunk(2, -1)", "reflection, rotation = diagonal.chunk(2, -1)"),
    ),
    both(
        "both: translations of a relation exchanged",
        "models/kgemb.py",
        "ball, (first, second) = PoincareBall(c), jnp.split(rel, 2)",
        "ball, (second, first) = PoincareBall(c), jnp.split(rel, 2)",
        KG_PAPER,
        reference=("first, second = self.rel(relation).chunk(2, -1)", "second, first = self.rel(relation).chunk(2, -1)"),
    ),
    both(
        "both: Givens rotations the other way",
        "models/kgemb.py",
        "stack([cos * a - sin * b, cos * b + sin * a], -1)",
        "stack([cos * a + sin * b, cos * b - sin * a], -1)",
        KG_PAPER,
    ),
    both(
        "both: a wrong constant in the cones' inner radius",
        "models/poincare_embeddings.py",
        "2 * CONE / (1 + (1 + 4 * CONE**2) ** 0.5)",
        "2 * CONE / (1 + (1 + 2 * CONE**2) ** 0.5)",
        CONES,
    ),
    both(
        "both: the cone's aperture at the other point",
        "models/poincare_embeddings.py",
        "return jax.nn.relu(cone_angle(s, o) - aperture(o))",
        "return jax.nn.relu(cone_angle(s, o) - aperture(s))",
        CONES,
        reference=("(self._angle(o, s) - self._aperture(o))", "(self._angle(o, s) - self._aperture(s))"),
    ),
    both(
        "both: a power left out of the cones' flat angle",
        "models/poincare_embeddings.py",
        "(v**2).sum(-1) - far**2",
        "(v**2).sum(-1) - far",
        CONES,
        reference=("v.pow(2).sum(-1) - far**2", "v.pow(2).sum(-1) - far"),
    ),
    both(
        "both: GIL's second fusion with the distance, not its square",
        "models/gil.py",
        "step = ((u - e) ** 2).sum(-1, keepdims=True) * self.param",
        "step = jnp.sqrt(((u - e) ** 2).sum(-1, keepdims=True)) * self.param",
        GIL_LINKS,
        reference=("(u - e).pow(2).sum(-1, keepdim=True) * self.att", "(u - e).pow(2).sum(-1, keepdim=True).sqrt() * self.att"),
    ),
    Mutation(
        "both: GIL's second fusion from the points before the first",
        (
            ("port_jax/models/gil.py", "        h = UNIT.mobius_add(h, nn", "        before, h = h, UNIT.mobius_add(h, nn"),
            ("port_jax/models/gil.py", "        u = ball.to_tangent0(h)\n", "        u = ball.to_tangent0(before)\n"),
            (
                "reference_torch/models/gil.py",
                "h = layer.h_fusion(ball, h, e)\n                e = layer.e_fusion(ball, h, e)",
                "h, e = layer.h_fusion(ball, h, e), layer.e_fusion(ball, h, e)",
            ),
        ),
        (GIL_LINKS,),
    ),
    both(
        "both: GIL's gates exchanged",
        "models/gil.py",
        "return (gates[0] * far + gates[1] * flat)",
        "return (gates[1] * far + gates[0] * flat)",
        GIL_CLASSES,
        reference=("return (w_h * curved + w_e * flat)", "return (w_e * curved + w_h * flat)"),
    ),
    Mutation(
        "both: receiver for sender in GIL's attention",
        (
            (
                "port_jax/layers/hgat.py",
                'receiver = jnp.einsum("nhc,hc->nh", u, att[:, : self.features])\n            sender = jnp.einsum(',
                'sender = jnp.einsum("nhc,hc->nh", u, att[:, : self.features])\n            receiver = jnp.einsum(',
            ),
            ("reference_torch/models/gil.py", "torch.cat([u[receivers], u[senders]], -1)", "torch.cat([u[senders], u[receivers]], -1)"),
            (
                "reference_torch/layers/hgat.py",
                "(torch.cat([u[receivers], u[senders]], -1) * self.att)",
                "(torch.cat([u[senders], u[receivers]], -1) * self.att)",
            ),
        ),
        (GIL_LINKS,),
    ),
    both(
        "both: receiver for sender in HGCN's attention",
        "layers/hgcn.py",
        "gather_receivers(u @ kernel[:width], graph) + gather_senders(u @ kernel[width:], graph)",
        "gather_senders(u @ kernel[:width], graph) + gather_receivers(u @ kernel[width:], graph)",
        HGCN,
        reference=(
            "torch.cat([u[graph.receivers], u[graph.senders]], -1)",
            "torch.cat([u[graph.senders], u[graph.receivers]], -1)",
        ),
    ),
    both(
        "both: HGCN's attention by the hyperbolic tangent",
        "layers/hgcn.py",
        "weights = weights * nn.sigmoid(",
        "weights = weights * nn.tanh(",
        HGCN,
        reference=("torch.sigmoid(self.linear(pair))", "torch.tanh(self.linear(pair))"),
    ),
    both(
        "both: HGCN's bias added from the left",
        "layers/hgcn.py",
        "return manifold.mobius_add(z, exp0(manifold, manifold.coordinates0(bias)[None])) if self.use_bias else z",
        "return manifold.mobius_add(exp0(manifold, manifold.coordinates0(bias)[None]), z) if self.use_bias else z",
        "models/test_hgcn.py::test_embeddings_classes_and_links_against_the_paper_at_50_digits",
        reference=(
            "self.space.add(z, self.space.exp0(self.bias[None], self.c), self.c)",
            "self.space.add(self.space.exp0(self.bias[None], self.c), z, self.c)",
        ),
    ),
    both(
        "both: a wrong constant of HyboNet's time",
        "layers/hybonet.py",
        "time = nn.sigmoid(y[..., :1]) * jnp.exp(scale) + 1.1",
        "time = nn.sigmoid(y[..., :1]) * jnp.exp(scale) + 1.0",
        "models/test_hybonet.py::test_outputs_against_the_paper_at_50_digits",
        reference=("self.scale.exp() + 1.1", "self.scale.exp() + 1.0"),
    ),
    both(
        "both: a sign in the length of HyboNet's space",
        "layers/hybonet.py",
        "jnp.sqrt((time * time - 1) / square)",
        "jnp.sqrt((time * time + 1) / square)",
        "models/test_hybonet.py::test_outputs_against_the_paper_at_50_digits",
        reference=("((time * time - 1) / square).sqrt()", "((time * time + 1) / square).sqrt()"),
    ),
    both(
        "both: HyboNet's queries and keys exchanged",
        "layers/hybonet.py",
        "edge_dot(flip(query), key, graph)",
        "edge_dot(flip(key), query, graph)",
        "layers/test_hybonet.py::test_attention_by_edges_is_the_dense_formula",
        reference=("inner(query[graph.receivers], key[graph.senders])", "inner(key[graph.receivers], query[graph.senders])"),
    ),
    both(
        "both: half of the distance in HyboNet's logits",
        "layers/hybonet.py",
        "logits = 2 + 2 * h @",
        "logits = 2 + h @",
        "models/test_hybonet.py::test_outputs_against_the_paper_at_50_digits",
    ),
    both(
        "both: a probability of links that rises with the distance",
        "layers/decoders.py",
        "((r - square_distance) / t)",
        "((square_distance - r) / t)",
        "layers/test_decoders.py::test_fermi_dirac_and_where_the_exponential_overflows",
    ),
    both(
        "both: a temperature that multiplies",
        "layers/decoders.py",
        "near = -manifold.dist(anchors, positives) / temperature",
        "near = -manifold.dist(anchors, positives) * temperature",
        "layers/test_decoders.py::test_info_nce_is_minus_the_logarithm_of_a_share",
    ),
    both(
        "both: GAT's scores with the sign of its paper, not of its code",
        "layers/gcn.py",
        "segment_softmax(-leaky_relu(logits",
        "segment_softmax(leaky_relu(logits",
        "layers/test_gcn.py::test_attention_is_the_masked_dense_formula",
        reference=("segment_softmax(-score, i", "segment_softmax(score, i"),
    ),
    both(
        "both: a decay of twice the rate",
        "optim/riemannian_adamw.py",
        "scalars.cast(rate * weight_decay, dtype)",
        "scalars.cast(2 * rate * weight_decay, dtype)",
        "optim/test_riemannian_adamw.py::test_flat_is_adamw_of_torch",
        reference=('group["lr"] * group["weight_decay"])', '2 * group["lr"] * group["weight_decay"])'),
    ),
)
