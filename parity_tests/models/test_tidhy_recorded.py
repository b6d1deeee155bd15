"""Numbers that the authors' own code computed in float64, beside those of the reference: each regulariser, loss, and the R2 decoder."""

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from parity_tests.models.cases_tidhy import by_formula, settings
from reference_torch.models.tidhy import TiDHy
from reference_torch.models.tidhy_training import Trainer, optimizer_of


class Run(NamedTuple):
    """What the authors' training code gave for a model and sequences by `by_formula`, three steps on one batch.

    options: of its configuration. losses, weights: of the third step, the weights for the fourth. record: the losses of a record after it.
    moved: by key, sum_i cos(i) d_i of what the parameter has moved by.
    """

    options: dict[str, Any]
    losses: list[float]
    weights: list[float]
    record: list[float]
    moved: dict[str, float]


RUNS = {
    "low rank, all regularisers, GradNorm": Run(
        {
            "Lnuc_alpha": 0.02,
            "L0_alpha": 0.5,
            "L1_alpha": 0.01,
            "L1_alpha_spat": 0.03,
            "L1_alpha_W": 0.02,
            "L1_alpha_r2": 0.3,
            "L1_alpha_inf": 0.4,
            "Orth_alpha_spat": 0.5,
            "low_rank_temp": True,
            "clip_grad": 0.5,
            "normalize_spatial": True,
            "weight_decay": 0.01,
            "stateful": True,
        },
        [16.0261997878, 12.9901353886, 0.0638668841492],
        [0.979693976946, 1.04061204611, 0.979693976943],
        [15.5549254542, 16.6043182783, 0.941197446885],
        {
            "temporal": -0.0388926708132,
            "spatial_decoder.0.weight": 0.264955755239,
            "spatial_decoder.0.bias": 0.0154499265671,
            "hypernet.0.weight": 0.0074167732269,
            "hypernet.0.bias": 0.00650747631131,
            "hypernet.1.weight": -0.00368228924599,
            "hypernet.1.bias": 0.00376044240366,
            "hypernet.3.weight": -0.00519921777095,
            "hypernet.3.bias": 0.000165026951165,
            "hypernet.4.weight": -0.00202802259377,
            "hypernet.4.bias": -0.00102011730302,
        },
    ),
    "deep decoder, all regularisers, without GradNorm": Run(
        {
            "Lnuc_alpha": 0.02,
            "L0_alpha": 0.5,
            "L1_alpha": 0.01,
            "L1_alpha_spat": 0.03,
            "L1_alpha_W": 0.02,
            "L1_alpha_r2": 0.3,
            "L1_alpha_inf": 0.4,
            "Orth_alpha_spat": 0.5,
            "grad_norm": False,
            "nonlin_decoder": True,
            "normalize_temporal": True,
            "L1_inf_r": 0.02,
            "L1_inf_r2": 0.01,
            "L1_inf_w": 0.01,
            "lmda_r": 0.004,
            "lmda_r2": 0.0005,
            "decoder_hid_dims": [6, 6],
        },
        [27.7574140419, 22.8973589312, 1.85104252236],
        [],
        [16.3992058202, 26.0880511711, 1.55276746314],
        {
            "temporal": -0.046318656802,
            "spatial_decoder.0.weight": -0.0928714504785,
            "spatial_decoder.0.bias": -0.115259180429,
            "spatial_decoder.1.weight": 0.0588500764209,
            "spatial_decoder.1.bias": -0.113883930368,
            "spatial_decoder.3.weight": 0.0954748776581,
            "spatial_decoder.3.bias": 0.0762303161442,
            "spatial_decoder.4.weight": 0.0806284616625,
            "spatial_decoder.4.bias": 0.0221507313551,
            "hypernet.0.weight": -0.0102873061591,
            "hypernet.0.bias": 0.00436423936255,
            "hypernet.1.weight": 0.00554687600477,
            "hypernet.1.bias": -0.000429398497604,
            "hypernet.3.weight": -0.016012363784,
            "hypernet.3.bias": -0.00856506168716,
            "hypernet.4.weight": -0.00589123225364,
            "hypernet.4.bias": -0.0072399579102,
        },
    ),
    "R2 decoder, dynamic bias": Run(
        {"use_r2_decoder": True, "dyn_bias": True, "clip_grad": 0.5},
        [16.5592589034, 12.4112905976, 0.0281034669346, 0.276551078995],
        [0.982464906581, 0.982464906589, 1.02281402827, 1.01225615856],
        [16.1251128891, 16.5367096256, 0.169162417046],
        {
            "temporal": 0.160074096342,
            "temporal_bias": 0.00285968755054,
            "spatial_decoder.0.weight": 0.0391493626218,
            "spatial_decoder.0.bias": 0.0156359705852,
            "hypernet.0.weight": -0.00820466562413,
            "hypernet.0.bias": -0.00758539163903,
            "hypernet.1.weight": -0.00240991198282,
            "hypernet.1.bias": -0.00746560004936,
            "hypernet.3.weight": -0.00453650454317,
            "hypernet.3.bias": 0.0113669041478,
            "hypernet.4.weight": 0.0121974750631,
            "R2_Decoder.0.weight": 0.0,
            "R2_Decoder.0.bias": 0.0,
            "R2_Decoder.1.weight": 0.0,
            "R2_Decoder.1.bias": 0.0,
            "R2_Decoder.3.weight": 0.0,
            "R2_Decoder.3.bias": 0.0,
            "R2_Decoder.4.weight": 0.0,
            "R2_Decoder.4.bias": 0.0,
        },
    ),
    "cross entropy": Run(
        {"loss_type": "BCE", "lr_r": 0.002, "lr_r2": 0.002, "learning_rate_s": 0.001},
        [14.1966347762, 10.6819889805, 2.46501110371e-07],
        [1.01968627976, 1.01968627973, 0.960627440514],
        [14.2036450732, 14.2058044888, 0.0117795429094],
        {
            "temporal": 0.0385536960204,
            "spatial_decoder.0.weight": 0.00232590462174,
            "spatial_decoder.0.bias": -0.0015594854797,
            "hypernet.0.weight": 0.00743030341823,
            "hypernet.0.bias": 0.00449035095843,
            "hypernet.1.weight": -2.34634460891e-05,
            "hypernet.1.bias": 0.00449672241329,
            "hypernet.3.weight": 0.00212736558194,
            "hypernet.3.bias": -0.0116493794846,
            "hypernet.4.weight": 0.0089010114674,
            "hypernet.4.bias": -0.00792826711737,
        },
    ),
    "Poisson, GradNorm inside": Run(
        {"loss_type": "Poisson", "grad_norm_inf": True, "lr_r": 0.002, "lr_r2": 0.002},
        [17.2133846698, 12.8961806542, 0.000128935900247],
        [1.01968627973, 1.01968627967, 0.960627440591],
        [17.2500542903, 17.2518643221, 0.00155760896403],
        {
            "temporal": 0.0376557771705,
            "spatial_decoder.0.weight": 0.0295639806051,
            "spatial_decoder.0.bias": -0.0156460450394,
            "hypernet.0.weight": 0.00743030342108,
            "hypernet.0.bias": 0.000914214851972,
            "hypernet.1.weight": -0.00120484452134,
            "hypernet.1.bias": 0.00335817164069,
            "hypernet.3.weight": -0.0030949477266,
            "hypernet.3.bias": -0.00156224135798,
            "hypernet.4.weight": 0.00180082863901,
            "hypernet.4.bias": -0.00126451756617,
        },
    ),
}


@pytest.mark.parametrize("name", RUNS)
def test_three_steps_and_a_record_of_the_authors_code(name: str):
    run = RUNS[name]
    given = settings(max_iter=10, mix_dim=6, tol=0.0, **run.options)
    module = TiDHy(given).double()
    x = by_formula(module, given["loss_type"])
    before = {key: p.detach().clone() for key, p in module.named_parameters()}
    trainer = Trainer(module, optimizer_of(module, given, 10)[0], given)
    losses = [trainer.step(x) for _ in range(3)][-1]
    np.testing.assert_allclose(losses, run.losses, rtol=1e-9)
    if run.weights:
        np.testing.assert_allclose(trainer.weights.weights, run.weights, rtol=1e-9)  # pyright: ignore[reportArgumentType]
    np.testing.assert_allclose(module.record(x)["losses"].detach(), run.record, rtol=1e-9)
    for key, p in module.named_parameters():
        moved = p.detach() - before[key]
        found = (moved * torch.cos(torch.arange(p.numel()).double()).reshape(p.shape)).sum()
        assert float(found) == pytest.approx(run.moved[key], rel=1e-8, abs=1e-9 * float(moved.abs().sum())), key
