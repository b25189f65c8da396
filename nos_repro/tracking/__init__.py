"""Trials as runs of Weights & Biases. The records on disk stay what tables are made of."""
