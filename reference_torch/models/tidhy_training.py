"""TiDHy's training step (elliottabe/TiDHy, commit 70e53c4): regularisers, GradNorm (ICML 2018), clipping, and its optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Weights:
    """GradNorm's weights of the losses, 1 at first, and the losses of the first step. rate, decay: of the weights' AdamW, which is
    new in each step.
    """

    def __init__(self, rate: float, alpha: float, decay: float, weights: Tensor | None = None, initial: Tensor | None = None):
        self.rate, self.alpha, self.decay = rate, alpha, decay
        self.weights, self.initial = weights, initial

    def step(self, losses: Tensor, tasks: Sequence[Sequence[Tensor]], parameters: Sequence[Tensor]) -> list[Tensor]:
        """The gradients of the weighted losses and of GradNorm's own loss together; the weights are then those of the next step.

        losses: [k]. tasks: the parameters by which each loss is differentiated for its norm. GradNorm's loss is sum_i |g_i - target_i|.
        """
        if self.initial is None or self.weights is None:
            self.initial, self.weights = losses.detach(), torch.ones_like(losses)
        weights = self.weights.clone().requires_grad_()
        gradients = torch.autograd.grad((weights * losses).sum(), parameters, retain_graph=True)
        lengths = torch.stack([_length(weights[i] * losses[i], mine) for i, mine in enumerate(tasks)])
        ratio = losses.detach() / self.initial
        target = (lengths.mean() * (ratio / ratio.mean()) ** self.alpha).detach()
        *more, slope = torch.autograd.grad((lengths - target).abs().sum(), (*parameters, weights), allow_unused=True)
        self.weights = self._moved(weights, slope)
        return [g if m is None else g + m for g, m in zip(gradients, more, strict=True)]

    def _moved(self, weights: Tensor, slope: Tensor) -> Tensor:
        weights = weights.detach().clone().requires_grad_()
        optimizer = torch.optim.AdamW([weights], lr=self.rate, weight_decay=self.decay)
        weights.grad = slope
        optimizer.step()
        return len(weights) * torch.softmax(weights.detach(), 0)


def _length(loss: Tensor, mine: Sequence[Tensor]) -> Tensor:
    found = torch.autograd.grad(loss, mine, create_graph=True, allow_unused=True)
    return sum((torch.linalg.vector_norm(g) for g in found if g is not None), start=loss.new_zeros(()))


class Trainer:
    """One model, its optimizer of three groups, and GradNorm's weights. options: by the names of the authors' configuration. carry: whether
    r2 of a batch begins where it ended in the batch before; the authors' code keeps that with `stateful`, and never reads it.
    """

    def __init__(self, module: Any, optimizer: torch.optim.Optimizer, options: dict[str, Any], weights: Weights | None = None, *,
                 carry: bool = False):  # fmt: skip
        if module.of["use_r2_decoder"] and not options["grad_norm"]:
            raise ValueError("use_r2_decoder is trained with grad_norm only: without it the authors' step ends with a NameError")
        self.module, self.optimizer, self.options, self.carry = module, optimizer, options, carry
        self.weights = weights or Weights(options["lr_weights"], options["grad_alpha"], options["weight_decay"])
        self.r2: Tensor | None = None
        self.total: Tensor | None = None
        """What the last step differentiated: the losses by GradNorm's weights, or their sum, with the regularisers."""

    def step(self, x: Tensor, steps: int | None = None) -> Tensor:
        """The losses [3] of a batch, or [4], without the regularisers, before an update of the parameters.

        No optimizer has the R2 decoder: it stays, and its gradients of all steps add up below the norm that is clipped.
        """
        losses, self.r2 = self.module.training_losses(x, self.r2 if self.carry else None, steps)
        shared, last = regularisers(self.module, self.options)
        parameters = list(self.module.parameters())
        if self.options["grad_norm"]:
            whole = losses + torch.stack([shared, shared, shared + last, *(0 * last for _ in losses[3:])])
            weights = torch.ones_like(whole) if self.weights.weights is None else self.weights.weights
            self.total = (weights * whole).sum().detach()
            gradients = self.weights.step(whole, tasks(self.module), parameters)
        else:
            total = losses.sum() + shared + last
            self.total, gradients = total.detach(), torch.autograd.grad(total, parameters)
        self.optimizer.zero_grad()
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
        nn.utils.clip_grad_norm_(parameters, self.options["clip_grad"])
        self.optimizer.step()
        settled(self.module, self.options)
        return losses.detach()


