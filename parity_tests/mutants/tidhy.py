"""Errors in TiDHy: its forms, its inference and where it stops, its losses and regularisers, GradNorm, its training, its files."""

from parity_tests.mutants.mutation import Mutation, error

PORT = "port_jax/models"
MODEL, INFERENCE, LOSSES = f"{PORT}/tidhy.py", f"{PORT}/tidhy_inference.py", f"{PORT}/tidhy_losses.py"
TRAINING, GRADNORM = f"{PORT}/tidhy_training.py", f"{PORT}/tidhy_weights.py"
TESTS = "models/test_tidhy.py"
PARITY = f"{TESTS}::test_prediction_inference_record_and_losses"
INSIDE, R2 = f"{PARITY}[GradNorm inside]", f"{PARITY}[R2 decoder]"
ENDS, ROWS = f"{TESTS}::test_an_inference_ends_by_batch_or_by_row", f"{TESTS}::test_batch_and_rows_end_at_different_iterations"
STOPPING = "models/test_tidhy_stopping.py"
CURVE = f"{STOPPING}::test_training_with_the_stopping_rule_follows_torchs[by row, without GradNorm, 4 steps]"
RUNS = "models/test_tidhy_training.py"
STEPS = f"{RUNS}::test_steps_go_on_from_the_authors_kind_of_file"
ALL, R2_STEPS = f"{STEPS}[GradNorm, all regularisers, low rank, carried]", f"{STEPS}[R2 decoder, clipped]"
GROUPS = f"{RUNS}::test_an_optimizer_of_three_groups_is_torchs"
BY_HAND = f"{RUNS}::test_gradnorm_of_quadratic_losses_by_hand"
WEIGHTS_BACK = f"{RUNS}::test_the_weights_of_the_losses_go_back"
FILES = "models/test_tidhy_files.py"
ALONE = "models/test_tidhy_regularisers.py::test_each_regulariser_alone"
AFTER = "models/test_tidhy_regularisers.py::test_each_change_after_an_update_alone"

