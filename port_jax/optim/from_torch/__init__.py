"""torch's optimizers and schedulers, live or from a file, in both directions: one pipeline, one table of kinds.

The pipeline, and the file of each of its steps:

    section      torch's state by paths: the groups' settings, their parameters, the state of each          `sections`
    recognise    which kind wrote it: by the settings, and where these leave a choice, by the numbers       `recognition`
    count        which dialect it is in, and the counts that it contains                                     `dialects`
    translate    settings, counts and scheduler become groups of one transformation                         `translation`
                 that moves points as geoopt does, its defects included                                     `defects`
    resume       the transformation and its state, with torch's numbers                                     `translation`, `numbers`
    write back   the same section after more updates                                                        `back`

`from_torch` and `to_torch` take live dictionaries through it, by index and name; `weights.optim` takes files through it, and adds
what only files have: keys, layouts, tensors as they are stored, and the report.

Terms, each with one meaning here and in `weights.optim`:

    kind         a row of the table `kinds.KINDS`: one optimizer class of torch, geoopt or a repository, with all that distinguishes it
    dialect      how a version of that class counts its steps, and where in the state the count is
    section      torch's state of one optimizer, with the paths of parameters in place of indices
    translation  the groups of a section as parts of one optax transformation
    plan         a translation as a converted file stores it (`weights.optim.plan`)
"""

from port_jax.optim.from_torch.groups import GroupsState
from port_jax.optim.from_torch.live import from_torch, to_torch

__all__ = ["GroupsState", "from_torch", "to_torch"]
