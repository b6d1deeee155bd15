"""port_jax.optim.schedules against torch.optim.lr_scheduler, stepped to three times the period: also past the end."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from port_jax.optim import schedules
from reference_torch.optim import schedules as originals

LR = 0.37
STEPS = 90  # three times the longest period below


def torch_rates(build, steps=STEPS, lr=LR, momentum=False):
    """The original's rates; `build` makes the scheduler of an optimizer."""
    return originals.rates(build, steps, lr, momentum)


CASES = {
    "step": (lambda o: originals.StepLR(o, 30, 0.3), lambda: schedules.step_lr(LR, 30, 0.3)),
    "step to zero": (lambda o: originals.StepLR(o, 30, 0.0), lambda: schedules.step_lr(LR, 30, 0.0)),
    "multi step": (
        lambda o: originals.MultiStepLR(o, [12, 5, 12, 30], 0.4),
        lambda: schedules.multi_step_lr(LR, [12, 5, 12, 30], 0.4),
    ),
    "exponential": (lambda o: originals.ExponentialLR(o, 0.93), lambda: schedules.exponential_lr(LR, 0.93)),
    "linear": (lambda o: originals.LinearLR(o, 0.2, 0.9, 30), lambda: schedules.linear_lr(LR, 0.2, 0.9, 30)),
    "constant": (lambda o: originals.ConstantLR(o, 0.2, 30), lambda: schedules.constant_lr(LR, 0.2, 30)),
    "polynomial": (lambda o: originals.PolynomialLR(o, 30, 1.7), lambda: schedules.polynomial_lr(LR, 30, 1.7)),
    "lambda": (
        lambda o: originals.LambdaLR(o, lambda n: 0.9**n),
        lambda: schedules.lambda_lr(LR, lambda n: 0.9 ** jnp.asarray(n, float)),
    ),
    "lambda with a branch": (
        lambda o: originals.LambdaLR(o, lambda n: n / 10 if n < 10 else 1.0),
        lambda: schedules.lambda_lr(LR, lambda n: n / 10 if n < 10 else 1.0, num_steps=STEPS),
    ),
    "cosine": (
        lambda o: originals.CosineAnnealingLR(o, 30, 0.02),
        lambda: schedules.cosine_annealing_lr(LR, 30, 0.02),
    ),
    "warm-up and cosine": (
        lambda o: originals.LinearWarmupCosineDecayLR(o, 30, 7),
        lambda: schedules.linear_warmup_cosine_lr(LR, 30, 7),
    ),
    "cosine without warm-up": (
        lambda o: originals.LinearWarmupCosineDecayLR(o, 30, 0),
        lambda: schedules.linear_warmup_cosine_lr(LR, 30, 0),
    ),
    "averaging": (lambda o: originals.SWALR(o, 0.02, 30), lambda: schedules.swa_lr(LR, 0.02, 30)),
    "averaging, linear": (lambda o: originals.SWALR(o, 0.9, 7, "linear"), lambda: schedules.swa_lr(LR, 0.9, 7, "linear")),
    "averaging at once": (lambda o: originals.SWALR(o, 0.02, 0), lambda: schedules.swa_lr(LR, 0.02, 0)),
    "warm restarts": (
        lambda o: originals.CosineAnnealingWarmRestarts(o, 30, 1, 0.02),
        lambda: schedules.cosine_annealing_warm_restarts(LR, 30, 1, 0.02),
    ),
    "warm restarts, longer each time": (
        lambda o: originals.CosineAnnealingWarmRestarts(o, 4, 3),
        lambda: schedules.cosine_annealing_warm_restarts(LR, 4, 3),
    ),
    "one cycle": (lambda o: originals.OneCycleLR(o, LR, STEPS), lambda: schedules.one_cycle_lr(LR, STEPS)),
    "one cycle, linear in three phases": (
        lambda o: originals.OneCycleLR(o, LR, 95, None, None, 0.23, "linear", div_factor=7.0, three_phase=True),
        lambda: schedules.one_cycle_lr(LR, 95, 0.23, "linear", 7.0, three_phase=True),
    ),
    "multiplicative": (
        lambda o: originals.MultiplicativeLR(o, lambda n: 0.9 + 0.05 * (n % 3)),
        lambda: schedules.multiplicative_lr(LR, lambda n: 0.9 + 0.05 * (n % 3), STEPS),
    ),
    "cyclic": (lambda o: originals.CyclicLR(o, 0.1, LR, 12, 18), lambda: schedules.cyclic_lr(0.1, LR, 12, 18)),
    "cyclic, halved": (
        lambda o: originals.CyclicLR(o, 0.1, LR, 7, mode="triangular2"),
        lambda: schedules.cyclic_lr(0.1, LR, 7, mode="triangular2"),
    ),
    "cyclic, fading": (
        lambda o: originals.CyclicLR(o, 0.1, LR, 9, 4, mode="exp_range", gamma=0.97),
        lambda: schedules.cyclic_lr(0.1, LR, 9, 4, "exp_range", 0.97),
    ),
    "sequence": (
        lambda o: originals.SequentialLR(
            o,
            [
                originals.LinearLR(o, 0.1, 1.0, 7),
                originals.CosineAnnealingLR(o, 20, 0.01),
                originals.ExponentialLR(o, 0.9),
            ],
            [7, 50],
        ),
        lambda: schedules.sequential_lr(
            [
                schedules.linear_lr(LR, 0.1, 1.0, 7),
                schedules.cosine_annealing_lr(LR, 20, 0.01),
                schedules.exponential_lr(LR, 0.9),
            ],
            [7, 50],
        ),
    ),
    "chain of factors": (
        lambda o: originals.ChainedScheduler(
            [originals.ConstantLR(o, 0.1, 20), originals.ExponentialLR(o, 0.95), originals.StepLR(o, 9, 0.8)]
        ),
        lambda: schedules.chained_scheduler(
            [
                schedules.constant_lr(LR, 0.1, 20),
                schedules.exponential_lr(LR, 0.95),
                schedules.step_lr(LR, 9, 0.8),
            ]
        ),
    ),
    "chain of warm-up and cosine": (
        lambda o: originals.ChainedScheduler([originals.LinearLR(o, 0.1, 1.0, 10), originals.CosineAnnealingLR(o, 30, 0.02)]),
        lambda: schedules.chained_scheduler(
            [schedules.linear_lr(LR, 0.1, 1.0, 10), schedules.cosine_annealing_lr(LR, 30, 0.02)], num_steps=STEPS
        ),
    ),
    "chain with a sequence": (
        lambda o: originals.ChainedScheduler(
            [
                originals.SequentialLR(o, [originals.ConstantLR(o, 0.5, 4), originals.StepLR(o, 10, 0.7)], [20]),
                originals.ExponentialLR(o, 0.97),
            ]
        ),
        lambda: schedules.chained_scheduler(
            [
                schedules.sequential_lr([schedules.constant_lr(LR, 0.5, 4), schedules.step_lr(LR, 10, 0.7)], [20]),
                schedules.exponential_lr(LR, 0.97),
            ],
            num_steps=STEPS,
        ),
    ),
}


