"""State dicts with other keys, and optimizers' states with other groups, as torch.save writes them."""

from __future__ import annotations

import copy
import functools
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from parity_tests.fuzz import seeds
from parity_tests.fuzz.draw import FLOATS, INTEGERS, TEXTS, Random, below, chance, one_of, plain, shuffled
from parity_tests.fuzz.trial import Case

WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
CURVATURE, CURVATURE_AT = "ball.isp_c", 1
"""The seeds' curvature, which is fixed, and the index at which the optimizer has it: a state there says that it is trained."""
ANY = ("net", "model", "encoder", "0", "", "a.b", "module.net", "ключ")


def _saved(tree: Any, random: Random, path: Path) -> None:
    torch.save(tree, path, _use_new_zipfile_serialization=chance(random, 0.7))


def _renamed(model: dict, change: Callable[[str], str]) -> OrderedDict:
    return OrderedDict((change(key), value) for key, value in model.items())


def _inside(random: Random, key: str) -> str:
    """Wrappers between the parts of a key that no model has by itself."""
    *parts, last = key.split(".")
    return ".".join([*(word for part in parts for word in (part, one_of(random, WRAPPERS[1:]))), last])


def keys(random: Random, source: Path, folder: Path) -> Case:
    """The model of a checkpoint under other keys."""
    name = one_of(random, seeds.TREES[:2])
    tree = dict(seeds.objects(source / name))
    model: dict = OrderedDict(tree["model"])
    path, given, same, kind = folder / name, dict(seeds.given(random)), seeds.arrays(source / name), below(random, 5)
    if kind == 0:
        first = [one_of(random, WRAPPERS) for _ in range(1 + below(random, 3))]
        model = _renamed(model, lambda key: ".".join([*first, _inside(random, key) if chance(random, 0.5) else key]))
        what = f"wrappers: {list(model)}"
    elif kind == 1:
        prefix = f"{one_of(random, ANY)}."
        model = _renamed(model, lambda key: prefix + key)
        given, what = {**given, "prefix": prefix}, f"prefix {prefix}"
        if chance(random, 0.3):
            model[one_of(random, ("criterion.weight", "z", f"{prefix[:-1]}z"))] = torch.ones(3)
    elif kind == 2:
        section = one_of(random, ("ema", "state_dict", "model_state_dict", "params", "net"))
        tree = {section: model, **{key: value for key, value in tree.items() if key != "model"}}
        given, what = {**given, "section": section}, f"section {section}"
    elif kind == 3:
        tree = {key: tree[key] for key in shuffled(random, tree)}
        what = "another order of the sections"
    else:
        return _odd_keys(random, tree, model, path)
    if kind != 3:
        tree = {key: (model if value is tree.get("model") and kind != 2 else value) for key, value in tree.items()}
    if chance(random, 0.5):
        tree.pop("optimizer", None)
    _saved(tree, random, path)
    return Case(path, what, given, same=same, must=True, torch=True)


def _odd_keys(random: Random, tree: dict, model: dict, path: Path) -> Case:
    said = []
    for _ in range(1 + below(random, 4)):
        key, kind = one_of(random, list(model)), below(random, 6)
        if kind == 0:
            new: Any = one_of(random, TEXTS)
        elif kind == 1:
            new = str(key) + one_of(random, (".", ".x", "/x", "..", "\0", ".weight", " ", "\n"))
        elif kind == 2:
            new = ".".join(one_of(random, (*WRAPPERS, *ANY)) for _ in range(1 + below(random, 4))) + f".{key}"
        elif kind == 3:
            new = one_of(random, (0, 1, None, (1, 2), b"k", 1.5, True))
        else:
            new = one_of(
                random,
                (
                    "lin",
                    "lin.weight.x",
                    "emb.x",
                    "ball",
                    "x",
                    "n_averaged",
                    "_extra_state",
                    "w_orig",
                    "w_g",
                    "w_v",
                    "parametrizations.weight.original0",
                    "_packed_params",
                ),
            )
        value = model.pop(key) if kind != 4 and len(model) > 1 else model[key]
        model[new] = one_of(random, (value, value, value, _tensor(random), plain(random)))
        said.append(f"{key} -> {new!r:.60}")
    tree = {**tree, "model": model}
    if chance(random, 0.3):
        tree = model
    elif chance(random, 0.4):
        tree[one_of(random, TEXTS)] = plain(random)
    _saved(tree, random, path)
    given = dict(seeds.given(random))
    for option, values in (
        ("section", (*TEXTS[:12], "model", "optimizer")),
        ("prefix", (*TEXTS[:12], "lin", "lin.")),
        ("optimizer_at", TEXTS[:12]),
    ):
        if chance(random, 0.08):
            given[option] = one_of(random, values)
    if chance(random, 0.1):
        given = {**given, "manifolds": {one_of(random, ("*", "emb*", "[", "nothing", *TEXTS[:9])): given["manifolds"]["emb"]}}
    return Case(path, "; ".join(said), given, torch=True)


