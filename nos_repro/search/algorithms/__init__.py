"""How a search chooses its strings and learns: one file per algorithm, which registers itself."""

from nos_repro.search.algorithms.base import ALGORITHMS, Algorithm, Proposal

__all__ = ["ALGORITHMS", "Algorithm", "Proposal"]
