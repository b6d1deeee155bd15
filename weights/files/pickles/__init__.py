"""Pickles as data: a machine that calls nothing of the file, the list of the names that it knows, and a pickler."""

__all__: list[str] = []  # the modules are imported by name, and each says what it offers
