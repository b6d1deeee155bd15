"""TiDHy: timescale demixing by hypernetworks (elliottabe/TiDHy, commit 70e53c4), with the authors' parameter names."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reference_torch.models.tidhy_training import Weights


class Prediction(NamedTuple):
    """r: [B, r_dim]. V: [B, r_dim, r_dim]. w: [B, mix_dim]."""

    r: Tensor
    V: Tensor
    w: Tensor


class TiDHy(nn.Module):
    """Latents r and r2 of each time step are optimised in the forward pass; `port_jax.models.TiDHy` describes the settings.

    settings: sizes, switches, and those of the inference by the names of the authors' configuration.
    """

    def __init__(self, settings: dict[str, Any]):
        super().__init__()
        self.of = settings
        r, r2, mix, hidden = (settings[name] for name in ("r_dim", "r2_dim", "mix_dim", "hyper_hid_dim"))
        shape = (mix, r, settings["rank"]) if settings["low_rank_temp"] else (mix, r * r)
        self.temporal = nn.Parameter(nn.init.orthogonal_(torch.empty(shape)))
        if settings["dyn_bias"]:
            self.temporal_bias = nn.Parameter(nn.init.xavier_normal_(torch.empty(1, r)))
        layers: list[nn.Module] = [nn.Linear(r, settings["input_dim"])]
        if settings["nonlin_decoder"]:
            one, two = settings["decoder_hid_dims"]
            layers = [nn.Linear(r, one), nn.LayerNorm(one), nn.ELU(), nn.Linear(one, two), nn.Linear(two, settings["input_dim"])]
        self.spatial_decoder = nn.Sequential(*layers)
        ends = nn.Linear(hidden, mix + (r if settings["dyn_bias"] else 0), bias=not settings["dyn_bias"])
        self.hypernet = nn.Sequential(nn.Linear(r2, hidden), nn.LayerNorm(hidden), nn.ELU(), nn.Linear(hidden, hidden), ends, nn.ReLU())
        deep: list[nn.Module] = []
        if settings["use_r2_decoder"]:
            wide = settings["r2_decoder_hid_dim"]
            deep = [nn.Linear(r + r2, wide), nn.LayerNorm(wide), nn.ELU(), nn.Linear(wide, wide), nn.Linear(wide, r2)]
            self.R2_Decoder = nn.Sequential(*deep)
        for layer in (self.spatial_decoder[0], *self.hypernet, *deep):
            if isinstance(layer, nn.Linear):
                nn.init.xavier_normal_(layer.weight)

    def decode(self, r: Tensor) -> Tensor:
        """[..., r_dim] -> [..., input_dim]."""
        return self.spatial_decoder(r)

    def predict(self, r: Tensor, r2: Tensor) -> Prediction:
        """r_bar = V(r2) r, plus b(r2) * temporal_bias with `dyn_bias`."""
        size, mix = self.of["r_dim"], self.of["mix_dim"]
        given = self.hypernet(r2)
        w, b = given[:, :mix], given[:, mix:]
        dynamics = torch.matmul(w, self.dynamics().reshape(mix, -1)).reshape(len(r), size, size)
        moved = torch.bmm(dynamics, r.unsqueeze(2)).squeeze(2)
        return Prediction(moved + b * self.temporal_bias if self.of["dyn_bias"] else moved, dynamics, w)

    def dynamics(self) -> Tensor:
        """The dynamics [mix, r_dim, r_dim] that are mixed."""
        if self.of["low_rank_temp"]:
            return torch.bmm(self.temporal, self.temporal.transpose(1, 2))
        return self.temporal.reshape(self.of["mix_dim"], self.of["r_dim"], self.of["r_dim"])

    def foretell(self, r: Tensor, r2: Tensor) -> Tensor:
        """The next r2 by the R2 decoder."""
        return self.R2_Decoder(torch.cat([r, r2], -1))

    def spatial(self, predicted: Tensor, x: Tensor) -> Tensor:
        """Summed over features, averaged over the batch. No sigmoid is before the cross entropy, which raises outside of [0, 1]."""
        if self.of["loss_type"] == "Poisson":
            return (predicted - x * predicted.log()).sum(1).mean()
        error = F.binary_cross_entropy if self.of["loss_type"] == "BCE" else F.mse_loss
        return error(predicted, x, reduction="none").sum(1).mean()

    def first(self, x: Tensor, steps: int | None = None) -> tuple[Tensor, int]:
        """r_1 by AdamW from 0; it stops when every row has converged. steps: so many iterations, and no stopping."""
        r = torch.zeros(len(x), self.of["r_dim"], dtype=x.dtype, requires_grad=True)
        optimizer = torch.optim.AdamW([r], lr=self.of["lr_r"])
        count, length = 0, steps or self.of["max_iter"]
        while count < length:
            count, old = count + 1, r.detach().clone()
            (r.grad,) = torch.autograd.grad(self.spatial(self.decode(r), x), r)
            optimizer.step()
            if steps is None and self._converged(r, old, together=False):
                break
        return r.detach(), count

    def infer(self, x: Tensor, r_p: Tensor, r2: Tensor, steps: int | None = None) -> tuple[Tensor, Tensor, int]:
        """r and r2 of one time step by SGD with Nesterov momentum, from 0 and the given r2."""
        r = torch.zeros_like(r_p).requires_grad_()
        r2 = r2.detach().clone().requires_grad_()
        length = steps or self.of["max_iter"]
        movers = [torch.optim.SGD([z], lr=self.of[lr], momentum=0.9, nesterov=True) for z, lr in ((r, "lr_r"), (r2, "lr_r2"))]
        every = length // 10
        timer = torch.optim.lr_scheduler.MultiStepLR(movers[0], list(range(every, length, every)) if every else [], gamma=0.5)
        weights = Weights(self.of["lr_weights_inf"], self.of["grad_alpha_inf"], decay=0.01)
        count = 0
        while count < length:
            count += 1
            old, old2 = r.detach().clone(), r2.detach().clone()
            self._slopes(x, r, r2, r_p, weights)
            for mover in movers:
                mover.step()
            timer.step()
            for z, name in ((r, "lmda_r"), (r2, "lmda_r2")):
                if lmda := self.of[name]:
                    z.data = torch.sign(z.data) * torch.clamp(z.data.abs() - lmda, min=0)
            together = self.of["batch_converge"]
            if steps is None and self._converged(r, old, together=together) and self._converged(r2, old2, together=together):
                break
        return r.detach(), r2.detach(), count

    def _slopes(self, x: Tensor, r: Tensor, r2: Tensor, r_p: Tensor, weights: Weights) -> None:
        """Puts the gradients beside the latents."""
        found = self.predict(r_p, r2)
        seen, temporal = self.spatial(self.decode(r), x), _squares(r, found.r)
        if not self.of["grad_norm_inf"]:
            terms = (("L1_inf_r", r), ("L1_inf_r2", r2), ("L1_inf_w", found.w))
            energy = seen + self.of["temp_weight"] * temporal + sum(self.of[name] * z.abs().sum() for name, z in terms)
            if self.of["use_r2_decoder"]:
                energy = energy + _squares(r2, self.foretell(r, r2).detach())
            r.grad, r2.grad = torch.autograd.grad(energy, (r, r2))
            return
        losses = torch.stack([seen, temporal, temporal])
        if weights.initial is None:
            losses = torch.where(losses == 0, torch.full_like(losses, 1e-6), losses)
        r.grad, r2.grad = weights.step(losses, ((r, r2), (r,), (r2,)), (r, r2))

    def _converged(self, new: Tensor, old: Tensor, *, together: bool) -> bool:
        axis = None if together else 1
        moved, length = (torch.linalg.vector_norm(z.detach(), dim=axis) for z in (new - old, old))
        return bool((moved / (length + 1e-16) < self.of["tol"]).all())

    def forward(self, x: Tensor, r2: Tensor | None = None, steps: int | None = None) -> Tensor:
        """The training losses [3]: spatial of r, spatial of r_bar, temporal, summed over time."""
        losses, _ = self.training_losses(x, r2, steps)
        return losses[:3]

    def training_losses(self, x: Tensor, r2: Tensor | None = None, steps: int | None = None) -> tuple[Tensor, Tensor]:
        """[3], with an R2 decoder [4] by its loss |r2_t - foretell(r_{t-1}, r2_{t-1})|^2, and the last r2. r begins at 0, and r_bar takes
        the new r2; at t = 0 there is only the loss of r.
        """
        r, r2 = x.new_zeros(len(x), self.of["r_dim"]), x.new_zeros(len(x), self.of["r2_dim"]) if r2 is None else r2
        seen, foreseen, temporal, slow = self.spatial(self.decode(r), x[:, 0]), x.new_zeros(()), x.new_zeros(()), x.new_zeros(())
        for t in range(1, x.shape[1]):
            last, old = r, r2
            r, r2, _ = self.infer(x[:, t], last, old, steps)
            if self.of["use_r2_decoder"]:
                slow = slow + _squares(r2, self.foretell(last, old))
            bar = self.predict(last, r2).r
            seen, foreseen = seen + self.spatial(self.decode(r), x[:, t]), foreseen + self.spatial(self.decode(bar), x[:, t])
            temporal = temporal + self.of["temp_weight"] * _squares(r, bar)
        return torch.stack([seen, foreseen, temporal, *([slow] if self.of["use_r2_decoder"] else [])]), r2

    def record(self, x: Tensor, r2: Tensor | None = None, steps: int | None = None) -> dict[str, Tensor]:
        """As training, but from r_1 = `first`, with r_bar by the old r2, and with the loss of r_bar = 0 at t = 0."""
        r, _ = self.first(x[:, 0], steps)
        r2 = x.new_zeros(len(x), self.of["r2_dim"]) if r2 is None else r2
        bar, rows = torch.zeros_like(r), []
        w, losses = x.new_zeros(len(x), self.of["mix_dim"]), x.new_zeros(3)
        for t in range(x.shape[1]):
            if t:
                last, old = r, r2
                r, r2, _ = self.infer(x[:, t], last, old, steps)
                bar, w = self.predict(last, old).r, self.predict(last, r2).w
            temporal = self.of["temp_weight"] * _squares(r, bar) if t else x.new_zeros(())
            losses = losses + torch.stack([self.spatial(self.decode(r), x[:, t]), self.spatial(self.decode(bar), x[:, t]), temporal])
            rows.append((self.decode(bar), self.decode(r), bar, r, r2, w))
        named = zip(("I_bar", "I_hat", "R_bar", "R_hat", "R2_hat", "W"), zip(*rows))
        return {name: torch.stack(parts, 1) for name, parts in named} | {"losses": losses}


def _squares(a: Tensor, b: Tensor) -> Tensor:
    """Summed over features, averaged over the batch."""
    return (a - b).square().sum(1).mean()
