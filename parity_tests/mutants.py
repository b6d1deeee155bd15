"""Plants known errors, one at a time, into a copy of the project and shows which test catches each.

    python -m parity_tests.mutants [NAME ...]

The tests of all chosen mutations have to pass on the copy first. Exit code: 0 if every mutation is caught, 1 if one
survives, 2 if the text that a mutation replaces is gone or the tests fail without a mutation.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

HOME = Path(__file__).parents[1]
COPIED = ("port_jax", "weights", "reference_torch", "parity_tests", "examples", "pyproject.toml")
# Rows of the table of options, one with each of the ways in which a step is computed.
ADAM = "parity_tests/optim/test_riemannian_adam.py::test_trajectories_equal_geoopt"
ADAM_LORENTZ = f"{ADAM}[lr 0.03]"
ADAM_BALL = f"{ADAM}[lr 0.01, betas (0.8, 0.95), eps 0.001, weight_decay 0.1]"
ADAM_GENERAL = f"{ADAM}[lr 0.03, betas (0.8, 0.95), weight_decay 0.1, amsgrad True, stabilize 3]"
SGD = "parity_tests/optim/test_riemannian_sgd.py::test_trajectories_equal_geoopt[lr 0.0005, momentum 0.9]"
HGAT = "parity_tests/models/test_hgat.py::test_outputs_gradients_float32_and_the_way_back[htgn-PoincareBall-2]"


@dataclass(frozen=True)
class Mutation:
    """An error: in `file`, each `old` text (found exactly once) becomes `new`; one of `tests` has to fail."""

    name: str
    file: str
    edits: tuple[tuple[str, str], ...]
    tests: tuple[str, ...]


MUTATIONS = (
    Mutation(
        "resumed runs without geoopt's defects",
        "port_jax/optim/from_torch/groups.py",
        (("        if not self.kind.defects:", "        if True:"),),
        ("parity_tests/optim/from_torch/test_originals.py::test_the_double_dialect_stabilizes_as_geoopt_does",),
    ),
    Mutation(
        "tangents passed on beyond the farthest point",
        "port_jax/manifolds/base.py",
        (("return v * self.reach(v) if", "return v if"),),
        ("parity_tests/manifolds/test_reach.py",),
    ),
    Mutation(
        "a scaled manifold that forgets the names of the base's arguments",
        "port_jax/manifolds/scaled.py",
        (("        @functools.wraps(found)\n", ""),),
        ("parity_tests/manifolds/test_scaled_twice.py",),
    ),
    Mutation(
        "entries beyond a product's points dropped",
        "port_jax/manifolds/product.py",
        (("if np.shape(x)[-1:] != (self.n_elements,):", "if np.shape(x)[-1] < self.n_elements:"),),
        ("parity_tests/manifolds/test_product.py",),
    ),
    Mutation(
        "derivative of tan's ratio one in a thousand off",
        "port_jax/manifolds/trig.py",
        (("_along(ds, s, _RADIUS_TAN, _TAN, top)", "1.001 * _along(ds, s, _RADIUS_TAN, _TAN, top)"),),
        ("parity_tests/manifolds/test_trig.py",),
    ),
    Mutation(
        "a transpose dropped where the matrix is square",
        "weights/mapping/rules.py",
        (
            (
                'TRANSPOSE = Layout("transposed", np.transpose, ',
                'TRANSPOSE = Layout("transposed", lambda a: a if a.shape == a.shape[::-1] else np.transpose(a), ',
            ),
        ),
        ("parity_tests/weights/mapping/test_convert.py", HGAT),
    ),
    Mutation(
        "q and k swapped",
        "port_jax/layers/hgat.py",
        (
            (
                "gather_receivers(receiver, graph) + gather_senders(sender, graph)",
                "gather_senders(receiver, graph) + gather_receivers(sender, graph)",
            ),
        ),
        (HGAT,),
    ),
    Mutation(
        "gyration left out of the transport",
        "port_jax/manifolds/stereographic/geodesics.py",
        (("return gyration(y, -x, v, k) * (conformal", "return v * (conformal"),),
        (ADAM_GENERAL,),
    ),
    Mutation(
        "gyration left out of the transport, Adam on the ball",
        "port_jax/manifolds/stereographic/fused_step.py",
        (
            (
                "b / a * ((1 + second * c) * momentum + (first + second * less / s) * y)",
                "b / a * momentum",
            ),
        ),
        (ADAM_BALL,),
    ),
    Mutation(
        "lambda_x and lambda_y exchanged",
        "port_jax/manifolds/stereographic/geodesics.py",
        (
            (
                "return gyration(y, -x, v, k) * (conformal(y, k) / conformal(x, k))",
                "return gyration(y, -x, v, k) * (conformal(x, k) / conformal(y, k))",
            ),
        ),
        (ADAM_GENERAL,),
    ),
    Mutation(
        "lambda_x and lambda_y exchanged, Adam on the ball",
        "port_jax/manifolds/stereographic/fused_step.py",
        (("return y, change, b / a * (", "return y, change, a / b * ("),),
        (ADAM_BALL,),
    ),
    Mutation(
        "c replaced by 1",
        "port_jax/manifolds/stereographic/family.py",
        (("        return -self.c\n", "        return -1.0\n"),),
        (ADAM_BALL,),
    ),
    Mutation(
        "momentum of Adam not transported",
        "port_jax/manifolds/base.py",
        (("return y, y - x, transported", "return y, y - x, momentum"),),
        (ADAM_GENERAL,),
    ),
    Mutation(
        "momentum of Adam not transported, on the ball",
        "port_jax/manifolds/stereographic/fused_step.py",
        (
            (
                "b / a * ((1 + second * c) * momentum + (first + second * less / s) * y)",
                "momentum",
            ),
        ),
        (ADAM_BALL,),
    ),
    Mutation(
        "momentum of Adam not transported, on the hyperboloid",
        "port_jax/manifolds/hyperboloid/fused_step.py",
        (("jnp.where(time, ym / t, momentum / cosh + along / cosh * y)", "momentum"),),
        (ADAM_LORENTZ,),
    ),
    Mutation(
        "momentum of SGD not transported",
        "port_jax/optim/riemannian_sgd.py",
        (
            (
                "point, b = manifold.retr_transp_ambient(point, -rate * direction, b)",
                "point, _ = manifold.retr_transp_ambient(point, -rate * direction, b)",
            ),
        ),
        (SGD,),
    ),
    Mutation(
        "v elementwise",
        "port_jax/optim/riemannian_adam.py",
        (
            ("(1 - b2) * square", "(1 - b2) * manifold.egrad2rgrad(point, grad) ** 2"),
            ("shape = jax.eval_shape(manifold.component_inner, point, point).shape", "shape = point.shape"),
        ),
        (ADAM_GENERAL,),
    ),
    Mutation(
        "weight decay decoupled",
        "port_jax/optim/riemannian_adam.py",
        (
            ("        grad = grad + decay * point\n", "        pass\n"),
            (
                "    if kept == dtype:\n",
                "    moved, change = moved - rate * decay * point, change - rate * decay * point\n    if kept == dtype:\n",
            ),
        ),
        (ADAM_GENERAL,),
    ),
    Mutation(
        "bias correction off by one",
        "port_jax/optim/scalars.py",
        (("-jnp.expm1(count.astype(real) * rate)", "-jnp.expm1((count + 1).astype(real) * rate)"),),
        (ADAM_GENERAL,),
    ),
    Mutation(
        "a count that goes up twice a parameter goes up once an update",
        "port_jax/optim/from_torch/dialects.py",
        (("total // turn, turn - 1)", "total // turn, 0)"),),
        ("parity_tests/optim/from_torch/test_repositories.py::test_goes_on_as_its_loop_does[7-hgcn, amsgrad]",),
    ),
    Mutation(
        "HGCN's sums along the last axis here in place of torch's",
        "port_jax/optim/from_torch/translation.py",
        (('{"axes": dict(axes or {})}', '{"axes": {}}'),),
        ("parity_tests/optim/from_torch/test_repositories.py::test_rows_of_a_transposed_parameter_are_its_columns",),
    ),
    Mutation(
        "softmax over the senders",
        "port_jax/graphs/softmax.py",
        (
            (
                "total = segment_sum(raised, graph)\n    if self_logits is None:",
                "total = jax.ops.segment_sum(raised, graph.senders, graph.num_nodes)\n    if self_logits is None:",
            ),
        ),
        ("parity_tests/graphs/test_softmax.py",),
    ),
)


def planted(mutation: Mutation, text: str) -> str:
    """The file's text with the error in it; SystemExit(2) where the text to replace is not there exactly once."""
    for old, new in mutation.edits:
        if text.count(old) != 1:
            print(f"{mutation.name}: {old!r} is {text.count(old)} times in {mutation.file}; it has to be there once")
            raise SystemExit(2)
        text = text.replace(old, new)
    return text


