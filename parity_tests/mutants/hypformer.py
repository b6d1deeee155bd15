"""Errors in what is Hypformer's: its lifting, its two kinds of attention, its classes, its variants, its two optimizers."""

from parity_tests.mutants.mutation import Mutation, error

LAYER = "port_jax/layers/hypformer.py"
NET = "port_jax/models/hypformer.py"
TABLE = "weights/models/hypformer.py"
MODEL = "models/test_hypformer.py"
EXACT = f"{MODEL}::test_formulas_at_50_digits"

MUTATIONS: tuple[Mutation, ...] = (
    error(
        "Hypformer: features lifted by exp_0 for the 1 that the code puts before them",
        NET,
        "time: float = 1.0",
        "time: float = 0.0",
        f"{EXACT}[medium]",
    ),
    error(
        "Hypformer: lengths of lifted features with the wrong sign of the time",
        LAYER,
        "(x * x).sum(-1, keepdims=True) - jnp.asarray(time, x.dtype) ** 2",
        "(x * x).sum(-1, keepdims=True) + jnp.asarray(time, x.dtype) ** 2",
        f"{EXACT}[medium]",
    ),
    error(
        "Hypformer: midpoints of medium on the hyperboloid of the states",
        NET,
        "first.k if form.by_k_in else space.k",
        "space.k",
        f"{EXACT}[medium]",
    ),
    error(
        "Hypformer: logits of medium without the division by k",
        NET,
        "Form(by_k_in=True, logits_over_k=True)",
        "Form(by_k_in=True)",
        f"{EXACT}[medium]",
    ),
    error(
        "Hypformer: logits of large that are not bounded",
        LAYER,
        "-(jnp.where(square >= 0, square, 0) if self.bounded else square)",
        "-square",
        "layers/test_hypformer.py::test_logits_of_classes_and_their_bound",
    ),
    error(
        "Hypformer: full attention of the folder Hypformer with the division by k",
        NET,
        "bounded=True, attention_over_k=False)",
        "bounded=True)",
        f"{EXACT}[Hypformer]",
    ),
    error(
        "Hypformer: weights of linear attention that add up to 1",
        LAYER,
        "numerator / (total + SMALL)",
        "numerator / total",
        f"{EXACT}[medium]",
    ),
    error(
        "Hypformer: features of queries that keep no length",
        LAYER,
        "sharp * jnp.sqrt((f * f).sum(-1, keepdims=True) / (sharp * sharp).sum(-1, keepdims=True))",
        "sharp / jnp.sqrt((sharp * sharp).sum(-1, keepdims=True))",
        f"{EXACT}[medium]",
    ),
    error(
        "Hypformer: the residual of the graph network is the state before",
        LAYER,
        "h = h + first if self.use_residual else h",
        "h = h + first if self.use_residual and layer == 0 else h",
        f"{EXACT}[medium]",
    ),
    error(
        "Hypformer: degrees of nodes that send",
        LAYER,
        "count = segment_sum(jnp.ones((graph.num_edges, 1), like.dtype), graph)[:, 0]",
        "count = jnp.zeros(graph.num_nodes, like.dtype).at[graph.senders].add(1)",
        f"{EXACT}[medium]",
    ),
    error(
        "Hypformer: a hyperboloid of k_hidden, which the code ignores",
        NET,
        "self.k_hidden if form.own_hidden else self.k_out",
        "self.k_in",
        f"{EXACT}[medium]",
    ),
    error(
        "Hypformer: points carried to another radius as they are in the right formulas",
        NET,
        "RIGHT = Form(time=0.0, rescaled=True",
        "RIGHT = Form(time=0.0, rescaled=False",
        f"{MODEL}::test_the_right_formulas_at_50_digits",
    ),
    error(
        "Hypformer: points of the classes in the place of a flat parameter",
        TABLE,
        'return [flat, ["decode_trans.cls"]] if',
        'return [[*flat[:-1], "decode_trans.cls"], flat[-1:]] if',
        f"{MODEL}::test_both_optimizers_go_on[Hypformer-RiemannianSGD]",
    ),
)
