"""How the controller learns: one file per algorithm, which registers itself."""

from nos_repro.search.algorithms.base import ALGORITHMS, Algorithm, Batch

__all__ = ["ALGORITHMS", "Algorithm", "Batch"]
