"""Errors in what is Poincaré ResNet's: its layers, its slips, its files."""

from parity_tests.mutants.mutation import Mutation, error

LAYER = "port_jax/layers/poincare_resnet.py"
NET = "port_jax/models/poincare_resnet.py"
TABLE = "weights/models/poincare_resnet.py"
LAYERS, MODEL = "layers/test_poincare_resnet.py", "models/test_poincare_resnet.py"

MUTATIONS: tuple[Mutation, ...] = (
    error(
        "Poincaré ResNet: the right distance to hyperplanes for the code's",
        LAYER,
        "multiplied=not exact",
        "multiplied=exact",
        f"{LAYERS}::test_the_linear_layer_at_50_digits",
    ),
    error(
        "Poincaré ResNet: the slip in one of its two places",
        "port_jax/manifolds/stereographic/unidirectional.py",
        "2 * ax * (x @ z) * rise - (2 * ax - 1) * fall if",
        "2 * ax * (x @ z) * rise - (2 / ax - 1) * fall if",
        f"{LAYERS}::test_the_linear_layer_at_50_digits",
    ),
    error(
        "Poincaré ResNet: windows that are not shortened",
        LAYER,
        "jnp.pad(beta_ratio(inward * area, inward) * u, frame)",
        "jnp.pad(u, frame)",
        f"{LAYERS}::test_the_convolution_at_50_digits",
    ),
    error(
        "Poincaré ResNet: a variance for each point",
        LAYER,
        "_slipped_dist2(x, mean, c))",
        "_slipped_dist2(x, mean, c), -1, keepdims=True)",
        f"{LAYERS}::test_batch_norm_at_50_digits[all]",
    ),
    error(
        "Poincaré ResNet: sums along the channels",
        LAYER,
        'as_numbers(name, image).swapaxes(-1, -2)) for name, image in (("u", u), ("v", v)))\n'
        "        return ball.logmap0(ball.mobius_add(x, y, project=False)).swapaxes(-1, -2)",
        'as_numbers(name, image)) for name, image in (("u", u), ("v", v)))\n'
        "        return ball.logmap0(ball.mobius_add(x, y, project=False))",
        f"{LAYERS}::test_the_sum_runs_along_the_width_at_50_digits",
    ),
    error(
        "Poincaré ResNet: the right derivative by the curvature for the code's",
        LAYER,
        "slip = 1 / (bottom * jnp.maximum((2 * xy + yy) * gx - xx * gy, LEAST))",
        "slip = ((2 * xy + yy) * gx - xx * gy) / bottom",
        f"{LAYERS}::test_the_slip_in_the_derivative_by_the_curvature",
    ),
    error(
        "Poincaré ResNet: a slip for each point where the code has one",
        LAYER,
        "_slipped(-_slipped(y, -x, c), ",
        "_slipped(-_slipped(y, -x + 0 * u, c), ",
        f"{MODEL}::test_outputs_gradients_and_the_way_back[trained]",
    ),
    error(
        "Poincaré ResNet: the sum in the other order",
        NET,
        '(f, u) if self.skip_connection == "fr" else (u, f)',
        "(u, f)",
        f"{MODEL}::test_outputs_gradients_and_the_way_back[fixed]",
    ),
    error(
        "Poincaré ResNet: softplus of a curvature that is c itself",
        TABLE,
        "itself = own and not learned",
        "itself = False",
        f"{MODEL}::test_what_a_file_does_not_say",
    ),
    error(
        "Poincaré ResNet: mean and var of batch norm at each other's places",
        TABLE,
        'param(f"{key}.norm.mean", f"{path}/bias"), param(f"{key}.norm.var", f"{path}/weight")',
        'param(f"{key}.norm.mean", f"{path}/weight"), param(f"{key}.norm.var", f"{path}/bias")',
        f"{MODEL}::test_what_a_file_does_not_say",
    ),
)