def tasks(module: Any) -> list[list[nn.Parameter]]:
    """By loss, the parameters of its norm: decoder; decoder and dynamics; dynamics and hypernetwork; and the hypernetwork for the R2
    decoder's loss, which does not depend on it, so that this norm is 0. The dynamic bias is in none.
    """
    named = list(module.named_parameters())
    decoder, hyper = ([p for name, p in named if name.startswith(first)] for first in ("spatial_decoder.", "hypernet."))
    return [decoder, [*decoder, module.temporal], [module.temporal, *hyper], *([hyper] if module.of["use_r2_decoder"] else [])]


def regularisers(module: Any, options: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """The terms that GradNorm adds to each of the three losses, and those that it adds to the last only."""
    of, temporal = module.of, module.temporal
    hyper, decoder = module.hypernet[0].weight, module.spatial_decoder[0].weight
    last = options["cos_eta"] / of["mix_dim"] * cosines(temporal) + options["Orth_alpha_r2"] / of["r2_dim"] * cosines(hyper.T)
    shared = options["L1_alpha"] * temporal.abs().sum() + options["L1_alpha_spat"] * decoder.abs().sum()
    if not options["grad_norm"]:
        shared = shared + options["L1_alpha_W"] * module.hypernet[4].weight.abs().sum()
    if options["L0_alpha"]:
        shared = shared + options["L1_alpha"] * torch.count_nonzero(temporal).to(temporal.dtype)
    if options["Lnuc_alpha"]:
        folded = temporal.reshape(-1, of["r_dim"], of["r_dim"])
        shared = shared + options["Lnuc_alpha"] * torch.linalg.matrix_norm(folded, ord="nuc").sum()
    if options["Orth_alpha_spat"]:
        gap = decoder.T @ decoder - torch.eye(of["r_dim"], dtype=decoder.dtype)
        shared = shared + options["Orth_alpha_spat"] * gap.square().mean()
    return shared, last


def settled(module: Any, options: dict[str, Any]) -> None:
    """What follows an update: entries of the dynamics below 1e-4 become 0 with `L0_alpha`, and rows of the dynamics, columns of the
    decoder's first matrix have length 1 with `normalize_temporal`, `normalize_spatial`.
    """
    temporal, decoder = module.temporal, module.spatial_decoder[0].weight
    with torch.no_grad():
        if options["L0_alpha"]:
            temporal.masked_fill_(temporal.abs() < 1e-4, 0)
        if options["normalize_temporal"]:
            temporal.copy_(nn.functional.normalize(temporal, dim=-1))
        if options["normalize_spatial"]:
            decoder.copy_(nn.functional.normalize(decoder, dim=0))


def cosines(rows: Tensor) -> Tensor:
    """The sum of |cos| over all pairs of rows; of a low-rank factor [mix, r, rank] over the pairs within each of its matrices."""
    unit = nn.functional.normalize(rows, dim=-1, eps=1e-8)
    return torch.tril((unit @ unit.transpose(-1, -2)).abs(), -1).sum()


def optimizer_of(module: Any, options: dict[str, Any], epochs: int) -> tuple[torch.optim.AdamW, torch.optim.lr_scheduler.MultiStepLR]:
    """AdamW of three groups, and the schedule that is stepped with each epoch: the rates are halved at every fifth of the epochs."""
    firsts = {"s": "spatial_decoder.", "t": "temporal", "h": "hypernet."}
    groups = [
        {"params": [p for key, p in module.named_parameters() if key.startswith(first)], "lr": options[f"learning_rate_{name}"]}
        for name, first in firsts.items()
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=options["weight_decay"])
    every = epochs // 5
    marks = list(range(every, epochs, every)) if every else []
    return optimizer, torch.optim.lr_scheduler.MultiStepLR(optimizer, marks, gamma=0.5)
