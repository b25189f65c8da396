"""A figure: how far each row came, as bars.

figure: {kind: my_package.ends}
"""

from collections.abc import Sequence

from matplotlib.figure import Figure

from nos_repro.experiments.selection import Outcome
from nos_repro.report.figures.base import FIGURES, StudyFigure


@FIGURES.register("ends")
class Ends(StudyFigure):
    """A bar for each row: the mean of its final test values."""

    def draw(self, canvas: Figure, rows: Sequence[Outcome]) -> None:
        axes = canvas.add_subplot()
        for outcome in rows:
            ends = [r.column("final_test") for r in outcome.counting if r.status == "finished"]
            if ends:
                axes.barh(outcome.name, sum(ends) / len(ends))
        axes.set_xlabel("final test value")

    def caption(self, rows: Sequence[Outcome]) -> str:
        return "The mean final test value of each row."
