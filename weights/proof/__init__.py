"""Torch beside JAX on one checkpoint. The only folder of the converter that imports torch, and only when called."""

__all__: list[str] = []  # the modules are imported by name, and each says what it offers
