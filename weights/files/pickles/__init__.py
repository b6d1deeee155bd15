"""Pickles as data: a machine that calls nothing of the file, the list of what it knows, and the way back."""
