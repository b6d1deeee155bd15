"""The table of kinds: its defaults are those of the classes, and no other file decides by the name of one."""

import ast
import inspect
from pathlib import Path

import geoopt
import pytest
import torch

from port_jax.optim.from_torch.kinds import KINDS, kind_named, trained
from port_jax.optim.from_torch.schedulers import SCHEDULERS

ROOT = Path(__file__).parents[3]
CLASSES = {name: getattr(geoopt.optim, name, None) or getattr(torch.optim, name) for name, kind in KINDS.items() if not kind.code}


@pytest.mark.parametrize("name", CLASSES)
def test_defaults_and_telling_settings_are_those_of_the_class(name):
    kind, lr = KINDS[name], inspect.signature(CLASSES[name].__init__).parameters.get("lr")
    optimizer = CLASSES[name](
        [torch.nn.Parameter(torch.ones(2, 2))], **({"lr": 1e-3} if lr and lr.default is inspect.Parameter.empty else {})
    )
    group = optimizer.param_groups[0]
    assert {key: group[key] for key in kind.settings} == dict(kind.settings)
    assert kind.telling[0] <= group.keys()
    assert not kind.lacking & group.keys()
    assert not kind.missing(set(group))
    assert kind.from_start == bool(optimizer.state)


def test_rows_have_names_of_their_own():
    assert all(KINDS[name].name == name for name in KINDS)
    with pytest.raises(ValueError, match="optimizer 'Lion' is not translated; known are RiemannianAdam, hgcn"):
        kind_named("Lion")


def test_adagrads_sums_are_no_training():
    assert not trained({}, 0)
    assert not trained({"sum": 0.1, "step": 0}, 0)
    assert trained({"sum": 0.1, "step": 1}, 1)
    assert trained({"exp_avg": 0.1, "step": 0}, 0)


def test_no_file_decides_by_the_name_of_a_kind_or_a_scheduler():
    """No string outside of the tables, docstrings and annotations aside, is a name of theirs, or the part of one that would be asked."""
    names = {*KINDS, *(kind.title for kind in KINDS.values()), *(row.name for row in SCHEDULERS)}
    files = [path for room in ("port_jax/optim/from_torch", "weights/optim") for path in (ROOT / room).glob("*.py")]
    files.append(ROOT / "weights/proof/torch_steps.py")
    found = []
    for path in files:
        if path.name in ("kinds.py", "schedulers.py"):
            continue
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Compare):
                strings = [c.value for c in ast.walk(node) if isinstance(c, ast.Constant) and isinstance(c.value, str)]
                found += [f"{path.name}:{node.lineno} {s}" for s in strings if s in names]
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("endswith", "startswith"):
                strings = [c.value for c in ast.walk(node) if isinstance(c, ast.Constant) and isinstance(c.value, str)]
                found += [f"{path.name}:{node.lineno} {s}" for s in strings if any(s.isalpha() and s in name for name in names)]
    assert not found, "\n".join(found)
