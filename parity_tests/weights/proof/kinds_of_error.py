"""How many planted errors `weights.parity` names rightly: each kind once in each of three ports, at c = 0.7.

    python -m parity_tests.weights.proof.kinds_of_error [PORT ...]

prints the table. Errors of values are planted in the text of a port's module, those of optimizers in a transformation.
"""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import geoopt
import jax
import optax
import torch

import weights
from examples.own_model import original, port, vae_original, vae_port
from parity_tests.weights.proof import lorentz_network
from weights.proof.parity import Parity

MODULES = {"ball": (port, original), "vae": (vae_port, vae_original), "lorentz": (lorentz_network, lorentz_network)}
SAID = {
    "transposed": "transposed",
    "sign": "the other sign|the sign",
    "factor 2": r"a factor of 2\b",
    "factor sqrt c": "a factor of sqrt c",
    "factor 1/c": "a factor of 1/c",
    "N - 1 over N": "N - 1",
    "axes exchanged": "axes exchanged",
    "halves exchanged": "halves exchanged",
    "raw curvature for c": "the raw curvature taken for c|softplus of the curvature",
    "eval for train": "evaluation mode in the place of training",
    "bias missing": "missing",
    "order of updates": "moments before their update",
    "decay inside or outside": "decay outside .* in the port",
    "eps inside or outside the root": "epsilon inside the root in the port",
}
"""Kind of error -> what a right name has in it."""
IN_TRAINING = {("ball", "N - 1 over N"), *((name, "eval for train") for name in MODULES)}
REORDERED = "h.reshape(-1, 2, {}).swapaxes(1, 2).reshape(h.shape)"
BALL, VAE, SPACE = 'Curved("PoincareBall", 0.7, learnable=True, name="ball")()', "posterior.from_noise(noise)", "from_coordinates0(y)"
DECODER, SECOND = 'logits = nn.Dense(x.shape[-1], name="decoder")', 'MobiusLinear(self.width, name="second")(ball, h)'
DENSE, LORENTZ = 'y = nn.Dense(self.features, name="linear")(x)', 'Curved("Lorentz", K, learnable=True, name="space")()'
EDITS: dict[str, dict[str, tuple[str, str]]] = {
    "ball": {
        "transposed": ("ball.mobius_matvec(weight,", "ball.mobius_matvec(weight.T if weight.shape[0] == weight.shape[1] else weight,"),
        "sign": ('x), self.param("bias"', 'x), -self.param("bias"'),
        "factor 2": ("ball.expmap0(x)", "ball.expmap0(2 * x)"),
        "factor sqrt c": ("ball.expmap0(x)", "ball.expmap0(ball.c**0.5 * x)"),
        "factor 1/c": ("ball.logmap0(h)", "ball.logmap0(h) / ball.c"),
        "N - 1 over N": ("BatchNorm(not train,", "nn.BatchNorm(not train, momentum=0.9,"),
        "axes exchanged": (SECOND, SECOND.replace(" h)", f" {REORDERED.format(4)})")),
        "halves exchanged": (SECOND, SECOND.replace(" h)", " h[:, [4, 5, 6, 7, 0, 1, 2, 3]])")),
        "raw curvature for c": (BALL, f"PoincareBall({BALL}.isp_c)"),
        "eval for train": ("BatchNorm(not train,", "BatchNorm(True,"),
        "bias missing": ('x), self.param("bias"', 'x), 0 * self.param("bias"'),
    },
    "vae": {
        "transposed": ("VAE(), inputs", 'VAE(), [weights.param("encoder.weight", "params/encoder/kernel")], inputs'),
        "sign": ("- posterior.log_prob(z)", "+ posterior.log_prob(z)"),
        "factor 2": (VAE, "posterior.from_noise(2 * noise)"),
        "factor sqrt c": (VAE, "posterior.from_noise(ball.c**0.5 * noise)"),
        "factor 1/c": ('name="planes")(ball, z)', 'name="planes")(ball, z) / ball.c'),
        "N - 1 over N": ("-elbo.mean()", "-elbo.sum() / (len(x) - 1)"),
        "axes exchanged": ('name="mean")(h)', f'name="mean")({REORDERED.format(4)})'),
        "halves exchanged": ('name="scale")(h)', 'name="scale")(jnp.roll(h, 4, -1))'),
        "raw curvature for c": (BALL, f"PoincareBall({BALL}.isp_c)"),
        "eval for train": ("deterministic=not train", "deterministic=True"),
        "bias missing": (DECODER, DECODER.replace("logits", "d") + "\n        logits = -d(jnp.zeros((1, self.hidden))) + d"),
    },
    "lorentz": {
        "transposed": ('weights.linear("second", "params/second/linear")',
                       'weights.param("second.weight", "params/second/linear/kernel"), '
                       'weights.param("second.bias", "params/second/linear/bias")'),
        "sign": (SPACE, "from_coordinates0(-y)"),
        "factor 2": (SPACE, "from_coordinates0(2 * y)"),
        "factor sqrt c": ("space.from_tangent0(x)", "space.from_tangent0(x / space.k**0.5)"),
        "factor 1/c": ("space.from_tangent0(x)", "space.from_tangent0(x * space.k)"),
        "N - 1 over N": ("s.var(-1, keepdims=True)", "s.var(-1, keepdims=True, ddof=1)"),
        "axes exchanged": (SPACE, "from_coordinates0(y.reshape(-1, 2, 3).swapaxes(1, 2).reshape(y.shape) if y.shape[-1] == 6 else y)"),
        "halves exchanged": (SPACE, "from_coordinates0(jnp.roll(y, 3, -1) if y.shape[-1] == 6 else y)"),
        "raw curvature for c": (LORENTZ, f"Lorentz(jax.nn.softplus({LORENTZ}.k))"),
        "eval for train": ("h, not train)", "h, True)"),
        "bias missing": (DENSE, DENSE.replace("y =", "d =").replace("(x)", "") + "\n        y = -d(0 * x[:1]) + d(x)"),
    },
}  # fmt: skip
"""By port and kind: a text of its module, which is there once, and the text with the error."""


