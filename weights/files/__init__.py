"""Reading and writing, without torch and without running anything of a file: what is on disk, and what it says is where."""

__all__: list[str] = []  # the modules are imported by name, and each says what it offers
