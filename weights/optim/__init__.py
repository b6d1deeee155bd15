"""The optimizer of a file across, both ways: `engine.load`, `engine.build` and `engine.save`.

The pipeline is `port_jax.optim.from_torch`, whose words are used here. What a file adds is here: keys for indices (`names`), layouts of
tensors (`layouts`), forms of numbers (`forms`), how far its scheduler has come (`file_scheduler`), and the plan that a folder stores
(`plan`).
"""
