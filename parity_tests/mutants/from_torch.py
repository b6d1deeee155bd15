"""Errors in the translation of torch's optimizers, and of their states there and back."""

from parity_tests.mutants.mutation import Mutation, error

HOME = "port_jax/optim/from_torch"
TESTS = "optim/from_torch"

MUTATIONS: tuple[Mutation, ...] = (
    error(
        "resumed runs without geoopt's defects",
        f"{HOME}/groups.py",
        "        if not self.kind.defects:",
        "        if True:",
        f"{TESTS}/test_originals.py::test_the_double_dialect_stabilizes_as_geoopt_does",
    ),
    error(
        "a count that goes up twice a parameter goes up once an update",
        f"{HOME}/dialects.py",
        "total // turn, turn - 1)",
        "total // turn, 0)",
        f"{TESTS}/test_repositories.py::test_goes_on_as_its_loop_does[7-hgcn, amsgrad]",
    ),
    error(
        "HGCN's sums along the last axis here in place of torch's",
        f"{HOME}/translation.py",
        '{"axes": dict(axes or {})}',
        '{"axes": {}}',
        f"{TESTS}/test_repositories.py::test_rows_of_a_transposed_parameter_are_its_columns",
    ),
    error(
        "every parameter at the count of the group's first",
        f"{HOME}/numbers.py",
        "jnp.asarray(counts.get(joined(at), step), jnp.int32)",
        "jnp.asarray(step, jnp.int32)",
        f"{TESTS}/test_repositories.py::test_goes_on_as_its_loop_does",
    ),
    error(
        "the settings of the first group in every group",
        f"{HOME}/translation.py",
        "settings = settled(kind, group, strict, tally.dialect, last_axes)",
        "settings = settled(kind, groups[0], strict, tally.dialect, last_axes)",
        f"{TESTS}/test_groups.py::test_groups_keep_their_own_settings",
    ),
    error(
        "complex parameters squared whole",
        f"{HOME}/making.py",
        "    inner = by_real_parts(inner)\n",
        "",
        f"{TESTS}/test_real_parts.py::test_goes_on_and_comes_back_as_torch",
    ),
    error(
        "one way of decay in all groups of an Adam",
        f"{HOME}/translation.py",
        'group.get("decoupled_weight_decay", kind.decoupled)',
        "kind.decoupled",
        f"{TESTS}/test_groups.py::test_groups_keep_their_own_settings",
    ),
    error(
        "the rate of the first group's schedule in every group",
        f"{HOME}/group_rates.py",
        "if bases is None else bases[self.index]))",
        "if bases is None else bases[0]))",
        f"{TESTS}/test_groups.py::test_groups_keep_their_own_settings",
    ),
    error(
        "a schedule that begins anew in a resumed run",
        f"{HOME}/translation.py",
        "ahead = first.done * per_step - tallies[0].steps if first.rate is not None else 0",
        "ahead = -tallies[0].steps if first.rate is not None else 0",
        f"{TESTS}/test_schedulers.py::test_the_schedule_goes_on_too",
    ),
    error(
        "epochs of one update",
        f"{HOME}/groups.py",
        "lambda step: rate((step + ahead) // per_step)",
        "lambda step: rate(step + ahead)",
        f"{TESTS}/test_schedulers.py::test_a_scheduler_of_epochs_steps_every_few_updates",
    ),
    error(
        "the scheduler's counter left where it was",
        f"{HOME}/back.py",
        '        new["last_epoch"] = done\n',
        "        pass\n",
        f"{TESTS}/test_back.py::test_the_scheduler_has_come_as_far",
    ),
    error(
        "counts written back with what the dialect adds in turn",
        f"{HOME}/back.py",
        "int(np.asarray(counts[path])) - turn * place for",
        "int(np.asarray(counts[path])) for",
        f"{TESTS}/test_back.py::test_a_loops_state_is_the_loops",
    ),
    error(
        "eps of geoopt 0.3 as today's",
        f"{HOME}/dialects.py",
        "return self is Dialect.DOUBLE\n",
        "return False\n",
        f"{TESTS}/test_repositories.py::test_goes_on_as_its_loop_does",
    ),
    error(
        "a state that is not finite let through",
        f"{HOME}/numbers.py",
        "    if not all(np.isfinite(part).all() for (part,) in pieces(value)):\n",
        "    if False:\n",
        f"{TESTS}/test_recognition.py::test_what_the_numbers_leave_open_is_asked",
    ),
    error(
        "the momentum's cycle with the rate, not against it",
        "port_jax/optim/cyclic_rates.py",
        "max_momentum - (max_momentum - base_momentum) * height(n)",
        "base_momentum + (max_momentum - base_momentum) * height(n)",
        "optim/test_schedules.py::test_cyclic_momentum_is_that_of_torch",
    ),
    error(
        "geoopt's shortest length a tenth of what it is",
        f"{HOME}/defects.py",
        "4 * k * s * (1 + s) / _SHORT**2)",
        "4 * k * s * (1 + s) / (_SHORT / 10) ** 2)",
        f"{TESTS}/test_originals.py::test_short_steps_on_the_hyperboloid_are_geoopts",
    ),
)
