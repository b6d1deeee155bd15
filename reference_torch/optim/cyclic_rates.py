"""Rates and momenta that go up and down: torch's schedulers, which `port_jax.optim.cyclic_rates` takes its numbers from.

OneCycleLR goes once from max_lr / div_factor to max_lr and down to its start / final_div_factor, and raises past total_steps. CyclicLR goes
up and down for ever. Both set the rate at construction, whatever the optimizer was given, and move the momentum (b1 of Adam) against the
rate unless `cycle_momentum` is False.
"""

from torch.optim.lr_scheduler import CyclicLR, OneCycleLR

__all__ = ["CyclicLR", "OneCycleLR"]
