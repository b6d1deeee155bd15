"""Torch beside JAX on one checkpoint. The only folder of the converter that imports torch, and only when called."""

__all__ = ["diff", "inputs", "sides", "torch_steps", "trees", "verify"]
