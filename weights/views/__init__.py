"""What is made to be looked at: tables of a file's contents, node embeddings as files, pictures of the Poincare disk."""

__all__: list[str] = []  # the modules are imported by name, and each says what it offers
