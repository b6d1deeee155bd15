"""Between torch's keys and flax's variables, both ways: rules, architectures, settings, curvatures, manifolds."""

__all__: list[str] = []  # the modules are imported by name, and each says what it offers
