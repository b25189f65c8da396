"""The kinds of tests that a list of claims may name."""
