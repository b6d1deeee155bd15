"""The table of each optimizer, one file each. A new one is a file and a line here; the first that recognises a state takes it."""

from weights.optim.adam import ADAM, ADAMW
from weights.optim.riemannian_adam import RIEMANNIAN_ADAM
from weights.optim.riemannian_sgd import RIEMANNIAN_SGD
from weights.optim.sgd import SGD
from weights.optim.table import OptimizerTable

OPTIMIZERS: dict[str, OptimizerTable] = {
    table.name: table for table in (RIEMANNIAN_ADAM, RIEMANNIAN_SGD, ADAM, ADAMW, SGD)
}
