"""The house keeps its order: who imports whom, no circles, one stem in four rooms, no torch where it does not belong, no overlong file."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from parity_tests.import_graph import circles, graph
from port_jax import manifolds
from port_jax.manifolds import Manifold

ROOT = Path(__file__).parent.parent

# The modules of the converter that bring its rooms together, and so stand above all of them.
WEIGHTS = tuple(f"weights.{name}" for name in ("cli", "checkpoint", "contents", "exporter", "store"))
# Room -> what it must not import. A prefix counts with everything below it.
FORBIDDEN = {
    "port_jax": ("torch", "geoopt", "weights", "reference_torch", "parity_tests"),
    "port_jax/manifolds": ("port_jax.optim", "port_jax.graphs", "port_jax.layers", "port_jax.models"),
    "port_jax/graphs": ("port_jax.optim", "port_jax.layers", "port_jax.models", "port_jax.manifolds"),
    "port_jax/layers": ("port_jax.optim", "port_jax.models"),
    "port_jax/optim": ("port_jax.graphs", "port_jax.layers", "port_jax.models"),
    "reference_torch": ("jax", "flax", "optax", "port_jax", "weights", "parity_tests"),
    "weights": ("torch", "geoopt", "parity_tests"),
    "weights/files": ("jax", "port_jax", "weights.mapping", "weights.models", "weights.optim", "weights.proof", "weights.views", *WEIGHTS),
    "weights/mapping": ("weights.models", "weights.optim", "weights.proof", "weights.views", *WEIGHTS),
    "weights/models": ("weights.optim", "weights.proof", "weights.views", *WEIGHTS),
    "weights/optim": ("weights.models", "weights.proof", "weights.views", *WEIGHTS),
    "weights/views": ("weights.proof",),
}

# Files and folders that may stand outside the rules, with the reason.
MAY_IMPORT = {
    "weights/proof": "runs the torch side of verify's comparisons, and imports torch when it does",
}
# (module, module that it imports): imports that may close a circle, with the reason.
MAY_CIRCLE: dict[tuple[str, str], str] = {}
# Modules of port_jax without an original of the same stem in reference_torch, with the reason.
UNPAIRED = {
    "port_jax/layers/activations.py": "torch has them",
    "port_jax/layers/models_of_space.py": "a helper: the originals do not look at the manifold that they are given",
    "port_jax/layers/standard.py": "torch has them",
    "port_jax/models/meru_losses.py": "a helper of meru.py: the original writes them out in its forward pass",
    "port_jax/models/meru_training.py": "a helper of meru.py, where the original has its optimizer",
    "port_jax/models/tidhy_inference.py": "a helper of tidhy.py: the original optimises in methods of its module",
    "port_jax/models/tidhy_losses.py": "a helper of tidhy.py: the original writes them out where they are used",
    "port_jax/models/tidhy_weights.py": "a helper of tidhy.py and tidhy_training.py: GradNorm, which the original of the latter has",
    "port_jax/optim/confined.py": "in torch a forward pass overwrites p.data; its test has such a loop",
    "port_jax/optim/from_torch/real_parts.py": "torch's optimizers do it themselves",
    "port_jax/optim/from_torch/defects.py": "geoopt has them; `parity_tests.optim.from_torch.originals` runs its classes as they are",
    "port_jax/optim/gradients.py": "a helper: gradients moved from one point to another",
    "port_jax/optim/guard.py": "torch and geoopt pass gradients that are not finite on; optax.apply_if_finite skips them",
    "port_jax/optim/optimistic.py": "no torch program has it; its test has the paper's step, and optax's on flat space",
    "port_jax/optim/precision.py": "a helper: torch casts inside of modules",
    "port_jax/optim/rates.py": "a helper: what schedules are made of; torch's are recursions",
    "port_jax/optim/scalars.py": "a helper: hyperparameters as numbers or schedules",
    "port_jax/optim/sharpness_aware.py": "no torch program has it; its test has the paper's definition",
    "port_jax/optim/sparse_rows.py": "a helper: torch's sparse tensors hold the rows of a batch",
    "port_jax/optim/trees.py": "a helper: torch's parameters carry their manifolds",
    **{
        f"port_jax/optim/from_torch/{name}.py": "a step of the pipeline from torch's states, which no torch program needs"
        for name in (
            *("back", "dialects", "group_rates", "groups", "kinds", "live", "making"),
            *("momentum_cycles", "numbers", "recognition", "rules", "sections", "settings", "translation"),
        )
    },
}
LONG = 400


def sources(folder: str) -> list[Path]:
    return sorted(p for p in (ROOT / folder).rglob("*.py") if p.name != "__init__.py")


def imported(path: Path) -> set[str]:
    """Full names of the modules that a file imports, at any depth of nesting."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("room", FORBIDDEN)
