"""The optimizers of repositories and of geoopt's older versions, as torch loops written from their mathematics."""

from __future__ import annotations

import geoopt
import numpy as np
import torch

FLAT = geoopt.Euclidean()


def add(x, y, c):
    """Moebius addition on the ball of curvature -c."""
    xy, x2, y2 = (x * y).sum(-1, keepdim=True), (x * x).sum(-1, keepdim=True), (y * y).sum(-1, keepdim=True)
    return ((1 + 2 * c * xy + c * y2) * x + (1 - c * x2) * y) / (1 + 2 * c * xy + c**2 * x2 * y2)


def factor(x, c):
    """lambda_x."""
    return 2 / (1 - c * (x * x).sum(-1, keepdim=True))


def exp(x, u, c):
    """x + tanh(sqrt(c) lambda_x |u| / 2) u / (sqrt(c) |u|), by Moebius addition."""
    length = u.norm(dim=-1, keepdim=True)
    return add(x, torch.tanh(c**0.5 * factor(x, c) * length / 2) * u / (c**0.5 * length), c)


def transport(x, y, u, c):
    """gyr[y, -x] u lambda_x / lambda_y, with gyr[a, b] u = -(a + b) + (a + (b + u)) by Moebius additions."""
    return add(-add(y, -x, c), add(y, add(-x, u, c), c), c) * factor(x, c) / factor(y, c)


class Loop:
    """params: tensors, changed in place. points: manifolds by index, or None for flat ones. state_dict: as the original saves it."""

    beside: tuple = ()

    def __init__(self, params, points, lr=0.03, betas=(0.8, 0.97), eps=1e-3, weight_decay=0.1, amsgrad=False, stabilize=None):
        self.params, self.points = params, points
        self.lr, self.betas, self.eps, self.decay, self.amsgrad, self.stabilize = lr, betas, eps, weight_decay, amsgrad, stabilize
        self.m, self.v, self.top = ([torch.zeros_like(p) for p in params] for _ in range(3))
        self.count = 0

    def moments(self, i, r, square):
        b1, b2 = self.betas
        self.m[i] = b1 * self.m[i] + (1 - b1) * r
        self.v[i] = b2 * self.v[i] + (1 - b2) * square
        self.top[i] = torch.maximum(self.top[i], self.v[i])
        return self.top[i] if self.amsgrad else self.v[i]

    def state_dict(self):
        group = {"lr": self.lr, "betas": self.betas, "eps": self.eps, "weight_decay": self.decay, "amsgrad": self.amsgrad}
        state = {}
        for i in range(len(self.params) if self.count else 0):
            state[i] = {**dict(self.beside), "exp_avg": self.m[i].clone(), "exp_avg_sq": self.v[i].clone()}
            state[i] |= {"max_exp_avg_sq": self.top[i].clone()} if self.amsgrad else {}
        group |= {"step": self.count} if self.count else {}
        return {"state": state, "param_groups": [{**group, **self.kept(), "params": list(range(len(self.params)))}]}

    def kept(self):
        return {"stabilize": self.stabilize}

    def project(self):
        for i, M in enumerate(self.points):
            if M is not None:
                self.params[i].copy_(M.projx(self.params[i]))
                self.m[i] = M.proju(self.params[i], self.m[i])


class OldGeoopt(Loop):
    """Until 0.3.1: the group's count goes up before and after each bias correction, and eps is added to the uncorrected root."""

    beside = (("step", 0),)

    def step(self, grads):
        b1, b2 = self.betas
        for i, (p, g, M) in enumerate(zip(self.params, grads, self.points)):
            M = M or FLAT
            r = M.egrad2rgrad(p, g + self.decay * p)
            v = self.moments(i, r, M.component_inner(p, r))
            self.count += 1
            size = self.lr * (1 - b2**self.count) ** 0.5 / (1 - b1**self.count)
            new, self.m[i] = M.retr_transp(p, -size * self.m[i] / (v.sqrt() + self.eps), self.m[i])
            p.copy_(new)
            self.count += 1
        if self.stabilize is not None and self.count % self.stabilize == 0:
            self.project()


