"""Optimizer state across, both ways: `resume` brings together what is said of it, `engine` loads, builds and saves it."""
