"""Riemannian SGD on the rows of a table: geoopt's class, which `port_jax.optim.sparse_riemannian_sgd` takes its numbers from.

For each table in turn, with its manifold M and the rows that the sparse gradient names (each once, repeated rows summed):

    b = g                                               the whole table at its first gradient, with 0 in the rows not named
    r = M.egrad2rgrad(p, g)                             p, g, b: from here on of the named rows alone
    b = momentum b + (1 - dampening) r
    d = r + momentum b with nesterov, else b
    p, b = M.retr_transp(p, -lr d, b)

and p = M.retr(p, -lr r) without momentum. A row that the first batch does not name therefore begins its momentum with 0, the others with
their Euclidean gradient, as in the dense class. The buffer of a row that is not named stays as it is. There is no weight decay.
Stabilising, counted by the steps of the group, projects the whole table.

Bonnabel (IEEE TAC 2013) has neither momentum nor a sparse form.
"""

from geoopt.optim import SparseRiemannianSGD

__all__ = ["SparseRiemannianSGD"]