def _tensor(random: Random) -> torch.Tensor:
    """One of another type, shape or layout."""
    dtype = one_of(
        random, (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.bool, torch.complex64, torch.uint8, torch.float8_e4m3fn)
    )
    shape = [below(random, 4) for _ in range(below(random, 4))]
    made = torch.zeros(shape, dtype=dtype)
    kind = below(random, 6)
    if kind == 0:
        return torch.full(shape, one_of(random, FLOATS), dtype=torch.float64)
    if kind == 1:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that CSR is in beta
            return torch.eye(3).to_sparse() if chance(random, 0.5) else torch.eye(3).to_sparse_csr()
    if kind == 2:
        return torch.ones(4, 4)[one_of(random, (slice(None), slice(1, 3), slice(0, 0)))].t()
    if kind == 3:
        return torch.ones(1).expand(5, 3)
    return torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8) if kind == 4 and chance(random, 0.3) else made


def groups(random: Random, source: Path, folder: Path) -> Case:
    """The optimizer of a checkpoint with other groups and states."""
    name = one_of(random, seeds.TREES)
    tree = dict(seeds.objects(source / name))
    state, all_groups = dict(tree["optimizer"]["state"]), copy.deepcopy(tree["optimizer"]["param_groups"])
    path, given = folder / name, dict(seeds.GIVEN)
    if chance(random, 0.2):
        state = {key: {n: state[key][n] for n in shuffled(random, state[key])} for key in shuffled(random, state)}
        all_groups = [{key: group[key] for key in shuffled(random, group)} for group in all_groups]
        tree["optimizer"] = {"param_groups": all_groups, "state": state}
        _saved(tree, random, path)
        return Case(path, "another order of groups and states", given, same=seeds.arrays(source / name), must=True, torch=True)
    said = []
    section: dict[str, Any] = {"state": state, "param_groups": all_groups}
    for _ in range(1 + below(random, 3)):
        change = one_of(random, (_indices, _settings, _settings, _entry, _entry, _more_groups, _section))
        said.append(change(random, section))
    tree["optimizer"] = section
    if chance(random, 0.1):
        tree[one_of(random, ("optimizer2", "opt", "optimizer_states"))] = one_of(random, (section, [section], {"a": section}))
    if chance(random, 0.2):
        tree[one_of(random, ("scheduler", "lr_scheduler", "lr_schedulers"))], what = _scheduler(random)
        said.append(what)
    if chance(random, 0.1):
        given["optimizer"] = one_of(random, ("RiemannianAdam", "Adam", "SGD", "nothing", True, *TEXTS[1:6]))
    if chance(random, 0.1):
        given["groups"] = one_of(random, ([["emb"], ["lin.*"]], [["*"]], [[]], [["emb", "emb"]], [["nothing"]], [["["]]))
    if chance(random, 0.05):
        given["updates_per_step"] = one_of(random, (0, 1, -1, 3, 1 << 40))
    _saved(tree, random, path)
    curved = frozenset({CURVATURE} if isinstance(section["state"], dict) and CURVATURE_AT in section["state"] else ())
    return Case(path, "; ".join(said), given, same=seeds.arrays(source / name), perhaps=curved, torch=True)


@functools.cache
def _schedulers() -> list[dict]:
    """The states of torch's schedulers after three steps."""
    rates = torch.optim.lr_scheduler
    makers = (
        lambda o: rates.StepLR(o, 2),
        lambda o: rates.CosineAnnealingLR(o, 5),
        lambda o: rates.MultiStepLR(o, [1, 4]),
        lambda o: rates.OneCycleLR(o, 0.1, total_steps=9, cycle_momentum=False),
        lambda o: rates.ReduceLROnPlateau(o),
        lambda o: rates.SequentialLR(o, [rates.LinearLR(o, total_iters=2), rates.ExponentialLR(o, 0.9)], [2]),
        lambda o: rates.ChainedScheduler([rates.ConstantLR(o), rates.ExponentialLR(o, 0.9)]),
    )
    states = []
    for make in makers:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.01)
        scheduler = make(optimizer)
        for _ in range(3):
            optimizer.step()
            scheduler.step(*([1.0] if isinstance(scheduler, rates.ReduceLROnPlateau) else []))
        states.append(scheduler.state_dict())
    return states


def _scheduler(random: Random) -> tuple[Any, str]:
    """A scheduler's state with settings of other kinds, or something else."""
    if chance(random, 0.1):
        return plain(random), "a scheduler of anything"
    state = copy.deepcopy(one_of(random, _schedulers()))
    said = []
    for _ in range(below(random, 3)):
        parts = [state, *(part for part in state.get("_schedulers", ()) if isinstance(part, dict))] if isinstance(state, dict) else [state]
        part = one_of(random, parts)
        name = one_of(random, [*part, "last_epoch", "base_lrs", "_schedulers", "unknown"])
        part[name] = _value(random)
        said.append(f"{name} = {part[name]!r:.60}")
        if name == "_schedulers":
            break
    return (state if chance(random, 0.8) else [state]), f"a scheduler with {', '.join(said)}"


