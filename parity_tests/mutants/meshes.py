"""Errors in what makes the library run on several devices."""

from parity_tests.mutants.mutation import Mutation, error

HOME = "port_jax/primitives.py"
PLAN = "port_jax/training/plan.py"
EXCHANGE = "port_jax/training/exchange.py"
SPARSE = "port_jax/training/sparse.py"
TABLES = "training/test_sparse_step.py::test_eight_devices_give_what_one_gives"
EIGHT = "training/test_several_devices.py::test_eight_devices_give_what_one_gives"

MUTATIONS: tuple[Mutation, ...] = (
    error("devices: a shared operand is not cast", HOME, "    if axes:\n", "    if False:\n", f"{EIGHT}[cotangents]"),
    error(
        "devices: types of results forget how operands lie",
        HOME,
        "if all(a.sharding.mesh.empty for a in operands):",
        "if True:",
        "test_meshes.py::test_every_optimizer[adam-explicit]",
    ),
    error(
        "devices: second moments on one device",
        "port_jax/optim/riemannian_adam.py",
        "return jnp.zeros_like(like, _like",
        "return jnp.zeros(like.shape, _like",
        "test_meshes.py::test_a_state_that_jit_makes_lies_as_its_parameters",
    ),
    error(
        "devices: a condition that is whole beside rows that are split",
        HOME,
        "if not any(AxisType.Explicit in kind.sharding.mesh.axis_types for kind in kinds):",
        "if True:",
        "test_meshes.py::test_where_takes_what_is_split_and_what_is_whole",
    ),
    error(
        "devices: moments of a table are whole",
        PLAN,
        "return owner in self.tables and",
        'return name == f"params/{owner}" and owner in self.tables and',
        "training/test_plan.py::test_moments_lie_as_their_table",
    ),
    error(
        "devices: a parameter is split for the end of its name",
        PLAN,
        "owner = max(owners, key=len, default=None)",
        "owner = min(owners, key=len, default=None)",
        "training/test_plan.py::test_moments_lie_as_their_table",
    ),
    error(
        "devices: batches that are on several devices go through one",
        "port_jax/training/chunks.py",
        "return isinstance(x, jax.Array) and len(x.sharding.device_set) > 1",
        "return False",
        "training/test_plan.py::test_two_processes_and_one_device_give_the_same",
    ),
    error(
        "tables: what exceeds the capacity is lost",
        EXCHANGE,
        "return jnp.all(reached >= self.begins + self.rows)",
        "return jnp.all(reached >= 0)",
        f"{TABLES}[overflow]",
    ),
    error(
        "tables: the owner is off by one",
        EXCHANGE,
        "wanted - self.begins[:, None], self.rows)",
        "jnp.minimum(wanted + 1 - self.begins[:, None], self.rows - 1), self.rows)",
        f"{TABLES}[training]",
    ),
    error(
        "tables: gradients are added twice",
        SPARSE,
        "return jax.ops.segment_sum(values, request.slots, len(request.ids))",
        "return jax.ops.segment_sum(values, request.slots, len(request.ids)) * 2",
        f"{TABLES}[training]",
    ),
    error(
        "tables: a row whose gradients come in two rounds moves twice",
        EXCHANGE,
        "jax.lax.pmin(jnp.minimum(beyond, self.begins + self.rows), self.axis)",
        "jnp.minimum(beyond, self.begins + self.rows)",
        f"{TABLES}[overflow]",
    ),
    error(
        "tables: each round counts as a step",
        SPARSE,
        "now if split else before, is_split",
        "now, is_split",
        f"{TABLES}[overflow]",
    ),
    error(
        "tables: rows stay shuffled in results",
        "port_jax/training/fit.py",
        "        state = self.outside(self.state)\n",
        "        state = self.state\n",
        f"{TABLES}[training]",
    ),
    error(
        "tables: evaluations see shuffled rows",
        "port_jax/training/fit.py",
        "shown = self.outside(self.state)",
        "shown = self.state",
        f"{TABLES}[training]",
    ),
    error(
        "tables: a restored run is not shuffled again",
        "port_jax/training/fit.py",
        "(self.inside(found[0]), found[1])",
        "found",
        f"{TABLES}[training]",
    ),
    error(
        "permutations: the inverse takes the rounds in the same order",
        "port_jax/permutations.py",
        "self.keys[::-1]",
        "self.keys",
        "test_permutations.py::test_each_number_has_one_place_and_the_inverse_finds_it",
    ),
    error(
        "permutations: a round depends on the smaller of two numbers alone",
        "port_jax/permutations.py",
        "_bit(largest ^ key[1])",
        "_bit(x ^ key[1])",
        "test_permutations.py::test_each_number_has_one_place_and_the_inverse_finds_it",
    ),
)
