"""What people look at: tables of a file's contents, node embeddings as files, pictures of the Poincare disk."""
