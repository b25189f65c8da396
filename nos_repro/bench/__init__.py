"""The repository's own benchmarks: ratios within one process, against the budgets they must keep.

One file a benchmark; `run_benchmarks` finds every module of this package by itself.
"""

from nos_repro.bench.runner import (
    Measurement,
    Ratio,
    interleave,
    list_benchmarks,
    register_benchmark,
    run_benchmarks,
)

__all__ = [
    "Measurement",
    "Ratio",
    "interleave",
    "list_benchmarks",
    "register_benchmark",
    "run_benchmarks",
]