FORMS = (
    error(
        "TiDHy: one of two low-rank factors without a derivative",
        MODEL,
        "self.temporal, self.temporal)",
        "self.temporal, jax.lax.stop_gradient(self.temporal))",
        ALL,
    ),
    error(
        "TiDHy: the dynamic bias read from the first outputs",
        MODEL,
        "w, b = given[..., : self.mix_dim], given[..., self.mix_dim :]",
        "w, b = given[..., -self.mix_dim :], given[..., : -self.mix_dim]",
        INSIDE,
    ),
    error("TiDHy: the dynamic bias not scaled", MODEL, "moved + b * jnp", "moved + 0 * b + jnp", INSIDE),
    error("TiDHy: the R2 decoder's latents exchanged", MODEL, "jnp.concatenate([r, r2], -1)", "jnp.concatenate([r2, r], -1)", R2),
    error(
        "TiDHy: a derivative of what the R2 decoder foretells",
        INFERENCE,
        "jax.lax.stop_gradient(nets.foretell(r, r2))",
        "nets.foretell(r, r2)",
        R2,
    ),
    error(
        "TiDHy: the R2 decoder foretells from the latents of the step before",
        INFERENCE,
        "nets.foretell(r, r2))",
        "nets.foretell(r_p, r2))",
        R2,
    ),
    error(
        "TiDHy: the R2 decoder's loss from the new r",
        MODEL,
        "self.foretell(found.r[:, :-1], found.r2[:, :-1])",
        "self.foretell(found.r[:, 1:], found.r2[:, :-1])",
        R2,
    ),
    error("TiDHy: an optimizer that moves the R2 decoder", TRAINING, '"r2_decoder": "none"', '"r2_decoder": "h"', f"{GROUPS}[R2 decoder]"),
    error(
        "TiDHy: the R2 decoder's gradients cleared",
        TRAINING,
        'jax.tree.map(jnp.add, slopes["r2_decoder"], state.collections["r2_decoder"])',
        'slopes["r2_decoder"]',
        R2_STEPS,
    ),
    error(
        "TiDHy: the R2 decoder's gradients kept before they are clipped",
        TRAINING,
        '{"r2_decoder": clipped["r2_decoder"]}',
        '{"r2_decoder": slopes["r2_decoder"]}',
        R2_STEPS,
    ),
    error(
        "TiDHy: Poisson's loss of the exponential",
        LOSSES,
        "predicted - x * jnp.log(predicted)",
        "jnp.exp(predicted) - x * predicted",
        f"{PARITY}[Poisson, GradNorm inside]",
    ),
)  # fmt: skip
ITERATIONS = (
    error("TiDHy: the rate of r2 is halved too", INFERENCE, "in (slow, how.lr_r2))", "in (slow, slow))", INSIDE),
    error(
        "TiDHy: the rate of r is halved at every fifth",
        INFERENCE,
        "milestones(how.max_iter, 10)",
        "milestones(how.max_iter, 5)",
        INSIDE,
    ),
    error("TiDHy: momentum without Nesterov", INFERENCE, "nesterov=True", "nesterov=False", INSIDE),
    error(
        "TiDHy: a hard threshold in the place of a soft one",
        LOSSES,
        "return jnp.sign(x) * jnp.maximum(jnp.abs(x) - lmda, 0) if lmda else x",
        "return jnp.where(jnp.abs(x) > lmda, x, 0) if lmda else x",
        ALL,
    ),
    error("TiDHy: no threshold of r2", INFERENCE, "(how.lmda_r, how.lmda_r2)", "(how.lmda_r, 0.0)", ALL),
    error("TiDHy: stopping by row where it is by batch", INFERENCE, "axis=None if together else -1", "axis=-1", ROWS),
    error("TiDHy: stopping by batch where it is by row", INFERENCE, "axis=None if together else -1", "axis=None", ROWS),
    error(
        "TiDHy: a first step that ends by batch",
        INFERENCE,
        "_converged(new, old, how.tol, False)",
        "_converged(new, old, how.tol, how.batch_converge)",
        f"{ENDS}[by batch]",
    ),
    error(
        "TiDHy: one latent is enough to stop",
        INFERENCE,
        "for a, b in zip(new, now.latents, strict=True)]).all()",
        "for a, b in zip(new, now.latents, strict=True)]).any()",
        CURVE,
    ),
    error(
        "TiDHy: a move measured by the new length",
        INFERENCE,
        "for a in (new - old, old))",
        "for a in (new - old, new))",
        f"{STOPPING}::test_an_inference_by_hand[0.9]",
    ),
    error(
        "TiDHy: an iteration beyond max_iter",
        INFERENCE,
        "(now.count < how.max_iter)",
        "(now.count <= how.max_iter)",
        f"{ENDS}[by max_iter]",
    ),
    error(
        "TiDHy: a record with the new r2",
        MODEL,
        "self.predict(found.r[:, :-1], found.r2[:, :-1]).r",
        "self.predict(found.r[:, :-1], found.r2[:, 1:]).r",
        INSIDE,
    ),
    error(
        "TiDHy: training with the r2 of the step before",
        MODEL,
        "r_bar = self.predict(found.r[:, :-1], found.r2[:, 1:]).r",
        "r_bar = self.predict(found.r[:, :-1], found.r2[:, :-1]).r",
        CURVE,
    ),
    error(
        "TiDHy: the derivative 1 of |x| at 0",
        LOSSES,
        "return x * jax.lax.stop_gradient(jnp.sign(x))",
        "return jnp.abs(x)",
        ALL,
    ),
)  # fmt: skip
REGULARISERS = (
    error(
        "TiDHy: cosines divided by r_dim",
        TRAINING,
        "options.cos_eta / model.mix_dim",
        "options.cos_eta / model.r_dim",
        f"{ALONE}[cos_eta, full]",
    ),
    error(
        "TiDHy: cosines between low-rank factors",
        TRAINING,
        "model.mix_dim * cosines(temporal)",
        "model.mix_dim * cosines(temporal.reshape(-1, temporal.shape[-1]))",
        f"{ALONE}[cos_eta, low rank]",
    ),
    error(
        "TiDHy: cosines of the hypernetwork's outputs",
        TRAINING,
        'cosines(hyper["layers_0"]["kernel"])',
        'cosines(hyper["layers_0"]["kernel"].T)',
        f"{ALONE}[Orth_alpha_r2, full]",
    ),
    error("TiDHy: the decoder's orthogonality summed", TRAINING, "jnp.mean(gap**2)", "jnp.sum(gap**2)", f"{ALONE}[Orth_alpha_spat, full]"),
    error(
        "TiDHy: L1 of the dynamics as a mean",
        TRAINING,
        "l1(options.L1_alpha, temporal) +",
        "l1(options.L1_alpha, temporal) / temporal.size +",
        f"{ALONE}[L1_alpha, full]",
    ),
    error(
        "TiDHy: L1 of the decoder's last matrix",
        TRAINING,
        'decoder = params["spatial_decoder"]["layers_0"]["kernel"]\n    last',
        'decoder = params["spatial_decoder"][max(params["spatial_decoder"])]["kernel"]\n    last',
        f"{ALONE}[L1_alpha_spat, deep decoder]",
    ),
    error(
        "TiDHy: L1 of another matrix of the hypernetwork",
        TRAINING,
        'l1(options.L1_alpha_W, hyper["layers_4"]',
        'l1(options.L1_alpha_W, hyper["layers_3"]',
        f"{ALONE}[L1_alpha_W, full]",
    ),
    error(
        "TiDHy: L1 of the hypernetwork with GradNorm too",
        TRAINING,
        "if not options.grad_norm:\n        shared +=",
        "if True:\n        shared +=",
        f"{ALONE}[L1_alpha_W, full]",
    ),
    error("TiDHy: Frobenius' norm for the nuclear one", LOSSES, 'ord="nuc"', 'ord="fro"', f"{ALONE}[Lnuc_alpha, full]"),
    error(
        "TiDHy: L0_alpha as a weight",
        TRAINING,
        "options.L1_alpha * jnp.sum(temporal != 0)",
        "options.L0_alpha * jnp.sum(temporal != 0)",
        f"{ALONE}[L0_alpha, a switch for a count times L1_alpha, full]",
    ),
    error("TiDHy: small dynamics stay", TRAINING, "jnp.abs(temporal) < SMALL", "jnp.abs(temporal) < 0", AFTER),
    error("TiDHy: the decoder's rows of length 1", TRAINING, '_unit(first["kernel"])', '_unit(first["kernel"].T).T', AFTER),
    error("TiDHy: the cosines added to the second loss", TRAINING, ".at[2].set(more.last)", ".at[1].set(more.last)", ALL),
)  # fmt: skip
BALANCE = (
    error(
        "GradNorm's loss does not move the parameters",
        GRADNORM,
        "jnp.tensordot(balance.weights.astype(s.dtype), s, 1) + m,",
        "jnp.tensordot(balance.weights.astype(s.dtype), s, 1) + 0 * m,",
        BY_HAND,
    ),
    error(
        "GradNorm's loss does not move the latents",
        INFERENCE,
        "return step.gradients, fresh(",
        "return jax.tree.map(lambda s: jnp.tensordot(balance.weights, s, 1), jax.jacrev(losses)(latents)), fresh(",
        INSIDE,
    ),
    error(
        "GradNorm's target has a derivative",
        GRADNORM,
        "target = jax.lax.stop_gradient(jnp.mean(lengths) * relative**alpha)",
        "target = jnp.mean(lengths) * relative**alpha",
        BY_HAND,
    ),
    error(
        "GradNorm's first losses are those of each step",
        GRADNORM,
        "initial = jnp.where(begun(balance), balance.initial, value)",
        "initial = value",
        BY_HAND,
    ),
    error("GradNorm's ratios not divided by their mean", GRADNORM, "relative = ratio / jnp.mean(ratio)", "relative = ratio", BY_HAND),
    error(
        "GradNorm's AdamW kept from a step before",
        GRADNORM,
        "mover.update(step.slope, mover.init(weights), weights)",
        "mover.update(step.slope, mover.update(step.slope[::-1], mover.init(weights), weights)[1], weights)",
        BY_HAND,
    ),
    error("GradNorm's weights of sum 1", GRADNORM, "len(weights) * jax.nn.softmax(", "jax.nn.softmax(", BY_HAND),
    error(
        "GradNorm's weights without decay inside of the inference",
        INFERENCE,
        "how.lr_weights_inf, 0.01)",
        "how.lr_weights_inf, 0.0)",
        INSIDE,
    ),
    error(
        "GradNorm inside of the inference measures both latents by each loss",
        INFERENCE,
        "((True, True), (True, False), (False, True))",
        "((True, True), (True, True), (True, True))",
        INSIDE,
    ),
    error(
        "GradNorm inside of the inference with temp_weight",
        INFERENCE,
        "temporal = squares(r, nets.predict(r_p, r2).r, rows)",
        "temporal = how.temp_weight * squares(r, nets.predict(r_p, r2).r, rows)",
        INSIDE,
    ),
    error(
        "GradNorm inside of the inference begins with a loss of 0",
        INFERENCE,
        "return jnp.where((found == 0) & ~begun(balance), jnp.asarray(ZERO, found.dtype), found)",
        "return found",
        f"{PARITY}[Poisson, GradNorm inside]",
    ),
    error(
        "GradNorm measures the dynamic bias",
        TRAINING,
        '"temporal": (False, True, True), "hypernet"',
        '"temporal": (False, True, True), "temporal_bias": (False, True, True), "hypernet"',
        ALL,
    ),
    error(
        "GradNorm takes the norm of a gradient of 0 as it is",
        GRADNORM,
        "optax.safe_norm(slopes.reshape(len(slopes), -1), 0.0, axis=1)",
        "jnp.linalg.norm(slopes.reshape(len(slopes), -1), axis=1)",
        f"{RUNS}::test_gradnorm_where_a_gradient_is_zero_is_finite",
    ),
)  # fmt: skip
ON_DISK = (
    error(
        "TiDHy: rates of training halved at every tenth",
        TRAINING,
        "milestones(epochs, 5)",
        "milestones(epochs, 10)",
        f"{GROUPS}[as it is]",
    ),
    error("TiDHy: the first r2 carried over", TRAINING, "found.r2[:, -1]", "found.r2[:, 0]", ALL),
    error(
        "TiDHy: the weights of the losses under other names",
        "weights/models/tidhy_training.py",
        'KEYS = {"weights": "loss_weights", "initial": "l0"}',
        'KEYS = {"weights": "l0", "initial": "loss_weights"}',
        WEIGHTS_BACK,
    ),
    error("TiDHy: a run that goes on weighs its losses by 1", TRAINING, "begins = balance or start(", "begins = start(", ALL),
    error(
        "TiDHy: the weights of the losses said to be of no use",
        "weights/models/tidhy.py",
        "    begins=begins,\n",
        "",
        f"{FILES}::test_convert_says_what_a_run_begins_with",
    ),
    error(
        "TiDHy: GradNorm's optimizer taken for one of the model",
        "weights/models/tidhy.py",
        "for group in groups) != 1",
        "for group in groups) != 0",
        f"{RUNS}::test_a_list_of_schedulers_is_read_with_two_optimizers_and_with_one[True]",
    ),
    error(
        "TiDHy: the gradients of an R2 decoder taken for a part of the file",
        "weights/models/tidhy_training.py",
        '("gradnorm",)',
        "tuple(collections)",
        f"{FILES}::test_a_run_leaves_out_what_a_file_has_no_place_for[R2 decoder]",
    ),
    error(
        "TiDHy: low-rank factors taken for dynamics",
        "weights/models/tidhy.py",
        "(temporal @ temporal.swapaxes(1, 2)).reshape(len(temporal), -1)",
        "temporal.reshape(len(temporal), -1)",
        f"{FILES}::test_embed_writes_the_dynamics",
    ),
)  # fmt: skip
MUTATIONS: tuple[Mutation, ...] = (*FORMS, *ITERATIONS, *REGULARISERS, *BALANCE, *ON_DISK)
