"""Errors in what makes the library run on several devices."""

from parity_tests.mutants.mutation import Mutation, error

HOME = "port_jax/primitives.py"
PLAN = "port_jax/training/plan.py"
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
)