def _indices(random: Random, section: dict) -> str:
    group = one_of(random, section["param_groups"] or [{}]) if isinstance(section.get("param_groups"), list) else {}
    found = group.get("params") if isinstance(group, dict) else None
    if not isinstance(found, list):
        return "no indices"
    kind = below(random, 6)
    if kind == 0 and found:
        found.append(found[0])
    elif kind == 1 and found:
        found.pop(below(random, len(found)))
    elif kind == 2:
        found.insert(below(random, len(found) + 1), one_of(random, (*INTEGERS, "emb", "lin.weight", None, 1.5, True, [0], np.int64(1))))
    elif kind == 3:
        random.shuffle(found)
    elif kind == 4:
        group["params"] = one_of(
            random, ([], None, 3, "emb", {}, [[0]], ["emb", "lin.weight", "lin.bias"], (0, 1, 2, 3), [True, False, 2, 3])
        )
    else:
        group["param_names"] = one_of(
            random, (["emb", "ball.isp_c", "lin.weight", "lin.bias"], ["emb"], [0], "emb", None, ["lin.bias", "lin.weight", "x", "emb"])
        )
    return f"indices {kind}"


def _settings(random: Random, section: dict) -> str:
    found = [group for group in section["param_groups"] if isinstance(group, dict)] if isinstance(section.get("param_groups"), list) else []
    if not found:
        return "no groups"
    group = one_of(random, found)
    names = [
        *(key for key in group if key != "params"),
        "betas",
        "lr",
        "momentum",
        "initial_lr",
        "decoupled_weight_decay",
        "name",
        "unknown",
    ]
    name = one_of(random, names)
    if chance(random, 0.25):
        group.pop(name, None)
        return f"without {name}"
    group[name] = _value(random)
    return f"{name} = {group[name]!r:.80}"


def _value(random: Random) -> Any:
    odd = (
        torch.tensor(0.1),
        torch.ones(3),
        _tensor(random),
        (0.9, 0.999),
        (0.9,),
        (float("nan"), 2.0),
        [0.9, 0.999, 0.1],
        np.float64(0.1),
        np.arange(2),
        "0.1",
        b"x",
        1j,
        {1},
        (),
        -1.0,
        10**400,
    )
    kind = below(random, 3)
    return one_of(random, odd) if kind == 0 else one_of(random, FLOATS) if kind == 1 else plain(random, 2)


def _entry(random: Random, section: dict) -> str:
    states = section.get("state")
    if not isinstance(states, dict) or not states:
        return "no states"
    at = one_of(random, list(states))
    kind = below(random, 5)
    if kind == 0:
        del states[at]
    elif kind == 1:
        states[one_of(random, (*INTEGERS, "emb", None, (0,), 1.5, True))] = states[at]
    elif kind == 2:
        states[at] = plain(random, 2)
    elif isinstance(states[at], dict):
        states[at] = entry = dict(states[at])
        name = one_of(random, [*entry, "step", "exp_avg", "momentum_buffer", "max_exp_avg_sq", "sum", "unknown"])
        if chance(random, 0.2):
            entry.pop(name, None)
        else:
            steps = (
                3.0,
                -1,
                0,
                10**9,
                2**31,
                torch.tensor(3.0),
                torch.tensor(float("nan")),
                torch.tensor([3]),
                float("inf"),
                2.5,
                True,
                "3",
                None,
            )
            entry[name] = (
                one_of(random, steps) if name == "step" and chance(random, 0.8) else one_of(random, (_tensor(random), _value(random)))
            )
        return f"state {at}: {name}"
    return f"state {at}: {kind}"


def _more_groups(random: Random, section: dict) -> str:
    found = section.get("param_groups")
    if not isinstance(found, list) or not found:
        return "no groups"
    kind = below(random, 5)
    if kind == 0:
        found.append(copy.deepcopy(found[0]))
    elif kind == 1:
        found.append({**found[0], "params": [4]})
    elif kind == 2 and isinstance(found[0], dict) and isinstance(found[0].get("params"), list):
        every = found[0]["params"]
        found[:] = [{**found[0], "params": every[:1]}, {**found[0], "lr": 0.5, "params": every[1:]}]
    elif kind == 3:
        found.append(one_of(random, (None, {}, [], 3, "x")))
    else:
        found.clear()
    return f"groups {kind}"


def _section(random: Random, section: dict) -> str:
    name = one_of(random, ("state", "param_groups", "unknown"))
    section[name] = plain(random, 2)
    return f"{name} = {section[name]!r:.80}"