def test_rooms_import_only_what_they_may(room: str):
    wrong = []
    for path in sources(room):
        relative = path.relative_to(ROOT).as_posix()
        if any(relative == free or relative.startswith(f"{free}/") for free in MAY_IMPORT):
            continue
        for name in imported(path):
            if any(name == no or name.startswith(no + ".") for no in FORBIDDEN[room]):
                wrong.append(f"{relative} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_no_imports_go_in_a_circle():
    """At the top of a module or inside of a function: whoever reads one module of a circle has to know all of them."""
    found = graph(ROOT, ("port_jax", "weights", "reference_torch", "parity_tests"))
    for module, other in MAY_CIRCLE:
        assert other in found[module], f"{module} no longer imports {other}"
        found[module].discard(other)
    wrong = circles(found)
    assert not wrong, "\n".join(", ".join(f"{m} imports {sorted(found[m] & {*circle})}" for m in circle) for circle in wrong)


def test_circles_are_found(tmp_path: Path):
    room = tmp_path / "room"
    room.mkdir()
    for name, text in {
        "__init__": "",
        "a": "from room import b",
        "b": "def f():\n    from room.c import g",
        "c": "import room.a",
        "types": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from room.user import User",
        "user": "from room import types",
    }.items():
        (room / f"{name}.py").write_text(text)
    assert circles(graph(tmp_path, ("room",))) == [["room.a", "room.b", "room.c"]]


def test_test_files_share_by_helpers():
    """What two test files need stands in a module beside them: whoever reads or changes one of them need not know of the other."""
    found = graph(ROOT, ("parity_tests",))
    tests = {name for name in found if name.rpartition(".")[2].startswith("test_")}
    assert not {name: found[name] & tests for name in tests if found[name] & tests}


GEOMETRIES = tuple(n for n, cls in vars(manifolds).items() if isinstance(cls, type) and issubclass(cls, Manifold) and cls is not Manifold)


def asks_for_a_geometry(node: ast.AST) -> bool:
    """isinstance(x, Lorentz), type(x) is manifolds.PoincareBall, x.__class__ == Sphere, and the like."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("isinstance", "issubclass"):
        asked: list[ast.expr] = node.args[1:]
    elif isinstance(node, ast.Compare) and any(
        ast.unparse(side).startswith("type(") or ast.unparse(side).endswith(".__class__") for side in (node.left, *node.comparators)
    ):
        asked = [node.left, *node.comparators]
    else:
        return False
    names = [
        n.id if isinstance(n, ast.Name) else n.attr for part in asked for n in ast.walk(part) if isinstance(n, ast.Name | ast.Attribute)
    ]
    return any(name.startswith(GEOMETRIES) for name in names)


def test_only_manifolds_ask_for_a_geometrys_type():
    """Elsewhere a line may with a comment that says why."""
    for text in ("type(m) is PoincareBall", "isinstance(m, manifolds.Lorentz)", "m.__class__ == Sphere", "issubclass(k, (int, UpperHalf))"):
        assert asks_for_a_geometry(ast.parse(text, mode="eval").body)
    for text in ("isinstance(m, Manifold)", "type(n) is int"):
        assert not asks_for_a_geometry(ast.parse(text, mode="eval").body)
    wrong = []
    for path in (p for room in ("port_jax", "weights") for p in sources(room) if "manifolds" not in p.parts):
        text = path.read_text()
        lines = {node.lineno for node in ast.walk(ast.parse(text)) if asks_for_a_geometry(node)}  # pyright: ignore[reportAttributeAccessIssue]
        wrong += [f"{path.relative_to(ROOT)}:{n}" for n in sorted(lines) if "#" not in text.splitlines()[n - 1]]
    assert not wrong, "\n".join(wrong)


def test_progress_bars_are_silent_where_the_output_is_no_terminal():
    """tqdm(disable=None) writes to terminals only; Rich's track is told what its console is."""
    quiet, wrong = {"tqdm": "None", "track": "not console.is_terminal"}, []
    for path in (p for room in ("port_jax", "weights", "reference_torch", "parity_tests", "benchmarks", "examples") for p in sources(room)):
        for call in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)):
            name = ast.unparse(call.func).rpartition(".")[2]
            told = [ast.unparse(word.value) for word in call.keywords if word.arg == "disable"]
            if name in quiet and not any(quiet[name] in text for text in told):
                wrong.append(f"{path.relative_to(ROOT)}:{call.lineno}")
    assert not wrong, "\n".join(wrong)


