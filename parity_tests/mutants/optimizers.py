"""Errors in the optimizers and schedules."""

from parity_tests.mutants.mutation import Mutation, error

HOME = "port_jax/optim"
BALL, LORENTZ = "port_jax/manifolds/stereographic", "port_jax/manifolds/hyperboloid"
# Rows of the table of options, one with each of the ways in which a step is computed.
ADAM = "optim/test_riemannian_adam.py::test_trajectories_equal_geoopt"
FUSED_LORENTZ = "manifolds/test_fused_step.py::test_equals_the_general_form"
ADAM_BALL = f"{ADAM}[lr 0.01, betas (0.8, 0.95), eps 0.001, weight_decay 0.1]"
ADAM_GENERAL = f"{ADAM}[lr 0.03, betas (0.8, 0.95), weight_decay 0.1, amsgrad True, stabilize 3]"
SGD = "optim/test_riemannian_sgd.py::test_trajectories_equal_geoopt[lr 0.0005, momentum 0.9]"
RATES = "optim/test_schedules.py::test_rates_are_those_of_torch"

MUTATIONS: tuple[Mutation, ...] = (
    error(
        "gyration left out of the transport",
        f"{BALL}/geodesics.py",
        "return gyration(y, -x, v, k) * (conformal",
        "return v * (conformal",
        ADAM_GENERAL,
    ),
    error(
        "gyration left out of the transport, Adam on the ball",
        f"{BALL}/fused_step.py",
        "b / a * ((1 + second * c) * momentum + (first + second * less / s) * y)",
        "b / a * momentum",
        ADAM_BALL,
    ),
    error(
        "lambda_x and lambda_y exchanged",
        f"{BALL}/geodesics.py",
        "return gyration(y, -x, v, k) * (conformal(y, k) / conformal(x, k))",
        "return gyration(y, -x, v, k) * (conformal(x, k) / conformal(y, k))",
        ADAM_GENERAL,
    ),
    error(
        "lambda_x and lambda_y exchanged, Adam on the ball",
        f"{BALL}/fused_step.py",
        "return y, change, b / a * (",
        "return y, change, a / b * (",
        ADAM_BALL,
    ),
    error(
        "c replaced by 1",
        f"{BALL}/family.py",
        "        return -positive_or_nan(self.c, zero=True)\n",
        "        return -1.0\n",
        ADAM_BALL,
    ),
    error(
        "momentum of Adam not transported",
        "port_jax/manifolds/base.py",
        "return y, y - x, transported",
        "return y, y - x, momentum",
        ADAM_GENERAL,
    ),
    error(
        "momentum of Adam not transported, on the ball",
        f"{BALL}/fused_step.py",
        "b / a * ((1 + second * c) * momentum + (first + second * less / s) * y)",
        "momentum",
        ADAM_BALL,
    ),
    error(
        "momentum of Adam not transported, on the hyperboloid",
        f"{LORENTZ}/fused_step.py",
        "jnp.where(time, ym / t, momentum / cosh + along / cosh * y)",
        "momentum",
        FUSED_LORENTZ,
    ),
    error(
        "momentum of SGD not transported",
        f"{HOME}/riemannian_sgd.py",
        "point, b = manifold.retr_transp_ambient(point, -rate * direction, b)",
        "point, _ = manifold.retr_transp_ambient(point, -rate * direction, b)",
        SGD,
    ),
    error(
        "a momentum that begins with zeros",
        f"{HOME}/riemannian_sgd.py",
        "jnp.where(first, grad, buffer.astype(dtype))",
        "buffer.astype(dtype)",
        SGD,
    ),
    Mutation(
        "v elementwise",
        (
            (f"{HOME}/riemannian_adam.py", "(1 - b2) * square", "(1 - b2) * manifold.egrad2rgrad(point, grad) ** 2"),
            (
                f"{HOME}/riemannian_adam.py",
                "like = jax.eval_shape(manifold.component_inner, point, point)",
                "like = point",
            ),
        ),
        (ADAM_GENERAL,),
    ),
    Mutation(
        "weight decay decoupled",
        (
            (f"{HOME}/riemannian_adam.py", "        grad = grad + decay * point\n", "        pass\n"),
            (
                f"{HOME}/riemannian_adam.py",
                "    if kept == dtype:\n",
                "    moved, change = moved - rate * decay * point, change - rate * decay * point\n    if kept == dtype:\n",
            ),
        ),
        (ADAM_GENERAL,),
    ),
    error(
        "bias correction off by one",
        f"{HOME}/scalars.py",
        "-jnp.expm1(count.astype(real) * rate)",
        "-jnp.expm1((count + 1).astype(real) * rate)",
        ADAM_GENERAL,
    ),
    error(
        "eps under the root",
        f"{HOME}/riemannian_adam.py",
        "/ (root + eps))",
        "/ jnp.sqrt(root * root + eps))",
        ADAM_BALL,
    ),
    error(
        "the maximum of AMSGrad forgotten",
        f"{HOME}/riemannian_adam.py",
        "v_max = root if keep_root else largest",
        "v_max = root if keep_root else v",
        ADAM_GENERAL,
    ),
    error(
        "points projected one step late",
        f"{HOME}/riemannian_adam.py",
        "due = [n % stabilize == 0 for n, g in",
        "due = [n % stabilize == 1 for n, g in",
        "optim/test_trees.py::test_points_and_momenta_are_projected_when_their_own_count_says_so",
    ),
    error(
        "points projected by the optimizer's steps, not by their own counts",
        f"{HOME}/riemannian_adam.py",
        "due = [n % stabilize == 0 for n, g in",
        "due = [(state.step + 1) % stabilize == 0 for n, g in",
        "optim/test_trees.py::test_points_and_momenta_are_projected_when_their_own_count_says_so",
    ),
    error(
        "a momentum not made tangent after its point is projected",
        f"{HOME}/trees.py",
        "tangents[i] = jnp.where(allowed, manifold.proju(points[i], tangent), tangent)",
        "tangents[i] = tangent",
        "optim/test_trees.py::test_points_and_momenta_are_projected_when_their_own_count_says_so",
    ),
    error(
        "decay along the geodesic from the origin",
        f"{HOME}/riemannian_adamw.py",
        "part * manifold.logmap(point, origin)",
        "-part * manifold.logmap(point, origin)",
        "optim/test_riemannian_adamw.py::test_trajectories_equal_the_definition_by_geoopts_operations",
    ),
    error(
        "a momentum that stays where the decay began",
        f"{HOME}/riemannian_adamw.py",
        "                moments[i] = manifold.transp(p, q, moments[i])\n",
        "",
        "optim/test_riemannian_adamw.py::test_trajectories_equal_the_definition_by_geoopts_operations",
    ),
    error(
        "an average whose first parameters count twice",
        f"{HOME}/weight_average.py",
        "count = state.count + 1\n",
        "count = state.count + 2\n",
        "optim/test_weight_average.py::test_flat_parameters_average_as_in_torch",
    ),
    error(
        "a clipped norm without its epsilon",
        f"{HOME}/clip.py",
        "(total_norm(updates, norm_type) + EPSILON)",
        "total_norm(updates, norm_type)",
        "optim/test_clip.py::test_norm_is_clipped_as_in_torch",
    ),
    error(
        "a plateau one step too patient",
        f"{HOME}/reduce_on_plateau.py",
        "due = bad > self.patience",
        "due = bad > self.patience + 1",
        "optim/test_reduce_on_plateau.py::test_rates_are_those_of_torch",
    ),
    error(
        "a schedule shifted by one step",
        f"{HOME}/rates.py",
        "return self.at(jnp.asarray(count))",
        "return self.at(jnp.asarray(count) + 1)",
        RATES,
    ),
    error(
        "a milestone that counts one step late",
        f"{HOME}/schedules.py",
        'power(gamma, jnp.searchsorted(marks, n, side="right"))',
        'power(gamma, jnp.searchsorted(marks, n, side="left"))',
        RATES,
    ),
    error(
        "a schedule that begins with its milestone's step, not its own 0",
        f"{HOME}/schedules.py",
        "schedule(jnp.maximum(n - start, 0)), rate)",
        "schedule(n), rate)",
        RATES,
    ),
    error(
        "a scheduler of epochs stepped after each update",
        f"{HOME}/schedules.py",
        "return lambda count: schedule(count // updates)",
        "return schedule",
        "optim/test_schedules.py::test_every_steps_once_an_epoch",
    ),
    error(
        "gradients of a repeated row not added",
        f"{HOME}/sparse_rows.py",
        ".at[inside].add(values, mode=",
        ".at[inside].set(values, mode=",
        "optim/test_sparse.py::test_trajectories_equal_geoopt",
    ),
    error(
        "moments of untouched rows decayed as well",
        f"{HOME}/sparse_riemannian_adam.py",
        "whole = Moments(mu[i], nu[i], nu_max[i])",
        "whole = Moments(b1 * mu[i], nu[i], nu_max[i])",
        "optim/test_sparse.py::test_trajectories_equal_geoopt",
    ),
    error(
        "any number of skipped steps in a row",
        f"{HOME}/guard.py",
        "return optax.apply_if_finite(inner, max_skipped)",
        "return optax.apply_if_finite(inner, 10**9)",
        "optim/test_guard.py::test_skip_passes_them_on_after_as_many_as_it_is_told",
    ),
    error(
        "Polak and Ribiere's beta with the gradient that was not transported",
        f"{HOME}/riemannian_line_search.py",
        "change = [g - t for g, t in zip(c.grad, c.transported_grad, strict=True)]",
        "change = [g - t for g, t in zip(c.grad, c.old_grad, strict=True)]",
        "optim/from_torch/test_rows_and_searches.py::test_a_search_goes_on",
    ),
)
