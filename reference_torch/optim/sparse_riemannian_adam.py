"""Riemannian Adam on the rows of a table: geoopt's class, which `port_jax.optim.sparse_riemannian_adam` takes its numbers from.

For each table in turn, with its manifold M, the rows that the sparse gradient names (each once, repeated rows summed), and t the number of
gradients that the table has had:

    r = M.egrad2rgrad(p, g)                             p, g, m, v: of these rows alone
    m = b1 m + (1 - b1) r
    v = b2 v + (1 - b2) M.component_inner(p, r)
    s = sqrt(v / (1 - b2^t))                            with amsgrad s = sqrt(max(s_old, v) / (1 - b2^t)), kept as max_exp_avg_sq
    p, m = M.retr_transp(p, -lr (m / (1 - b1^t)) / (s + eps), m)

It differs from the dense class in three ways:

- The moments of a row decay only at the steps that name the row, while t counts all steps of the table.
- With amsgrad the state keeps the corrected root s where the dense class keeps the largest v, and compares that root with the next v.
- It has no weight decay, and takes `stabilize` in a parameter group, not as an argument. Stabilising projects the whole table.

The paper of Riemannian Adam (Becigneul and Ganea, ICLR 2019) has no sparse form.
"""

from geoopt.optim import SparseRiemannianAdam

__all__ = ["SparseRiemannianAdam"]
