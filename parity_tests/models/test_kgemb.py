"""RotH, RefH and AttH in Flax against torch: scores of triples and of all tails, gradients, steps."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from parity_tests import draws, slow
from parity_tests.models.cases_kgemb import CONFIGS, ENTITIES, RANK, RELATIONS, TRIPLES, case, ours, theirs
from parity_tests.models.conversion import check_parity, check_round_trip, converted
from parity_tests.oracle import stereographic as ball
from port_jax.models.kgemb import KGEmb, tangent_dist2
from weights.errors import ConversionError


@pytest.mark.parametrize("name", slow.all_but({"AttH"}, CONFIGS))  # it rotates and reflects; verify has RefH
def test_scores_and_gradients(name: str, tmp_path):
    module, config = case(name)
    ckpt = converted(module, config, tmp_path)
    assert (ckpt.arch, ckpt.model.kind) == ("kgemb", name[:4])
    outs = check_parity(module, ckpt, theirs, ours, single=name == "RotH")
    check_round_trip(ckpt, tmp_path)

    @jax.jit
    def scores(variables):
        encoded = ckpt.model.apply(variables, TRIPLES, method="encode")
        return ckpt.model.apply(variables, encoded, TRIPLES[:, [0, 2]], method="score")

    np.testing.assert_allclose(scores(ckpt.variables), outs[0], rtol=1e-12)


def test_what_the_file_does_not_say_is_asked_for(tmp_path):
    module, config = case("RotH")
    for name in ("model", "bias"):
        with pytest.raises(ConversionError, match=name):
            converted(module, {key: value for key, value in config.items() if key != name}, tmp_path)


def test_distance_to_a_far_tangent_against_50_digits():
    """At |v| = 20 the point exp_0 v is within 1e-17 of the boundary; the original stops at a distance of 12.2."""
    x, c = np.array([0.4, -0.3]), 0.7
    dist2, slopes = jax.jit(tangent_dist2), jax.jit(jax.grad(tangent_dist2, argnums=(0, 1)))
    for size in (1e-9, 0.5, 20.0):
        v = size * np.array([0.6, 0.8])
        have = dist2(jnp.asarray(x), jnp.asarray(v), jnp.asarray(c))
        with mpmath.workdps(50):
            root = mpmath.sqrt(mpmath.mpf(c))
            exact = [mpmath.mpf(float(a)) for a in v]
            norm = mpmath.sqrt(sum(a * a for a in exact))
            y = [mpmath.tanh(root * norm) / (root * norm) * a for a in exact]
            gap = sum((a - mpmath.mpf(float(b))) ** 2 for a, b in zip(y, x, strict=True))
            low = (1 - c * sum(mpmath.mpf(float(b)) ** 2 for b in x)) * (1 - c * sum(a**2 for a in y))
            want = (2 / root * mpmath.asinh(mpmath.sqrt(c * gap / low))) ** 2
        assert float(have) == pytest.approx(float(want), rel=1e-12)
    grad = slopes(jnp.asarray(x), jnp.zeros(2), jnp.asarray(c))
    assert np.isfinite(np.asarray(grad)).all()
    same = slopes(jnp.zeros(2), jnp.zeros(2), jnp.asarray(c))
    assert np.array_equal(np.asarray(same), np.zeros((2, 2)))


def paper_query(kind: str, head: Sequence, rel: Sequence, diagonal: Sequence, context: Sequence, c):
    """q(h, r) of arXiv 2005.00545, section 4, on the ball of curvature -c, in mpmath; all arguments are tangents at the origin.

    G+(t) = [[cos t, -sin t], [sin t, cos t]] and G-(t) = [[cos t, sin t], [sin t, -cos t]] act on the coordinates (0, 1), (2, 3), ...
    The authors' code takes the angles of the rotations from the first half of `rel_diag` in AttH, those of the reflections from the
    second half, r_1 from the first half of `rel`, and 1/sqrt(d) in float32. RotH adds r_1 before it rotates, and r_2 after.
    """

    def givens(angles: Sequence, x: Sequence, sign: int) -> list:
        turned = []
        for i in range(0, len(x), 2):
            t = mpmath.atan2(angles[i + 1], angles[i])
            turned += [mpmath.cos(t) * x[i] - sign * mpmath.sin(t) * x[i + 1], mpmath.sin(t) * x[i] + sign * mpmath.cos(t) * x[i + 1]]
        return turned

    first, second = (ball.expmap0(part, -c) for part in (rel[:RANK], rel[RANK:]))
    if kind == "RotH":
        return ball.mobius_add(givens(diagonal, ball.mobius_add(ball.expmap0(head, -c), first, -c), 1), second, -c)
    if kind == "RefH":
        turned = givens(diagonal, head, -1)
    else:
        rotated, reflected = givens(diagonal[:RANK], head, 1), givens(diagonal[RANK:], head, -1)
        scale = mpmath.mpf(float(np.float32(1 / np.sqrt(RANK))))
        first_weight, second_weight = (mpmath.exp(scale * ball.dot(context, x)) for x in (rotated, reflected))
        total = first_weight + second_weight
        turned = ball.plus(ball.times(first_weight / total, rotated), ball.times(second_weight / total, reflected))
    return ball.mobius_add(ball.expmap0(turned, -c), first, -c)


@pytest.mark.parametrize(("kind", "bias", "multi_c"), [("RotH", "none", True), ("RefH", "constant", False), ("AttH", "learn", True)])
def test_scores_against_the_paper_at_50_digits(kind: str, bias: str, multi_c: bool):
    """-d_c(q(h, r), e_t)^2 + b_h + b_t, with gamma in place of the biases where they are constant, and nothing where there are none."""
    rng, model = draws.rng(32), KGEmb(kind, ENTITIES, RELATIONS, RANK, bias=bias, multi_c=multi_c, gamma=2.5)
    triples = np.stack([rng.integers(0, n, 6) for n in (ENTITIES, RELATIONS, ENTITIES)], 1)
    shapes = jax.eval_shape(lambda: model.init(draws.key(0), triples))["params"]
    sizes = {"entity": 0.5, "rel": 0.4, "bt": 2.0, "context_vec": 3.0}
    p = {name: sizes.get(name, 1.0) * rng.normal(size=shape.shape) for name, shape in shapes.items()}

    @jax.jit
    def scores(params):
        encoded = model.apply({"params": params}, triples, method="encode")
        return (
            model.apply({"params": params}, triples),
            model.apply({"params": params}, encoded, triples[:, [0, 2]], method="score"),
            model.apply({"params": params}, triples[:, :2], method="score_tails")[np.arange(len(triples)), triples[:, 2]],
        )

    have = scores(p)
    exact = {name: np.vectorize(mpmath.mpf, otypes=[object])(table) for name, table in p.items()}
    context = exact.get("context_vec", exact["rel"])
    with mpmath.workdps(50):
        for i, (h, r, t) in enumerate(triples):
            c = mpmath.log(1 + mpmath.exp(exact["c"][r if multi_c else 0, 0]))
            query = paper_query(kind, exact["entity"][h], exact["rel"][r], exact["rel_diag"][r], context[r], c)
            square = ball.dist(query, ball.expmap0(exact["entity"][t], -c), -c) ** 2
            offset = {"learn": exact["bh"][h, 0] + exact["bt"][t, 0], "constant": mpmath.mpf(2.5), "none": 0}[bias]
            scale = float(square + abs(exact["bh"][h, 0]) + abs(exact["bt"][t, 0]) + 2.5)
            for score in have:
                assert float(score[i]) == pytest.approx(float(offset - square), abs=1e-12 * scale)
