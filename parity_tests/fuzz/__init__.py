"""What files and machines may do to the converter and to runs, drawn at random: `python -m parity_tests.fuzz`."""