def run(copy: Path, tests: tuple[str, ...]) -> tuple[int, str]:
    """pytest's exit code on the copy, and the first test that failed."""
    command = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", "--no-header", *tests]
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    found = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
    failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", found.stdout, re.MULTILINE)
    return found.returncode, failed.group(1) if failed else (found.stdout + found.stderr)[-2000:]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", help="beginnings of the mutations' names; all without")
    names = parser.parse_args().names
    chosen = [m for m in MUTATIONS if not names or any(m.name.startswith(name) for name in names)]
    sources = {m.file: (HOME / m.file).read_text() for m in chosen}
    mutants = {m.name: planted(m, sources[m.file]) for m in chosen}
    survivors = 0
    with tempfile.TemporaryDirectory(prefix="mutants_") as folder:
        copy = Path(folder)
        for name in COPIED:
            source = HOME / name
            ignored = shutil.ignore_patterns("__pycache__", ".*")
            shutil.copytree(source, copy / name, ignore=ignored) if source.is_dir() else shutil.copy(source, copy)
        # What the mutation leaves as it was need not be compiled again.
        if (HOME / ".cache").is_dir():
            (copy / ".cache").symlink_to(HOME / ".cache")
        code, failed = run(copy, tuple(dict.fromkeys(test for m in chosen for test in m.tests)))
        if code:
            print(f"without a mutation: {failed}")
            return 2
        print("| mutation | in | caught by | s |\n| --- | --- | --- | --- |", flush=True)
        for mutation in chosen:
            target, begun = copy / mutation.file, time.monotonic()
            target.write_text(mutants[mutation.name])
            code, failed = run(copy, mutation.tests)
            target.write_text(sources[mutation.file])
            if code not in (0, 1):  # not a test that fails, but a file that cannot be imported
                print(f"pytest on {mutation.name}: {failed}")
                return 2
            survivors += code == 0
            caught = failed.removeprefix("parity_tests/") if code else "**nothing**"
            seconds = time.monotonic() - begun
            print(f"| {mutation.name} | {mutation.file} | {caught} | {seconds:.0f} |", flush=True)
    return int(survivors > 0)


if __name__ == "__main__":
    sys.exit(main())
