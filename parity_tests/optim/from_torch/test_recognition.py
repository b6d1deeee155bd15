"""Which kind wrote a state: what settings and numbers tell, and what has to be said."""

import numpy as np
import pytest
import torch

from parity_tests import draws
from parity_tests.optim.from_torch import loops, runs
from parity_tests.optim.from_torch.loops import PATHS, SHAPES, ball, saved_by, tree
from port_jax.manifolds import Euclidean, PoincareBall
from port_jax.optim import from_torch
from port_jax.optim.from_torch import numbers
from port_jax.optim.from_torch.recognition import moves_points, recognise, summed_along
from port_jax.optim.from_torch.sections import Section


@pytest.mark.parametrize(
    ("make", "change", "message"),
    [
        # 48 of four parameters: 48 steps of one, 6 of the other
        (
            loops.OldGeoopt,
            lambda s: None,
            "is 48 steps of fully-hyperbolic-nn's RiemannianAdam or 6 of geoopt's until 0.3.1.*pass optimizer=",
        ),
        (loops.HGCN, lambda s: [e["exp_avg_sq"].fill(0) for e in s["state"].values()], "pass optimizer='RiemannianAdam' or 'hgcn.Riem"),
        (loops.OldGeoopt, lambda s: s["param_groups"][0].update(step=47), "hybonet"),
        (loops.MuRP, lambda s: None, "'murp.RiemannianSGD' has no other setting than lr"),
        (loops.HGCN, lambda s: s["param_groups"][0].update(step=47), "47, not a multiple of 8 .twice its 4 parameters"),
        (loops.HGCN, lambda s: s["state"].pop(2), "layer/bias has no state in param_groups.0., whose count goes up twice"),
        (loops.HGCN, lambda s: s["state"][0].update(exp_avg=np.full((5, 3), np.nan)), "exp_avg of points is not finite"),
    ],
)
def test_what_the_numbers_leave_open_is_asked(make, change, message):
    _, saved = saved_by(make)
    change(saved)
    params = tree(loops.tensors(draws.rng(3), ball(0.7)[0], SHAPES))
    manifolds = {"points": PoincareBall(0.7), "layer": Euclidean()}
    if message == "hybonet":  # no multiple of twice four
        assert recognise(as_section(saved), PATHS[1:]).name == "hybonet.RiemannianAdam"
        return
    with pytest.raises(ValueError, match=message):
        from_torch(saved, params=params, names=PATHS, manifolds=manifolds)


def as_section(saved):
    members = [[PATHS[i] for i in group["params"]] for group in saved["param_groups"]]
    entries = [{PATHS[i]: saved["state"].get(i, {}) for i in group["params"]} for group in saved["param_groups"]]
    return Section(saved["param_groups"], members, entries)


def test_groups_tell_the_dialects_of_a_count_apart():
    _, one = saved_by(loops.Hybonet)
    two = {"state": one["state"], "param_groups": [{**one["param_groups"][0], "params": p} for p in ([0], [1, 2, 3])]}
    section = as_section(two)
    two["param_groups"][0]["step"] = two["param_groups"][1]["step"] = 6
    assert recognise(section, PATHS[1:]).name == "hybonet.RiemannianAdam"
    two["param_groups"][0]["step"], two["param_groups"][1]["step"] = 12, 36
    assert recognise(section, PATHS[1:]).name == "RiemannianAdam"
    two["param_groups"][1]["step"] = 30
    with pytest.raises(ValueError, match="which no known optimizer does"):
        recognise(section, PATHS[1:])


def test_a_configuration_may_not_contradict_the_state():
    _, saved = saved_by(loops.MiddleGeoopt)
    section = as_section(saved)
    with pytest.raises(ValueError, match="configuration's optimizer is rsgd, the file's settings are those of RiemannianAdam"):
        recognise(section, PATHS[1:], said="rsgd")
    assert recognise(section, PATHS[1:], said="radam").name == "RiemannianAdam"
    with pytest.raises(ValueError, match=r"optimizer is Adagrad, and param_groups\[0\] has no initial_accumulator_value, lr_decay"):
        recognise(section, PATHS[1:], "Adagrad")


def test_a_state_of_the_first_geoopt_can_be_named():
    """It counts in the group and has no `stabilize`, as HGCN's copy of it; a state of torch's Adam has no count there."""
    _, saved = saved_by(loops.HGCN)
    for entry in saved["state"].values():
        entry["exp_avg_sq"].fill(0)
    section = as_section(saved)
    for name in ("RiemannianAdam", "hgcn.RiemannianAdam"):
        assert recognise(section, PATHS[1:], name).name == name
    assert moves_points(section.groups)
    flat = torch.optim.Adam([torch.nn.Parameter(torch.ones(2))]).state_dict()["param_groups"]
    assert not moves_points(flat)
    with pytest.raises(ValueError, match=r"optimizer is RiemannianAdam, and param_groups\[0\] has no stabilize"):
        recognise(Section(flat, [[]], [{}]), [], "RiemannianAdam")


def test_the_models_code_tells_what_a_fresh_state_does_not():
    fresh = Section([{"lr": 0.1, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0, "amsgrad": False}], [[]], [{}])
    assert recognise(fresh, [], said="RiemannianAdam", code="hgcn").name == "hgcn.RiemannianAdam"
    assert recognise(fresh, [], said="Adam", code="hgcn").name == "Adam"
    sgd = Section(torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], 0.1).state_dict()["param_groups"], [[]], [{}])
    with pytest.raises(ValueError, match=r"configuration's optimizer is RiemannianSGD, the file's settings are those of SGD"):
        recognise(sgd, [], said="RiemannianSGD", code="murp")
    bare = Section([{"lr": 0.1}], [[]], [{}])
    assert recognise(bare, [], code="murp").name == "murp.RiemannianSGD"
    with pytest.raises(ValueError, match=r"'murp\.RiemannianSGD' has no other setting than lr"):
        recognise(bare, [])


def test_settings_of_adam_in_older_files_do_not_tell_adam_from_adamw():
    run = runs.Reference(lambda p: torch.optim.Adam(p, 0.03, weight_decay=0.1), ball=False)
    saved = runs.plain(run.optimizer.state_dict())
    del saved["param_groups"][0]["decoupled_weight_decay"]
    with pytest.raises(ValueError, match="pass optimizer='Adam' or 'AdamW'"):
        from_torch(saved, params=runs.as_params(runs.leaves(runs.START)), names=runs.PATHS)
    from_torch(saved, params=runs.as_params(runs.leaves(runs.START)), names=runs.PATHS, optimizer="AdamW")


@pytest.mark.parametrize("piece", [60, numbers.PIECE])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
def test_squared_norms_are_seen_through_torchs_rounding(monkeypatch: pytest.MonkeyPatch, dtype: type, piece: int):
    """geoopt adds one number to each entry of a row, and torch's vector lanes round the last entries of an array otherwise."""
    monkeypatch.setattr(numbers, "PIECE", piece)
    first = draws.rng(5).standard_normal((6, 3)).astype(dtype)
    second = np.repeat((np.abs(first) ** 2).sum(-1, keepdims=True), 3, -1).astype(dtype)
    second[-1, -1] *= 1 + 2 * np.finfo(dtype).eps
    assert summed_along(first, second, -1)
    assert not summed_along(first, second, 0)
    assert not summed_along(first, first * first.conj(), -1)
    second[2, 1] *= 1 + 3e-3
    assert not summed_along(first, second, -1)
    first[0, 0] = np.inf
    assert not summed_along(first, second, -1)