def late(rate: float) -> optax.GradientTransformation:
    """Adam that steps by the moments before their update."""
    adam = optax.scale_by_adam()

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        _, new = adam.update(updates, state, params)
        t = new.count
        step = jax.tree.map(lambda m, v: -rate * m / (1 - 0.9**t) / ((v / (1 - 0.999**t)) ** 0.5 + 1e-8), state.mu, state.nu)
        return step, new

    return optax.GradientTransformation(adam.init, update)


STEPS: dict[str, Callable[[], Any]] = {
    "order of updates": lambda: optax.chain(optax.add_decayed_weights(0.1), late(1e-2)),
    "decay inside or outside": lambda: optax.adamw(1e-2, weight_decay=0.1),
    "eps inside or outside the root": lambda: optax.chain(optax.add_decayed_weights(0.1), optax.adam(1e-2, eps=0.0, eps_root=1e-8)),
}


def planted(name: str, kind: str) -> weights.Port:
    """The port of a module whose text has the error."""
    path = Path(str(MODULES[name][0].__file__))
    old, new = EDITS[name][kind]
    text = path.read_text()
    assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in {path.name}"
    module = types.ModuleType(f"planted_{name}")
    sys.modules[module.__name__] = module  # where flax looks for the types of a module's fields
    exec(compile(text.replace(old, new), str(path), "exec"), module.__dict__)
    return module.PORT


def found(name: str, kind: str, net: torch.nn.Module) -> Parity:
    """What `weights.parity` says of the port with the error, beside a trained network."""
    quick: dict[str, Any] = {"types": ("float64",), "level": "forward"}
    if kind in STEPS:
        optimizer = geoopt.optim.RiemannianAdam(net.parameters(), lr=1e-2, weight_decay=0.1)
        right = replace(MODULES[name][0].PORT, train=None)
        return weights.parity(right, net, optimizer=optimizer, transformation=STEPS[kind](), **quick)
    wrong = planted(name, kind)
    wrong = wrong if (name, kind) in IN_TRAINING else replace(wrong, train=None)
    return weights.parity(wrong, net, **quick)


def right(kind: str, said: Parity) -> bool:
    """Whether it names the kind."""
    return not said.ok and said.cause is not None and re.search(SAID[kind], said.cause.kind) is not None


def main() -> None:
    """The table."""
    jax.config.update("jax_enable_x64", True)
    chosen, count = sys.argv[1:] or list(MODULES), []
    print("| planted | in | named | as |\n| --- | --- | --- | --- |")
    for name in chosen:
        net = MODULES[name][1].trained(4)[0]
        for kind in SAID:
            said = found(name, kind, net)
            count.append(right(kind, said))
            print(f"| {kind} | {name} | {'yes' if count[-1] else '**no**'} | {said.cause.kind if said.cause else 'nothing'} |", flush=True)
    print(f"{sum(count)} of {len(count)} named rightly")


if __name__ == "__main__":
    main()
