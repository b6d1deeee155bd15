"""Closed forms in mpmath at 50 digits and more: who is right where torch and JAX differ."""
