"""Errors in the layers that people build with, in port_jax alone and on both sides, where only the formulas at 50 digits see them."""

from parity_tests.mutants.mutation import Mutation, both, error

LAYERS, BALL, HYPERBOLOID = "port_jax/layers", "port_jax/manifolds/stereographic", "port_jax/manifolds/hyperboloid"
LINEAR, PLANES, NORM, POINTWISE, RESIDUAL, CONV, ATTENTION = (
    f"layers/test_{name}.py" for name in ("linear", "hyperplanes", "batch_norm", "pointwise", "residual", "convolution", "attention")
)
DISTRIBUTIONS = "test_distributions.py"
VALUES, POINTWISE_FORMULAS = "test_the_original[values_and_gradients", f"{POINTWISE}::test_formulas_at_50_digits"
FORMULAS, PLANES_FORMULAS = f"{RESIDUAL}::test_formulas_at_50_digits", f"{PLANES}::test_distances_to_hyperplanes_at_50_digits"

MUTATIONS: tuple[Mutation, ...] = (
    error(
        "distributions: a density whose volume has one dimension more",
        "port_jax/distributions.py",
        "(self.dim - 1) * _log_sin_ratio",
        "self.dim * _log_sin_ratio",
        f"{DISTRIBUTIONS}::test_densities_and_samples_at_50_digits",
    ),
    Mutation(
        "distributions: points and densities of a frame of the Euclidean length",
        (
            ("port_jax/distributions.py", "v / self.manifold.unit", "v"),
            ("port_jax/distributions.py", "self.manifold.unit * self.manifold.coordinates0", "self.manifold.coordinates0"),
        ),
        (f"{DISTRIBUTIONS}::test_densities_and_samples_at_50_digits",),
    ),
    error(
        "layers: a running variance over N",
        f"{LAYERS}/standard.py",
        "new + (new - self.momentum * old) / (rows - 1)",
        "new",
        f"{NORM}::test_torchs_running_variance",
    ),
    error(
        "layers: a Moebius linear map that adds its bias from the left",
        f"{LAYERS}/linear.py",
        "manifold.mobius_add(y, jnp.broadcast_to(bias, y.shape))",
        "manifold.mobius_add(jnp.broadcast_to(bias, y.shape), y)",
        f"{LINEAR}::{VALUES}-moebius-ball]",
    ),
    error(
        "layers: a bias of a Moebius linear map taken for a tangent vector",
        f"{LAYERS}/linear.py",
        "manifold.mobius_add(y, jnp.broadcast_to(bias, y.shape))",
        "manifold.mobius_add(y, jnp.broadcast_to(manifold.from_tangent0(bias[manifold.ambient :]), y.shape))",
        f"{LINEAR}::test_moebius_linear_at_50_digits[moebius-hyperboloid]",
    ),
    Mutation(
        "layers, both: HNN++'s hyperplanes without the factor 2 of the metric",
        (
            (f"{BALL}/unidirectional.py", "return 2 * along * trig", "return along * trig"),
            ("reference_torch/layers/linear.py", "return 2 * length / root * torch", "return length / root * torch"),
        ),
        (f"{LINEAR}::test_poincare_linear_at_50_digits",),
    ),
    error(
        "layers: the offset of HNN++'s hyperplanes not doubled",
        f"{BALL}/unidirectional.py",
        "length * trig.sin_k(2 * r, k)",
        "length * trig.sin_k(r, k)",
        f"{LINEAR}::test_poincare_linear_at_50_digits",
    ),
    both(
        "layers, both: the time of a fully connected layer from the square of k",
        "layers/linear.py",
        "return manifold.projx(y if with_time else manifold.from_coordinates0(y))",
        "return type(manifold)(manifold.k**2).projx(y if with_time else manifold.from_coordinates0(y))",
        f"{LINEAR}::test_fully_connected_at_50_digits",
        reference=("(manifold.k + space.pow(2)", "(manifold.k**2 + space.pow(2)"),
    ),
    both(
        "layers, both: Ganea's logits not scaled by the normals",
        "layers/hyperplanes.py",
        "(distances * length[None])",
        "(distances * length[None] / length[None])",
        f"{PLANES_FORMULAS}[ganea-ball]",
        reference=("return length * manifold.dist2plane", "return manifold.dist2plane"),
    ),
    error(
        "layers: Ganea's normals scaled as in the flat space of coordinates",
        f"{LAYERS}/hyperplanes.py",
        "length = manifold.unit * sqrt_or_zero",
        "length = sqrt_or_zero",
        f"{PLANES_FORMULAS}[ganea-ball]",
    ),
    both(
        "layers, both: the raw k for a radius in the Lorentz logits",
        "layers/hyperplanes.py",
        "unidirectional_lorentz(x, kernel, bias, manifold.k)",
        "unidirectional_lorentz(x, kernel, bias, manifold.k**2)",
        f"{PLANES_FORMULAS}[lorentz-hyperboloid]",
        reference=("root, length = manifold.k.sqrt(), self", "root, length = manifold.k, self"),
    ),
    both(
        "layers, both: a batch divided by its variance, not its deviation",
        "layers/batch_norm.py",
        "jnp.sqrt(jnp.where(some, weight, 1) / (var + eps))",
        "jnp.sqrt(jnp.where(some, weight, 1)) / (var + eps)",
        f"{NORM}::test_midpoint_form_at_50_digits",
        reference=("(self.weight / (var + self.eps)).sqrt()", "self.weight.sqrt() / (var + self.eps)"),
    ),
    error(
        "layers: running statistics with flax's momentum",
        f"{LAYERS}/batch_norm.py",
        "jnp.array([1 - momentum, momentum], new.dtype)",
        "jnp.array([momentum, 1 - momentum], new.dtype)",
        f"{NORM}::{VALUES}-midpoint,_training-ball]",
    ),
    both(
        "layers, both: squared distances in the spread of Lorentz batch norm",
        "layers/batch_norm.py",
        "distance=lambda space, mean, x, u: space.dist(mean, x)",
        "distance=lambda space, mean, x, u: space.dist2(mean, x)",
        f"{NORM}::test_lorentz_form_at_50_digits",
        reference=("manifold.dist(mean.expand_as(x), x).mean().reshape(1)", "manifold.dist(mean.expand_as(x), x).pow(2).mean().reshape(1)"),
    ),
    error(
        "layers: evaluation by the statistics of the batch",
        f"{LAYERS}/batch_norm.py",
        "        if use_running_average:\n            mean, var = running.value, spread.value\n",
        "        if use_running_average and self.is_initializing():\n            mean, var = running.value, spread.value\n",
        f"{NORM}::{VALUES}-midpoint,_evaluation-ball]",
    ),
    both(
        "layers, both: an activation of space coordinates in the tangent space",
        "layers/pointwise.py",
        "return _in_space(self, manifold, x, self.act)",
        "return _in_tangent(manifold, x, self.act)",
        f"{POINTWISE_FORMULAS}[activation_in_space-hyperboloid]",
        reference=("return lift(manifold, self.act(x[..., 1:]))", "return from_tangent0(manifold, self.act(to_tangent0(manifold, x)))"),
    ),
    error(
        "layers: dropout that is not scaled back",
        f"{LAYERS}/pointwise.py",
        "nn.Dropout(self.rate)(u, deterministic=deterministic)",
        "nn.Dropout(self.rate)(u, deterministic=deterministic) * (1 - self.rate)",
        f"{POINTWISE}::test_dropout_keeps_the_rate_and_the_mean",
    ),
    both(
        "layers, both: layer norm with another eps",
        "layers/pointwise.py",
        "return _in_space(self, manifold, x, nn.LayerNorm(self.eps, ",
        "return _in_space(self, manifold, x, nn.LayerNorm(1e-6, ",
        f"{POINTWISE_FORMULAS}[layer_norm_in_space-hyperboloid]",
        reference=("self.norm = nn.LayerNorm(features)", "self.norm = nn.LayerNorm(features, eps=1e-6)"),
    ),
    error(
        "layers: a residual connection added from the other side",
        f"{LAYERS}/residual.py",
        'manifold.mobius_add(as_numbers("x", x), as_numbers("y", y))',
        'manifold.mobius_add(as_numbers("y", y), as_numbers("x", x))',
        f"{FORMULAS}[moebius_residual-ball]",
    ),
    both(
        "layers, both: a midpoint residual with its weight on the wrong point",
        "layers/residual.py",
        "jnp.stack([jnp.ones_like(w), w])",
        "jnp.stack([w, jnp.ones_like(w)])",
        f"{FORMULAS}[midpoint_residual-hyperboloid]",
        reference=("torch.stack([torch.ones_like(self.w_y), self.w_y])", "torch.stack([self.w_y, torch.ones_like(self.w_y)])"),
    ),
    error(
        "layers: a sum of space coordinates with the time of x",
        f"{LAYERS}/residual.py",
        'return manifold.projx(manifold.from_coordinates0(as_numbers("x", x)[..., 1:] + as_numbers("y", y)[..., 1:]))',
        "return jnp.concatenate([x[..., :1], x[..., 1:] + y[..., 1:]], -1)",
        f"{FORMULAS}[space_residual-hyperboloid]",
    ),
    error(
        "layers: an embedding that starts at tangent vectors",
        f"{LAYERS}/embedding.py",
        "normal(manifold, self.stddev)",
        "nn.initializers.normal(self.stddev)",
        f"{RESIDUAL}::test_an_embedding_starts_on_its_manifold",
    ),
    error(
        "layers: a pool without its weights",
        f"{LAYERS}/pooling.py",
        'as_numbers("x", x), weights, reducedim=self.axes',
        'as_numbers("x", x), None, reducedim=self.axes',
        f"{FORMULAS}[pool-ball]",
    ),
    error(
        "layers: windows with rows and columns exchanged",
        f"{LAYERS}/pooling.py",
        "        for i in range(rows)\n        for j in range(columns)\n",
        "        for j in range(columns)\n        for i in range(rows)\n",
        f"{RESIDUAL}::test_windows_are_those_that_fit",
    ),
    Mutation(
        "layers, both: beta functions of the dimension, not of half of it",
        (
            (f"{BALL}/concatenation.py", "lgamma(n / 2) - lgamma((n + 1) / 2)", "lgamma(n) - lgamma(n + 1 / 2)"),
            (
                "reference_torch/layers/convolution.py",
                "lgamma(n / 2) + lgamma(0.5) - lgamma((n + 1) / 2)",
                "lgamma(n) + lgamma(0.5) - lgamma(n + 0.5)",
            ),
        ),
        (f"{CONV}::test_poincare_convolution_at_50_digits",),
    ),
    error(
        "layers: a beta concatenation without its factor",
        f"{BALL}/concatenation.py",
        "expmap0(beta_ratio(parts * d, d) * logmap0(",
        "expmap0(logmap0(",
        f"{CONV}::test_poincare_convolution_at_50_digits",
    ),
    both(
        "layers, both: times of a direct concatenation added without their radii",
        "layers/convolution.py",
        "joined = direct_concatenate(parts, manifold.k)",
        "joined = direct_concatenate(parts, parts.shape[-2] * manifold.k)",
        f"{CONV}::test_lorentz_convolution_at_50_digits",
        reference=("- (parts.shape[-2] - 1) * manifold.k).sqrt()", ").sqrt()"),
    ),
    both(
        "layers, both: attention by distances at k = 1",
        "layers/attention.py",
        "closeness(query, key) / scale",
        "closeness(query, key) / k / scale",
        f"{ATTENTION}::test_attention_at_50_digits",
        reference=("-inner(apart, apart)[..., 0] / self.scale", "-inner(apart, apart)[..., 0] / manifold.k / self.scale"),
    ),
    error(
        "layers: attention normalised over queries",
        f"{LAYERS}/attention.py",
        "jax.nn.softmax(logits, -1)",
        "jax.nn.softmax(logits, -2)",
        f"{ATTENTION}::test_attention_at_50_digits",
    ),
    error(
        "layers: keys in place of values",
        f"{LAYERS}/attention.py",
        '"...hnm,...mhc->...nhc", alpha, value',
        '"...hnm,...mhc->...nhc", alpha, key',
        f"{ATTENTION}::test_attention_at_50_digits",
    ),
)
