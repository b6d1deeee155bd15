"""Small errors, which prove the gates: a relative 1e-7 in float64, and a relative 1e-4 in float32 alone."""

from parity_tests.mutants.mutation import Mutation, error
from parity_tests.mutants.optimizers import ADAM_BALL, ADAM_GENERAL, SGD
from parity_tests.mutants.proof import GATES

BALL, LORENTZ = "port_jax/manifolds/stereographic", "port_jax/manifolds/hyperboloid"
LAYERS, MODELS, OPTIM = "port_jax/layers", "port_jax/models", "port_jax/optim"
ONE = "(1 + 1e-7)"


def low(array: str) -> str:
    """1 + 1e-4 in float32, exactly 1 in any other type."""
    return f'({array}.dtype.type(1) + (1e-4 if {array}.dtype == "float32" else 0))'


MUTATIONS: tuple[Mutation, ...] = (
    error(
        "1e-7: distances on the ball",
        f"{BALL}/metric.py",
        "        return jnp.expand_dims(2 * trig.sqrt_or_zero(q) * ratio, -1)\n",
        f"        return jnp.expand_dims({ONE} * 2 * trig.sqrt_or_zero(q) * ratio, -1)\n",
        "manifolds/test_accuracy.py::test_named_models_compute_what_the_table_measures",
    ),
    error(
        "1e-7: exponentials on the ball",
        f"{BALL}/geodesics.py",
        "    v, square = bounded(u, a)\n",
        f"    v, square = bounded({ONE} * u, a)\n",
        "manifolds/test_stereographic.py::test_values",
    ),
    error(
        "1e-7: logarithms on the hyperboloid",
        f"{LORENTZ}/geodesics.py",
        "jnp.sqrt(k) * (along_w * (c.w * (c.h * c.e)) - along_x * c.x) / c.h)",
        f"{ONE} * jnp.sqrt(k) * (along_w * (c.w * (c.h * c.e)) - along_x * c.x) / c.h)",
        "manifolds/test_lorentz.py::test_values",
    ),
    error(
        "1e-7: distances of SPD matrices",
        "port_jax/manifolds/symmetric_positive_definite.py",
        "return jnp.sum(difference**2, (-2, -1), keepdims=keepdim)",
        f"return {ONE} * jnp.sum(difference**2, (-2, -1), keepdims=keepdim)",
        "manifolds/test_symmetric_positive_definite.py::test_parity",
    ),
    error(
        "1e-7: MuRP's scores",
        f"{MODELS}/murp.py",
        "return -ball.dist2(",
        f"return -{ONE} * ball.dist2(",
        "models/test_murp.py::test_scores_and_gradients",
    ),
    error(
        "1e-7: HGCN's linear maps",
        f"{LAYERS}/hgcn.py",
        "z = exp0(manifold, within(manifold, u) *",
        f"z = exp0(manifold, {ONE} * within(manifold, u) *",
        "models/test_hgcn.py::test_forward_and_gradients",
    ),
    error(
        "1e-7: HyboNet's time",
        f"{LAYERS}/hybonet.py",
        "jnp.exp(scale) + 1.1",
        "jnp.exp(scale) + 1.10000011",
        "models/test_hybonet.py::test_forward_and_gradients[links]",
    ),
    error(
        "1e-7: GIL's fusion",
        f"{MODELS}/gil.py",
        "step = ((u - e) ** 2).sum(",
        f"step = {ONE} * ((u - e) ** 2).sum(",
        "models/test_gil.py::test_embeddings_and_links_against_the_paper_at_50_digits",
    ),
    error(
        "1e-7: a step of Adam",
        f"{OPTIM}/riemannian_adam.py",
        "move(-rate / scalars",
        f"move(-{ONE} * rate / scalars",
        ADAM_GENERAL,
    ),
    error(
        "1e-7: a step of Adam, only its eps",
        f"{OPTIM}/riemannian_adam.py",
        "eps = eps / jnp.sqrt(correction) if raw_eps else eps",
        f"eps = eps / jnp.sqrt(correction) if raw_eps else {ONE} * eps",
        ADAM_BALL,
    ),
    error(
        "1e-7: a momentum of SGD",
        f"{OPTIM}/riemannian_sgd.py",
        "(1 - dampening) * r\n    direction",
        f"{ONE} * (1 - dampening) * r\n    direction",
        SGD,
    ),
    error(
        "1e-7: a decay towards the origin",
        f"{OPTIM}/riemannian_adamw.py",
        "part * manifold.logmap(point, origin)",
        f"{ONE} * part * manifold.logmap(point, origin)",
        "optim/test_riemannian_adamw.py::test_trajectories_equal_the_definition_by_geoopts_operations",
    ),
    error(
        "1e-7: a schedule's power",
        f"{OPTIM}/rates.py",
        "return jnp.exp(real(n) * math.log(gamma))",
        f"return {ONE} * jnp.exp(real(n) * math.log(gamma))",
        "optim/test_schedules.py::test_rates_are_those_of_torch",
    ),
    error(
        "1e-4 in float32: distances on the ball",
        f"{BALL}/metric.py",
        "        return jnp.expand_dims(2 * trig.sqrt_or_zero(q) * ratio, -1)\n",
        f"        return jnp.expand_dims({low('q')} * 2 * trig.sqrt_or_zero(q) * ratio, -1)\n",
        "manifolds/test_accuracy.py::test_float32_without_x64",
    ),
    error(
        "1e-4 in float32: distances on the hyperboloid",
        f"{LORENTZ}/metric.py",
        "return jnp.sqrt(k) * jnp.where(c.far, 2 * half_angle(c)",
        f"return {low('x')} * jnp.sqrt(k) * jnp.where(c.far, 2 * half_angle(c)",
        "manifolds/test_lorentz.py::test_float32",
    ),
    error(
        "1e-4 in float32: logarithms of the sphere",
        "port_jax/manifolds/sphere.py",
        "return u * jnp.where(near, trig.arsin_ratio(",
        f"return {low('u')} * u * jnp.where(near, trig.arsin_ratio(",
        "manifolds/test_sphere.py::test_parity",
    ),
    error(
        "1e-4 in float32: weighted sums over edges",
        "port_jax/graphs/segment.py",
        "    return locally(_product, graph, a, v)\n",
        f"    return {low('a')} * locally(_product, graph, a, v)\n",
        "graphs/test_segment.py::test_float32_is_no_worse_than_torch",
    ),
    error(
        "1e-4 in float32: HyboNet's centroids",
        f"{LAYERS}/hybonet.py",
        "        return s / jnp.sqrt(jnp.maximum(square, 1e-8))\n",
        f"        return {low('s')} * s / jnp.sqrt(jnp.maximum(square, 1e-8))\n",
        "models/test_hybonet.py::test_forward_and_gradients[classes, attention]",
    ),
    error(
        "1e-4 in float32: HGAT's attention over blankets",
        f"{LAYERS}/hgat.py",
        "total = segment_sum(alpha.mean(-1, keepdims=True) * messages, graph)",
        f"total = {low('messages')} * segment_sum(alpha.mean(-1, keepdims=True) * messages, graph)",
        "models/test_hgat.py::test_outputs_gradients_float32_and_the_way_back[markov_blanket-PoincareBall-7]",
    ),
    error(
        "1e-4 in float32: energies of embeddings",
        f"{MODELS}/poincare_embeddings.py",
        "else self.geometry.dist(s, o)",
        f"else {low('s')} * self.geometry.dist(s, o)",
        "models/test_poincare_embeddings.py::test_energies_and_gradients[poincare-distance]",
    ),
    error(
        "1e-4 in float32: a step of Adam",
        f"{OPTIM}/riemannian_adam.py",
        "move(-rate / scalars",
        f"move(-{low('point')} * rate / scalars",
        f"{GATES}::test_a_right_conversion_passes_in_every_parameter_and_the_files_own_optimizer",
    ),
    error(
        "1e-4 in float32: a momentum of SGD",
        f"{OPTIM}/riemannian_sgd.py",
        "(1 - dampening) * r\n    direction",
        f"{low('r')} * (1 - dampening) * r\n    direction",
        "optim/from_torch/test_originals.py::test_rows_go_on_as_geoopts_own_classes_do[sgd-float32]",
    ),
    error(
        "1e-4 in float32: distances of all pairs",
        "port_jax/manifolds/pairs.py",
        "    return 2 * trig.sqrt_or_zero(s) * trig.arsinh_ratio(k * s)\n",
        f"    return {low('s')} * 2 * trig.sqrt_or_zero(s) * trig.arsinh_ratio(k * s)\n",
        "test_pairwise.py::test_near_points_against_fifty_digits",
    ),
    error(
        "1e-4 in float32: a clipped norm",
        f"{OPTIM}/clip.py",
        "    return unit * jnp.sum((jnp.abs(x) / unit) ** p) ** (1 / p)\n",
        f"    return {low('x')} * unit * jnp.sum((jnp.abs(x) / unit) ** p) ** (1 / p)\n",
        "optim/test_clip.py::test_norm_is_clipped_as_in_torch",
    ),
)
