"""Errors in the proof itself: gates, readings, witnesses, the recorder, diff."""

from parity_tests.mutants.mutation import Mutation, error

HOME = "weights/proof"
GATES = "weights/proof/test_gates.py"
READING, WITNESS = "weights/proof/test_reading.py", "weights/proof/test_witness.py"
TAMPERED = f"{READING}::test_a_tampered_conversion_is_seen"
GATES_OF_WITNESS = f"{GATES}::test_a_ten_thousandth_of_what_a_program_computed_is_seen"
SHOWN = f"{GATES}::test_a_difference_of_one_unit_and_a_key_of_one_file_alone_are_shown"
RIGHT = f"{WITNESS}::test_a_right_conversion_agrees_and_is_confirmed"

MUTATIONS: tuple[Mutation, ...] = (
    *(
        error(
            f"verify: a gate of {level} a thousand times too wide in float64",
            f"{HOME}/rows.py",
            f'"{level}": {gate}',
            f'"{level}": 1e3 * {gate}',
            GATES,
        )
        for level, gate in (("forward", "1e-10"), ("grad", "1e-9"), ("step", "1e-10"))
    ),
    error(
        "verify: a gate a thousand times too wide in float32",
        f"{HOME}/gates.py",
        "            limit += 4 * unit\n",
        "            limit = 1e3 * (limit + 4 * unit)\n",
        f"{GATES}::test_steps_that_are_too_long_are_seen",
    ),
    error(
        "verify: a drift counted a thousand times",
        f"{HOME}/gates.py",
        "limit = largest(ours - theirs), 10 * found.drift[name] + found",
        "limit = largest(ours - theirs), 1e4 * found.drift[name] + found",
        f"{GATES}::test_steps_that_are_too_long_are_seen",
    ),
    error(
        "verify: a float32 side that never fails",
        f"{HOME}/gates.py",
        "error, limit = largest(ours - truth), 2 * largest(theirs - truth) + 4 * unit",
        "error, limit = 0.0, 2 * largest(theirs - truth) + 4 * unit",
        f"{GATES}::test_steps_that_are_too_long_are_seen",
    ),
    error(
        "verify: float32 compared in float64",
        f"{HOME}/sides.py",
        "return jax.numpy.asarray(np.asarray(leaf, self.dtype)) if floating else leaf",
        'return jax.numpy.asarray(np.asarray(leaf, "float64")) if floating else leaf',
        f"{GATES}::test_steps_that_are_too_long_are_seen",
    ),
    error(
        "verify: torch's gradients beside torch's",
        f"{HOME}/verify.py",
        '"grad": Results(torch=slopes, jax=ours_slopes,',
        '"grad": Results(torch=slopes, jax=slopes,',
        f"{GATES}::test_a_hundredth_of_a_millionth_is_seen_in_float64",
    ),
    error(
        "verify: only the first array of each level compared",
        f"{HOME}/gates.py",
        "    for name in found.torch:\n",
        "    for name in list(found.torch)[:1]:\n",
        f"{GATES}::test_a_right_conversion_passes_in_every_parameter_and_the_files_own_optimizer",
    ),
    error(
        "verify: an error that is not a number passes",
        f"{HOME}/gates.py",
        "ok=bool(np.isfinite(error)) and error <= limit",
        "ok=not error > limit",
        f"{GATES}::test_what_is_not_a_number_is_wrong",
    ),
    error(
        "verify: the reading taken from the conversion",
        f"{HOME}/verify.py",
        "    reading = read_anew(path, checkpoint, said or Said())\n",
        "    reading = Reading(checkpoint, {})\n",
        TAMPERED,
    ),
    error(
        "verify: the torch side of a tree from the conversion",
        f"{HOME}/verify.py",
        "for ckpt in (checkpoint, reading))",
        "for ckpt in (checkpoint, checkpoint))",
        f"{GATES}::test_the_torch_side_is_on_the_manifold_that_the_reading_says",
    ),
    error(
        "verify: the torch side of a model from the conversion's settings",
        f"{HOME}/sides.py",
        "module = self.reference(self.reading.settings).double()",
        "module = self.reference(self.checkpoint.settings).double()",
        f"{READING}::test_the_torch_side_is_built_from_the_new_reading",
    ),
    error(
        "verify: groups of torch's optimizer from the conversion",
        f"{HOME}/sides.py",
        "plans = zip(self.reading.plans, sections, strict=True)",
        "plans = zip(self.checkpoint.plans, sections, strict=True)",
        f"{READING}::test_torchs_optimizer_has_the_groups_of_the_new_reading",
    ),
    error(
        "verify: what a person says ignored",
        f"{HOME}/verify.py",
        "read_anew(path, checkpoint, said or Said())",
        "read_anew(path, checkpoint, Said())",
        TAMPERED,
    ),
    error(
        "verify: options of the shell ignored",
        "weights/cli.py",
        "    asked = Said(**said, optimizer=resuming.named)\n",
        "    asked = Said()\n",
        f"{READING}::test_the_command_line_reads_for_itself",
    ),
    error(
        "verify: a failure without its exit code",
        "weights/cli.py",
        "    if failed(rows):\n",
        "    if failed(rows[:0]):\n",
        f"{READING}::test_the_command_line_reads_for_itself",
    ),
    error(
        "verify: an error of the new reading swallowed",
        f"{HOME}/reading.py",
        "    assert first is not None\n    raise first\n",
        "    return conversion\n",
        f"{READING}::test_what_is_said_is_used",
    ),
    error(
        "verify: settings of the optimizer's groups not compared",
        f"{HOME}/reading.py",
        '            yield f"group {number}, {name}", _text(value)\n',
        "            pass\n",
        TAMPERED,
    ),
    error(
        "verify: curvatures compared to five digits",
        f"{HOME}/reading.py",
        "    return repr(value)\n",
        '    return f"{value:.5g}" if isinstance(value, float) else repr(value)\n',
        TAMPERED,
    ),
    error(
        "verify: a sample of rows instead of all",
        "weights/mapping/probes.py",
        "        length = max(ROWS, *counts)\n",
        "        length = ROWS\n",
        f"{READING}::test_every_row_of_a_table_is_compared",
    ),
    error(
        "verify: steps from a fresh optimizer, not from the file's state",
        f"{HOME}/sides.py",
        "resumed = all(torch_steps.class_of(plan) is not None for plan in reading.plans)",
        "resumed = False",
        f"{GATES}::test_a_right_conversion_passes_in_every_parameter_and_the_files_own_optimizer",
    ),
    error(
        "verify: torch's counts one step ahead",
        f"{HOME}/torch_steps.py",
        'state["step"] = int(state["step"])',
        'state["step"] = int(state["step"]) + 1',
        f"{GATES}::test_a_right_conversion_passes_in_every_parameter_and_the_files_own_optimizer",
    ),
    error(
        "verify: a nudge of a thousand units in the last place",
        f"{HOME}/sides.py",
        "parameter.copy_(torch.nextafter(parameter, torch.where(up, float(",
        "parameter.copy_(parameter * (1 + 1000 * torch.finfo(parameter.dtype).eps) if up.any() else torch.nextafter(parameter, "
        "torch.where(up, float(",
        f"{GATES}::test_steps_that_are_too_long_are_seen",
    ),
    error(
        "verify: nine steps in JAX beside ten in torch",
        f"{HOME}/sides.py",
        "        for _ in range(count):\n",
        "        for _ in range(count - 1):\n",
        f"{GATES}::test_a_right_conversion_passes_in_every_parameter_and_the_files_own_optimizer",
    ),
    error(
        "diff: bits that are nearly equal",
        f"{HOME}/diff.py",
        "elif same_bits(x, y) or not x.size:",
        'elif same_bits(x, y) or not x.size or (x.dtype.kind == "f" and np.allclose(x, y)):',
        SHOWN,
    ),
    error(
        "diff: what lies beside the tensors left out",
        f"{HOME}/diff.py",
        '        flat.update(_leaves(beside, "", budget))\n',
        "        pass\n",
        TAMPERED,
    ),
    error(
        "diff: keys that only the second file has",
        f"{HOME}/diff.py",
        "for key in [*left, *(k for k in right if k not in left)]:",
        "for key in left:",
        SHOWN,
    ),
    error(
        "witness: a gate a thousand times too wide",
        f"{HOME}/witnessed.py",
        "limit = 10 * witness.drift(at) + UNITS * float(np.finfo(dtype).eps) * top\n    if",
        "limit = 1e3 * (10 * witness.drift(at) + UNITS * float(np.finfo(dtype).eps) * top)\n    if",
        GATES_OF_WITNESS,
    ),
    error(
        "witness: steps of the optimizer within a thousand units",
        f"{HOME}/witnessed.py",
        "UNITS * float(np.finfo(dtype).eps) * largest(theirs)\n",
        "1e5 * float(np.finfo(dtype).eps) * largest(theirs)\n",
        GATES_OF_WITNESS,
    ),
    error(
        "witness: the first step alone",
        f"{HOME}/witnessed.py",
        '    for n in range(witness.meta["steps"]):\n',
        '    for n in range(min(1, witness.meta["steps"])):\n',
        GATES_OF_WITNESS,
    ),
    error(
        "witness: the program's numbers not compared with the file's",
        f"{HOME}/witnessed.py",
        "    rows = list(_start(checkpoint, witness))\n",
        "    rows = list(_start(checkpoint, witness))[:0]\n",
        f"{WITNESS}::test_other_numbers_and_another_order_are_named",
    ),
    error(
        "witness: groups of the optimizer in any order",
        f"{HOME}/witnessed.py",
        "for n, (a, b) in enumerate(zip(theirs, ours)) if a != b]",
        "for n, (a, b) in enumerate(zip(theirs, ours)) if sorted(a) != sorted(b)]",
        f"{WITNESS}::test_other_numbers_and_another_order_are_named",
    ),
    error(
        "witness: a rate of dropout confirmed by an output without it",
        f"{HOME}/witnessed.py",
        'return [name for name in names if "dropout" not in name], "outputs',
        'return list(names), "outputs',
        RIGHT,
    ),
    error(
        "witness: settings confirmed although a comparison failed",
        f"{HOME}/verify.py",
        "confirmed(told, checkpoint, witness, list(reading.unconfirmed))",
        "confirmed([], checkpoint, witness, list(reading.unconfirmed))",
        f"{WITNESS}::test_a_wrong_setting_that_both_readings_share_is_caught",
    ),
    error(
        "recorder: the model left where it was nudged",
        f"{HOME}/recorder.py",
        "self._pull(moved, cotangents))\n            kept.restore()\n",
        "self._pull(moved, cotangents))\n        kept.parameters = []\n",
        RIGHT,
    ),
    error(
        "recorder: other cotangents than those that were pulled back",
        f"{HOME}/recorder.py",
        'self.arrays["cotangents/" + name] = _numpy(cotangent)',
        'self.arrays["cotangents/" + name] = 1.001 * _numpy(cotangent)',
        f"{GATES_OF_WITNESS}[gradients/decoder.cls.linear.weight]",
    ),
    error(
        "recorder: outputs in training mode",
        f"{HOME}/recorder.py",
        "                self.model.eval()\n",
        "                self.model.train()\n",
        RIGHT,
    ),
    error(
        "recorder: no float64 beside the program's float32",
        f"{HOME}/recorder.py",
        "        self._record_double(calls, cotangents, kept)\n",
        "        pass\n",
        RIGHT,
    ),
)
