"""The page of `make parity`: every pair of the suite, compared anew in one pass, with accuracy and differences from the documents."""
