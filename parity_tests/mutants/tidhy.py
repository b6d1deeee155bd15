"""Errors in TiDHy: its inference, its losses, GradNorm, its files."""

from parity_tests.mutants.mutation import Mutation, error

PORT = "port_jax/models"
PARITY = "models/test_tidhy.py::test_prediction_inference_record_and_losses"
TRAINING = "models/test_tidhy_training.py"
ENDS = "models/test_tidhy.py::test_an_inference_ends_by_batch_or_by_row"

MUTATIONS: tuple[Mutation, ...] = (
    error("TiDHy: the rate of r2 is halved too", f"{PORT}/tidhy_inference.py", "in (slow, how.lr_r2))", "in (slow, slow))", PARITY),
    error("TiDHy: momentum without Nesterov", f"{PORT}/tidhy_inference.py", "nesterov=True", "nesterov=False", PARITY),
    error(
        "TiDHy: a first step that ends by batch",
        f"{PORT}/tidhy_inference.py",
        "_converged(new, old, how.tol, False)",
        "_converged(new, old, how.tol, how.batch_converge)",
        f"{ENDS}[True]",
    ),
    error(
        "TiDHy: a record with the new r2",
        f"{PORT}/tidhy.py",
        "self.predict(found.r[:, :-1], found.r2[:, :-1]).r",
        "self.predict(found.r[:, :-1], found.r2[:, 1:]).r",
        PARITY,
    ),
    error(
        "TiDHy: the derivative 1 of |x| at 0",
        f"{PORT}/tidhy_losses.py",
        "return x * jax.lax.stop_gradient(jnp.sign(x))",
        "return jnp.abs(x)",
        f"{TRAINING}::test_steps_go_on_from_the_authors_kind_of_file",
    ),
    error(
        "GradNorm's loss does not move the parameters",
        f"{PORT}/tidhy_weights.py",
        "jnp.tensordot(balance.weights.astype(s.dtype), s, 1) + m,",
        "jnp.tensordot(balance.weights.astype(s.dtype), s, 1) + 0 * m,",
        f"{TRAINING}::test_gradnorm_of_quadratic_losses_by_hand",
    ),
    error(
        "GradNorm's target has a derivative",
        f"{PORT}/tidhy_weights.py",
        "target = jax.lax.stop_gradient(jnp.mean(lengths) * relative**alpha)",
        "target = jnp.mean(lengths) * relative**alpha",
        f"{TRAINING}::test_gradnorm_of_quadratic_losses_by_hand",
    ),
    error(
        "TiDHy: the weights of the losses under other names",
        "weights/models/tidhy_training.py",
        'KEYS = {"weights": "loss_weights", "initial": "l0"}',
        'KEYS = {"weights": "l0", "initial": "loss_weights"}',
        f"{TRAINING}::test_the_weights_of_the_losses_go_back",
    ),
)  # fmt: skip
