"""Errors in the layers that people build with, in port_jax alone, and the ones that only a third side sees."""

from parity_tests.mutants.mutation import Mutation, both, error

LAYERS, BALL, HYPERBOLOID = "port_jax/layers", "port_jax/manifolds/stereographic", "port_jax/manifolds/hyperboloid"
LINEAR = "layers/test_linear.py"

MUTATIONS: tuple[Mutation, ...] = (
    error(
        "a Moebius linear map that adds its bias from the left",
        f"{LAYERS}/linear.py",
        "manifold.mobius_add(y, jnp.broadcast_to(bias, y.shape))",
        "manifold.mobius_add(jnp.broadcast_to(bias, y.shape), y)",
        f"{LINEAR}::test_the_original[values_and_gradients-moebius-ball]",
    ),
    error(
        "a bias of a Moebius linear map taken for a tangent vector",
        f"{LAYERS}/linear.py",
        "manifold.mobius_add(y, jnp.broadcast_to(bias, y.shape))",
        "manifold.mobius_add(y, jnp.broadcast_to(manifold.from_tangent0(bias[manifold.ambient :]), y.shape))",
        f"{LINEAR}::test_moebius_linear_at_50_digits",
    ),
    Mutation(
        "both: HNN++'s hyperplanes without the factor 2 of the metric",
        (
            (f"{BALL}/unidirectional.py", "return 2 * along * trig", "return along * trig"),
            ("reference_torch/layers/linear.py", "return 2 * length / root * torch", "return length / root * torch"),
        ),
        (f"{LINEAR}::test_poincare_linear_at_50_digits",),
    ),
    error(
        "the offset of HNN++'s hyperplanes not doubled",
        f"{BALL}/unidirectional.py",
        "length * trig.sin_k(2 * r, k)",
        "length * trig.sin_k(r, k)",
        f"{LINEAR}::test_the_original[values_and_gradients-poincare-ball]",
        f"{LINEAR}::test_poincare_linear_at_50_digits",
    ),
    both(
        "both: a fully connected layer's time from the radius, not its square",
        "layers/linear.py",
        "return manifold.projx(manifold.from_coordinates0(space))",
        "return type(manifold)(manifold.k**2).projx(manifold.from_coordinates0(space))",
        f"{LINEAR}::test_fully_connected_at_50_digits",
        reference=("(manifold.k + space.pow(2)", "(manifold.k**2 + space.pow(2)"),
    ),
)
