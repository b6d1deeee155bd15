"""A sample of the fuzz run; `make fuzz` does 10,000."""

from parity_tests.weights.files import fuzz


def test_mutated_files_are_read_or_refused():
    outcome = fuzz.main(300, seed=1, quiet=True)
    assert sum(outcome.values()) == 300
    assert outcome["Unreadable"] > 100
