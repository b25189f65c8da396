"""The repository's own benchmarks: ratios within one process, against the budgets they must keep.

One file per benchmark, which registers itself; yours is `bench my_package.my_benchmark`.
"""

from nos_repro.bench.runner import BENCHMARKS, Measurement, Ratio, interleave, run_benchmarks

__all__ = [
    "BENCHMARKS",
    "Measurement",
    "Ratio",
    "interleave",
    "run_benchmarks",
]