@pytest.fixture(scope="module")
def found():
    """The rates of all cases by precision, each compiled as one program."""
    rates = {}
    for dtype, x64 in (("float64", True), ("float32", False)):
        with jax.enable_x64(x64):
            each = {name: ours() for name, (_, ours) in CASES.items()}
            rates[dtype] = jax.jit(jax.vmap(lambda n, each=each: {k: f(n) for k, f in each.items()}))(jnp.arange(STEPS))
    return rates


@pytest.mark.parametrize("name", CASES)
def test_rates_are_those_of_torch(name, found):
    expected = torch_rates(CASES[name][0])
    largest = np.abs(expected).max()
    for dtype, x64 in (("float64", True), ("float32", False)):
        rates = np.asarray(found[dtype][name])
        assert rates.dtype == dtype
        # torch's recursion rounds once a step; float32 loses the digits of n log(gamma), here up to 7
        unit, steps, digits = np.finfo(dtype).eps, *((STEPS, STEPS) if x64 else (4, 8))
        np.testing.assert_allclose(rates, expected, rtol=digits * unit, atol=steps * unit * largest, err_msg=dtype)


@pytest.mark.parametrize("strategy", ["cos", "linear"])
@pytest.mark.parametrize("three_phase", [False, True])
def test_one_cycle_momentum_is_that_of_torch(strategy, three_phase):
    expected = torch_rates(
        lambda o: originals.OneCycleLR(o, LR, STEPS, pct_start=0.27, anneal_strategy=strategy, base_momentum=0.8, three_phase=three_phase),
        momentum=True,
    )
    schedule = schedules.one_cycle_momentum(STEPS, 0.27, strategy, 0.8, three_phase=three_phase)
    np.testing.assert_allclose(jax.jit(jax.vmap(schedule))(jnp.arange(STEPS)), expected, rtol=1e-14)


