"""Trials as runs of Weights & Biases. Tables are still made from the records on disk."""
