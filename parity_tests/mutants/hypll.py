"""Errors in what is HypLL's: its layers, its optimizers, its files."""

from parity_tests.mutants.mutation import Mutation, error

LAYER = "port_jax/layers/hypll.py"
MEAN = "port_jax/manifolds/stereographic/fixed_point_mean.py"
OPTIM = "port_jax/optim/from_torch"
TABLE = "weights/models/hypll.py"
LAYERS, STEPS, MODEL = "layers/test_hypll.py", "optim/from_torch/test_hypll.py", "models/test_hypll.py"
MEANS = "manifolds/test_fixed_point_mean.py"

MUTATIONS: tuple[Mutation, ...] = (
    error(
        "the Fréchet mean: a derivative that forgets that the map moves the mean",
        MEAN,
        "return _iterated(m, x, k) - m",
        "return _iterated(jax.lax.stop_gradient(m), x, k) - m",
        f"{MEANS}::test_the_mean_and_its_derivatives_at_50_digits",
    ),
    error(
        "the Fréchet mean: columns of the Jacobian for rows",
        MEAN,
        "jnp.moveaxis(rows, 0, -1), y",
        "jnp.moveaxis(rows, 0, -2), y",
        f"{MEANS}::test_the_mean_and_its_derivatives_at_50_digits",
    ),
    error(
        "HypLL's average pool without the map of the whole window",
        LAYER,
        "joined = ball.projx(beta_concatenate(parts, ball.k))\n        return mean_of",
        "joined = parts\n        return mean_of",
        f"{LAYERS}::test_average_pooling_at_50_digits",
    ),
    error(
        "HypLL's flattening in the order of rows",
        LAYER,
        "joined.reshape(pixels.shape).swapaxes(-1, -2).reshape(*batch, -1)",
        "joined",
        f"{LAYERS}::test_flattening_and_joining_at_50_digits",
    ),
    error(
        "HypLL's batch norm with a variance that is not squared",
        LAYER,
        "jnp.mean(ball.dist2(",
        "jnp.mean(ball.dist(",
        f"{LAYERS}::test_batch_norm_at_50_digits",
    ),
    error(
        "concatenation of parts by the factor of equal ones",
        "port_jax/manifolds/stereographic/concatenation.py",
        "beta_ratio(whole, x.shape[-1]) * logmap0",
        "beta_ratio(whole, whole // len(xs)) * logmap0",
        f"{LAYERS}::test_flattening_and_joining_at_50_digits",
    ),
    error(
        "HypLL's descent with a buffer that is updated on the ball",
        f"{OPTIM}/hypll.py",
        "buffer.astype(kept)",
        "u.astype(kept)",
        f"{STEPS}::test_three_steps_of_descent_at_50_digits",
    ),
    error(
        "HypLL's first gradient by the metric of the first point",
        f"{OPTIM}/hypll.py",
        "u = momentum * manifold.egrad2rgrad(point, buffer) + ",
        "u = momentum * buffer + ",
        f"{STEPS}::test_three_steps_of_descent_at_50_digits",
    ),
    error(
        "HypLL's second moments by rows",
        f"{OPTIM}/repositories.py",
        "axis = axes.get(path, -1)\n",
        "axis = -1\n",
        f"{STEPS}::test_three_steps_of_adam_at_50_digits",
    ),
    error(
        "HypLL's kernels with the position first",
        "weights/mapping/rules.py",
        "a.reshape(-1, rows, columns, a.shape[1]).transpose(1, 2, 0, 3)",
        "a.reshape(rows, columns, -1, a.shape[1])",
        f"{MODEL}::test_outputs_gradients_and_the_way_back[convnet]",
    ),
    error(
        "HypLL's raw value for the curvature",
        TABLE,
        "np.asarray(constrained(constraint, value))",
        "np.asarray(value)",
        f"{MODEL}::test_what_a_file_does_not_say",
    ),
    error(
        "buffers of HypLL's descent written back without their objects",
        "weights/optim/forms.py",
        "    if not isinstance(old, Record):\n        return new\n",
        "    return new\n",
        f"{MODEL}::test_files_with_hyplls_classes[embedding, trained curvature-momentum]",
    ),
)