@pytest.mark.parametrize("mode", ["triangular", "triangular2", "exp_range"])
def test_cyclic_momentum_is_that_of_torch(mode):
    expected = torch_rates(lambda o: originals.CyclicLR(o, 0.1, LR, 9, 14, mode, 0.98, base_momentum=0.6, max_momentum=0.95), momentum=True)
    schedule = schedules.cyclic_momentum(0.6, 0.95, 9, 14, mode, 0.98)
    np.testing.assert_allclose(jax.jit(jax.vmap(schedule))(jnp.arange(STEPS)), expected, rtol=1e-13)


def test_one_cycle_keeps_its_last_rate_past_the_end():
    schedule = schedules.one_cycle_lr(LR, 40)
    assert float(schedule(1000)) == pytest.approx(LR / 25 / 1e4, rel=1e-12)


def test_exponential_keeps_its_digits_in_float32():
    with jax.enable_x64(False):
        found = float(schedules.exponential_lr(1.0, 0.997)(1000))
    assert found == pytest.approx(0.997**1000, rel=1e-6)


def test_every_steps_once_an_epoch():
    schedule = schedules.every(schedules.exponential_lr(LR, 0.5), 3)
    np.testing.assert_allclose([schedule(n) for n in range(7)], LR * np.array([1, 1, 1, 0.5, 0.5, 0.5, 0.25]), rtol=1e-15)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: schedules.step_lr(LR, 0), "step_size is 0"),
        (lambda: schedules.cosine_annealing_lr(LR, 2.5), "T_max is 2.5"),
        (lambda: schedules.exponential_lr(LR, -1.0)(3), "gamma is -1.0"),
        (lambda: schedules.one_cycle_lr(LR, 10, anneal_strategy="step"), "anneal_strategy is 'step'"),
        (lambda: schedules.one_cycle_lr(LR, 10, pct_start=0.1), "phase of no length"),
        (lambda: schedules.cyclic_lr(0.1, LR, 2.5), "step_size_up is 2.5"),
        (lambda: schedules.cyclic_lr(0.1, LR, 3, mode="saw"), "mode is 'saw'"),
        (lambda: schedules.multiplicative_lr(LR, lambda n: 0.9, 0), "num_steps is 0"),
        (lambda: schedules.sequential_lr([schedules.step_lr(LR, 3)], [4]), "one fewer than schedules"),
        (lambda: schedules.chained_scheduler([schedules.cosine_annealing_lr(LR, 3)]), "needs num_steps"),
        (
            lambda: schedules.chained_scheduler([schedules.step_lr(LR, 3), schedules.step_lr(1.0, 3)]),
            "act on one rate",
        ),
    ],
)
def test_what_makes_no_schedule_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
