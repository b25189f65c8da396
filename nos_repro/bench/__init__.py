"""The repository's own benchmarks: ratios measured in one process, checked against budgets.

There is one file per benchmark, which registers itself; run your own with
`bench my_package.my_benchmark`.
"""

from nos_repro.bench.runner import BENCHMARKS, Measurement, Ratio, interleave, run_benchmarks

__all__ = [
    "BENCHMARKS",
    "Measurement",
    "Ratio",
    "interleave",
    "run_benchmarks",
]
