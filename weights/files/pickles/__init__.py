"""Pickles as data: a machine that calls nothing of the file, the list of the names that it knows, and a pickler."""

__all__ = ["allowed", "bounds", "machine", "opcodes", "pickler", "standins", "unpickler"]
