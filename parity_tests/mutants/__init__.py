"""Known errors, by the subject that they are planted in, and the tests that have to see them; `__main__` plants and runs them."""