class MiddleGeoopt(Loop):
    """0.4.1 and 0.5.0: the group counts once an update, eps beside the corrected root."""

    decoupled = False

    def step(self, grads):
        b1, b2 = self.betas
        self.count += 1
        for i, (p, g, M) in enumerate(zip(self.params, grads, self.points)):
            apart = self.decoupled and M is None
            M = M or FLAT
            r = M.egrad2rgrad(p, g if apart else g + self.decay * p)
            v = self.moments(i, r, M.component_inner(p, r))
            d = self.m[i] / (1 - b1**self.count) / ((v / (1 - b2**self.count)).sqrt() + self.eps)
            new, self.m[i] = M.retr_transp(p, -self.lr * (d + self.decay * p if apart else d), self.m[i])
            p.copy_(new)
        if self.stabilize is not None and self.count % self.stabilize == 0:
            self.project()


class Hybonet(MiddleGeoopt):
    """fully-hyperbolic-nn: flat parameters decay outside of their moments; a 0 beside each parameter."""

    decoupled = True
    beside = (("step", 0),)


class HGCN(Loop):
    """HazyResearch/hgcn: counts as geoopt until 0.3.1, second moments by rows, geodesic steps on balls, no stabilisation."""

    beside = (("step", 0),)

    def kept(self):
        return {}

    def step(self, grads):
        b1, b2 = self.betas
        for i, (p, g, M) in enumerate(zip(self.params, grads, self.points)):
            c = None if M is None else float(M.c)
            g = g + self.decay * p
            r = g if c is None else g / factor(p, c) ** 2
            rows = (r * r).sum(-1, keepdim=True) if r.dim() else r * r
            v = self.moments(i, r, rows.expand_as(p) if c is None else factor(p, c) ** 2 * rows)
            t = self.count + 1
            u = -self.lr * (1 - b2**t) ** 0.5 / (1 - b1**t) * self.m[i] / (v.sqrt() + self.eps)
            new = p + u if c is None else exp(p, u, c)
            self.m[i] = self.m[i] if c is None else transport(p, new, self.m[i], c)
            p.copy_(new)
            self.count += 2


class MuRP:
    """multirelational-poincare: gradient descent along geodesics of the ball of curvature -1."""

    def __init__(self, params, points, lr=0.03):
        self.params, self.points, self.lr = params, points, lr

    def step(self, grads):
        for p, g, M in zip(self.params, grads, self.points):
            p.copy_(p - self.lr * g if M is None else exp(p, -self.lr * g / factor(p, 1.0) ** 2, 1.0))

    def state_dict(self):
        return {"state": {}, "param_groups": [{"lr": self.lr, "params": list(range(len(self.params)))}]}


class PoincareEmbeddings(MuRP):
    """poincare-embeddings: x + u on the ball; cosh(t) x + sinh(t) u/|u|, t = min(|u|, 1), on the hyperboloid x0^2 = 1 + |xs|^2."""

    sparse = False

    def step(self, grads):
        for p, g, M in zip(self.params, grads, self.points):
            if M is None:
                p.copy_(p - self.lr * g)
            elif isinstance(M, geoopt.PoincareBall):
                r = g / factor(p, 1.0) ** 2
                length = r.norm(dim=-1, keepdim=True)
                p.copy_(p - self.lr * (torch.where(length > 5, 5 / length, 1) * r if self.sparse else r))
            else:
                flip = torch.ones(p.shape[-1], dtype=p.dtype)
                flip[0] = -1
                u = -self.lr * (flip * g + (flip * p * flip * g).sum(-1, keepdim=True) * p)
                length = (flip * u * u).sum(-1, keepdim=True).sqrt()
                t = length.clamp(max=1)
                p.copy_(torch.cosh(t) * p + torch.sinh(t) * u / length)

    def state_dict(self):
        state = super().state_dict()
        state["param_groups"][0] |= {"rgrad": None, "expm": None}
        return state


def tensors(rng: np.random.Generator, manifold, shapes):
    """Five points of the manifold of three coordinates (on the hyperboloid time before them), and flat tensors of these shapes."""
    points = torch.tensor(0.5 * rng.normal(size=(5, 3)) / np.sqrt(3))
    if isinstance(manifold, geoopt.PoincareBall):
        points = 0.8 * points / manifold.c**0.5
    else:
        points = torch.cat([(manifold.k + (points * points).sum(-1, keepdim=True)).sqrt(), points], -1)
    return [points, *(torch.tensor(rng.normal(size=shape)) for shape in shapes)]
