"""What is made to be looked at: tables of a file's contents, node embeddings as files, pictures of the Poincare disk."""

__all__ = ["disk_picture", "embed", "embed_formats", "inspect"]