def test_nothing_imports_the_tests():
    for room in ("port_jax", "reference_torch", "weights", "benchmarks", "examples"):
        for path in sources(room):
            assert not any(name.split(".")[0] == "parity_tests" for name in imported(path)), path


def test_import_brings_no_torch():
    """One process imports all of them, and names the first with which torch came."""
    packages = ("port_jax", "weights", "weights.cli", "port_jax.manifolds", "port_jax.optim", "port_jax.models")
    code = (
        f"import importlib, sys\nfor package in {packages}:\n    importlib.import_module(package)\n"
        "    if {m.split('.')[0] for m in sys.modules} & {'torch', 'geoopt'}:\n        sys.exit(f'{package} brings torch')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("subject", ["layers", "models", "optim"])
def test_each_stem_has_its_rooms(subject: str):
    """A layer, model or optimizer of port_jax has its original in reference_torch; a model also has its table of weights and its test."""
    missing = []
    for path in sources(f"port_jax/{subject}"):
        relative = path.relative_to(ROOT).as_posix()
        original = f"reference_torch/{relative.removeprefix('port_jax/')}"
        if relative in UNPAIRED:
            assert not (ROOT / original).exists(), f"{relative} has a pair"
            continue
        rooms = [original]
        if subject == "models":
            rooms += [f"weights/models/{path.name}", f"parity_tests/models/test_{path.name}"]
        missing += [f"{relative} has no {room}" for room in rooms if not (ROOT / room).exists()]
    assert not missing, "\n".join(missing)


def test_exceptions_from_pairing_are_modules():
    assert not [relative for relative in UNPAIRED if not (ROOT / relative).exists()]


def test_each_original_of_an_optimizer_is_compared():
    """An original that no test imports says nothing about its translation."""
    found = graph(ROOT, ("parity_tests", "reference_torch"))
    tested = {name for module, names in found.items() if module.startswith("parity_tests.") for name in names}
    tested |= {name for module in tested & found.keys() for name in found[module]}
    originals = [path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".") for path in sources("reference_torch/optim")]
    assert not [name for name in originals if name not in tested]


@pytest.mark.parametrize("subject", ["manifolds", "optim"])
def test_each_manifold_and_optimizer_has_its_test(subject: str):
    tests = "\n".join(p.read_text() for p in sources(f"parity_tests/{subject}"))
    for path in sources(f"port_jax/{subject}"):
        module = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
        names = [n.name for n in ast.parse(path.read_text()).body if isinstance(n, ast.ClassDef | ast.FunctionDef)]
        public = [name for name in names if not name.startswith("_")]
        assert module in tests or any(name in tests for name in public), f"no test names anything of {path.name}"


def test_files_fit_in_a_head():
    rooms = ("port_jax", "weights", "reference_torch", "parity_tests", "benchmarks", "examples")
    long = {p.relative_to(ROOT).as_posix(): n for r in rooms for p in sources(r) if (n := len(p.read_text().splitlines())) > LONG}
    assert not long, f"over {LONG} lines: {long}"
