"""Between torch's keys and flax's variables, both ways: rules, architectures, settings, curvatures, manifolds."""
