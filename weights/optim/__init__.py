"""A file's optimizer in JAX and back: `engine.load`, `engine.build` and `engine.save`.

The pipeline is `port_jax.optim.from_torch`, and its terms are used here. This package adds what only a file needs: keys for indices
(`names`), layouts of tensors (`layouts`), forms of numbers (`forms`), the progress of the scheduler (`file_scheduler`), and the plan that a
folder stores (`plan`).
"""

__all__: list[str] = []  # the modules are imported by name, and each says what it offers
