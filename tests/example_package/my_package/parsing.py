"""A benchmark: `python -m nos_repro bench my_package.parsing`."""

from collections.abc import Iterator

from nos_repro.bench import BENCHMARKS, Measurement, Ratio, interleave
from nos_repro.rules.rule import Rule


@BENCHMARKS.register("parsing")
def parsing() -> Iterator[Measurement]:
    """A long rule against a short one."""
    times = interleave(
        {
            "long": lambda: Rule.parse("exp(sign(g) * sign(m)) * g + 0.001 * w"),
            "short": lambda: Rule.parse("g"),
        },
        rounds=5,
    )
    yield Measurement("long rule over short", Ratio.between(times, "long", "short"))
