"""The hyperboloid by space parts alone, as MERU's code has it: x_t^2 = 1/c + |x_s|^2, and only x_s is handed on (arXiv 2304.09172)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

EPS, FARTHEST, RADIUS = 1e-8, math.asinh(2.0**15), 0.1


def time_part(x: Tensor, curv: Tensor) -> Tensor:
    """x_t [...] of x [..., d]."""
    return (1 / curv + x.square().sum(-1)).sqrt()


def exp_map0(x: Tensor, curv: Tensor) -> Tensor:
    """sinh(r) x / r with r = sqrt(c) |x|, at most arsinh(2^15) inside of sinh."""
    r = curv.sqrt() * x.norm(dim=-1, keepdim=True)
    return r.clamp(EPS, FARTHEST).sinh() * x / r.clamp(min=EPS)


def log_map0(x: Tensor, curv: Tensor) -> Tensor:
    """arcosh(sqrt(c) x_t) x / (sqrt(c) |x|)."""
    far = (1 + curv * x.square().sum(-1, keepdim=True)).sqrt().clamp(min=1 + EPS).acosh()
    return far * x / (curv.sqrt() * x.norm(dim=-1, keepdim=True)).clamp(min=EPS)


def pairwise_inner(x: Tensor, y: Tensor, curv: Tensor) -> Tensor:
    """<x_i, y_j> = x_i . y_j - x_t y_t for all i and j."""
    return x @ y.T - time_part(x, curv)[:, None] * time_part(y, curv)


def pairwise_dist(x: Tensor, y: Tensor, curv: Tensor) -> Tensor:
    """arcosh(max(-c <x_i, y_j>, 1 + 1e-8)) / sqrt(c)."""
    return (-curv * pairwise_inner(x, y, curv)).clamp(min=1 + EPS).acosh() / curv.sqrt()


def half_aperture(x: Tensor, curv: Tensor) -> Tensor:
    """arcsin(2 K / (sqrt(c) |x|)) with K = 0.1, the half angle of the entailment cone at x."""
    return (2 * RADIUS / (x.norm(dim=-1) * curv.sqrt() + EPS)).clamp(-1 + EPS, 1 - EPS).asin()


def oxy_angle(x: Tensor, y: Tensor, curv: Tensor) -> Tensor:
    """The exterior angle at x of the triangle of the origin, x and y: arccos((y_t + w x_t) / (|x| sqrt(w^2 - 1))), w = c <x, y>."""
    x_t, y_t = time_part(x, curv), time_part(y, curv)
    w = curv * ((x * y).sum(-1) - x_t * y_t)
    below = x.norm(dim=-1) * (w.square() - 1).clamp(min=EPS).sqrt() + EPS
    return torch.acos(((y_t + w * x_t) / below).clamp(-1 + EPS, 1 - EPS))
