"""How the controller learns. One file an algorithm; `find_algorithm` finds each by itself."""

from nos_repro.search.algorithms.base import (
    Algorithm,
    Batch,
    find_algorithm,
    list_algorithms,
    register_algorithm,
)

__all__ = ["Algorithm", "Batch", "find_algorithm", "list_algorithms", "register_algorithm"]
