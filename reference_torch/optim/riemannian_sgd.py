"""Riemannian SGD: geoopt's class, which `port_jax.optim.riemannian_sgd` takes its numbers from.

For each parameter p of a group in turn, with its manifold M (Euclidean space for an ordinary tensor) and its Euclidean gradient g:

    b = g                                               at the first gradient of p only, before weight decay and metric
    r = M.egrad2rgrad(p, g + weight_decay p)
    b = momentum b + (1 - dampening) r
    d = r + momentum b with nesterov, else b
    p, b = M.retr_transp(p, -lr d, b)

and p = M.retr(p, -lr r) without momentum. The order matters in three places:

- The buffer begins with the Euclidean gradient and takes r at the same step, so that the first step has d = momentum g + (1 - dampening) r.
  torch's SGD begins with the decayed gradient and does not add it a second time.
- Weight decay comes before the metric, so that the inverse metric weighs it as well.
- The group counts its steps, whether or not a parameter has a gradient. At each `stabilize`-th of them, after all parameters have moved,
  points go through `projx` and their buffers through `proju`.

Bonnabel (Stochastic gradient descent on Riemannian manifolds, IEEE TAC 2013) steps along the exponential or a retraction without momentum,
dampening or weight decay; these are geoopt's.
"""

from geoopt.optim import RiemannianSGD

__all__ = ["RiemannianSGD"]
