"""Which search algorithm needs fewer samples: the table and figure of `search.efficiency`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from nos_repro.experiments.files import write_atomically
from nos_repro.report.layout import Cell, Column, ReportTable, escape_markdown
from nos_repro.report.search.fewer_samples import NAMES, compare_samples
from nos_repro.report.study.curve import COLOURS
from nos_repro.search.efficiency.runs import (
    BATCH,
    BLOCK,
    CAP,
    PAPER_RATE,
    PAPER_SEEDS,
    PROTOCOL,
    SEEDS,
    SHARE,
    STEPS,
    TUNING_SEEDS,
    WINDOW,
    RunRecord,
    needed,
    of,
    read_records,
    records_file,
)

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

COMPARED = (("ppo", "reinforce"), ("trpo", "reinforce"), ("ppo", "trpo"))
TITLE = "Samples until a known best rule is written (002 sec. 3.2, 000 sec. 3.2)"


def files(records: Sequence[RunRecord]) -> dict[str, bytes]:
    """`table.md`, `figure.png` and `figure.svg`."""
    from nos_repro.report.drawing import encode

    lines = [table(records).markdown(), "", *(f"- {escape_markdown(x)}" for x in origin(records))]
    figure = draw(records)
    return {
        "table.md": ("\n".join(lines) + "\n").encode(),
        "figure.png": encode(figure, "png"),
        "figure.svg": encode(figure, "svg"),
    }


def write_efficiency(results: Path) -> list[Path]:
    """Writes table and figure beside the records that there are; returns the paths."""
    path = records_file(results)
    if not path.exists():
        return []
    written = files(read_records(path))
    for name, data in written.items():
        write_atomically(path.with_name(name), data)
    return [path.with_name(name) for name in written]


def table(records: Sequence[RunRecord]) -> ReportTable:
    """One row per algorithm; the verdicts above, the protocol below."""
    titles = (
        "algorithm",
        "step size (tried)",
        f"reached {SHARE:.0%}",
        "samples: median [least, most]",
        f"mean reward of the last {WINDOW}",
        "processor seconds per 1,000 samples",
    )
    rows = [_row(NAMES[name], of(records, part="final", algorithm=name)) for name in NAMES]
    rows += [
        _row(f"{NAMES[name]} at the paper's rate", of(records, part="paper", algorithm=name))
        for name in ("ppo", "reinforce")
    ]
    verdicts = [f"{compare_samples(records, *pair)}." for pair in COMPARED]
    return ReportTable([TITLE, *verdicts], list(map(Column, titles)), rows, list(_notes(records)))


def _row(name: str, runs: Sequence[RunRecord]) -> list[Cell]:
    counts = [needed(run) for run in runs]
    reached = sum(run["needed"] is not None for run in runs)
    spread = f"{_count(median(counts))} [{_count(min(counts))}, {_count(max(counts))}]"
    seconds = [1000 * run["seconds"] / needed(run) for run in runs]
    cells = (
        name,
        _step(runs[0]),
        f"{reached} of {len(runs)}",
        spread,
        f"{fmean(run['last'] for run in runs):.3f}",
        f"{median(seconds):.1f}",
    )
    return list(map(Cell, cells))


def _count(samples: float) -> str:
    return f"over {CAP:,}" if samples >= CAP else f"{samples:,.0f}"


def _step(run: RunRecord) -> str:
    if run["step"] is None:
        return "-"
    key, steps = STEPS[run["algorithm"]]
    tried = " ".join(f"{step:g}" for step in steps)
    return f"{key} {run['step']:g}" + (f" ({tried})" if run["part"] == "final" else "")


def _notes(records: Sequence[RunRecord]) -> Iterator[str]:
    yield (
        f"A run ends at the first batch of {BATCH} after which the mean reward of the last {WINDOW}"
        f" samples is at least {SHARE:g} of the optimum, or at {CAP:,} samples: it is censored, and"
        " counts as that many."
    )
    yield (
        f"Space: {PROTOCOL['space']:,} strings of 2 iterations. Reward: looked up by the rule's"
        " normal form, nothing is trained; 1 for PowerSign, at most 0.75 for any other rule. It was"
        " made gentle enough for learners to arrive (see search/efficiency/task.py)."
    )
    yield (
        f"Each step size is the best of {len(STEPS['ppo'][1])} on {len(TUNING_SEEDS)} tuning seeds;"
        f" the rows are {len(SEEDS)} other seeds. Hidden 150, batch 5 and entropy 0.0015 are the"
        " paper's; the baseline's decay, 0.95, and what else an algorithm takes are our defaults."
    )
    yield (
        "Times as many: the geometric mean over the pairs of runs with one seed; p is the exact"
        " two-sided sign-flip test's. The ratio of medians has its 95 % bootstrap interval over the"
        " pairs; it is 1.00 where neither side's median run arrived."
    )
    yield (
        f"The paper's rate, {PAPER_RATE:g}, ran on {len(PAPER_SEEDS)} seeds; it is no part of the"
        " comparison."
    )
    for name, (key, steps) in STEPS.items():
        chosen = of(records, part="final", algorithm=name)[0]["step"]
        if chosen in (steps[0], steps[-1]):
            yield f"Warning: {NAMES[name]}'s {key} {chosen:g} is at the edge of its grid."


def origin(records: Sequence[RunRecord]) -> list[str]:
    """Where the numbers come from, and what they cost."""
    versions = {
        f"{name} {version}"
        for record in records
        for name, version in record["provenance"]["libraries"].items()
    }
    hours = sum(record["seconds"] for record in records) / 3600
    return [
        f"{len(records)} runs, {hours:.2f} processor hours.",
        f"Commit {_said(records, 'commit')}; {', '.join(sorted(versions))}; Python"
        f" {_said(records, 'python')}.",
        f"Hardware: {_said(records, 'device')}; threads: {_said(records, 'threads')}.",
    ]


def _said(records: Sequence[RunRecord], key: str) -> str:
    return ", ".join(sorted({str(record["provenance"][key]) for record in records}))


def draw(records: Sequence[RunRecord]) -> Figure:
    """Left the learning curves; right the samples needed, one dot per seed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.5, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    for place, name in enumerate(NAMES):
        runs = of(records, part="final", algorithm=name)
        _curve(left, runs, NAMES[name], COLOURS[place])
        _dots(right, runs, place, COLOURS[place])
    left.axhline(SHARE, color="0.6", linewidth=0.8, linestyle=(0, (5, 3)))
    left.set(xlabel="samples", ylabel="mean reward", xlim=(0, CAP), ylim=(0, 1.02))
    left.legend(frameon=False, fontsize=9, loc="lower right", bbox_to_anchor=(1, 0.13))
    right.axhline(CAP, color="0.6", linewidth=0.8, linestyle=(0, (5, 3)))
    right.set(ylabel=f"samples to {SHARE:.0%} of the optimum", ylim=(0, 1.06 * CAP))
    right.set_xticks(range(len(NAMES)), [name.removesuffix(" search") for name in NAMES.values()])
    for axes in (left, right):
        axes.grid(alpha=0.25, linewidth=0.6)
    figure.suptitle(f"{TITLE}, {len(SEEDS)} seeds", fontsize=11)
    words = [
        "Left: mean over the seeds and one standard deviation; a run that has arrived keeps its"
        f" last {WINDOW} samples' mean. Right: bars are medians; hollow dots did not arrive.",
        *origin(records),
    ]
    figure.supxlabel("\n".join(words), fontsize=6, color="0.35")
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


def held(run: RunRecord) -> NDArray[np.float64]:
    """A run's curve up to the cap."""
    import numpy as np

    blocks = CAP // BLOCK
    return np.array([*run["curve"], *[run["last"]] * (blocks - len(run["curve"]))])


def _curve(axes: Axes, runs: Sequence[RunRecord], name: str, colour: str) -> None:
    import numpy as np

    values = np.array([held(run) for run in runs])
    samples = BLOCK * np.arange(1, values.shape[1] + 1)
    mean, std = values.mean(axis=0), values.std(axis=0, ddof=1)
    axes.plot(samples, mean, color=colour, linewidth=1.6, label=name)
    axes.fill_between(samples, mean - std, mean + std, color=colour, alpha=0.15, linewidth=0)


def _dots(axes: Axes, runs: Sequence[RunRecord], place: int, colour: str) -> None:
    for number, run in enumerate(runs):
        aside = place + 0.05 * (number - (len(runs) - 1) / 2)
        face: Any = colour if run["needed"] is not None else "none"
        axes.plot(aside, needed(run), "o", color=colour, markerfacecolor=face, markersize=5)
    middle = median(map(needed, runs))
    axes.plot([place - 0.32, place + 0.32], [middle, middle], color=colour, linewidth=2)
