"""The contract of a study's figure. One file per kind, which registers itself:

    from nos_repro.report.figures.base import FIGURES, StudyFigure

    @FIGURES.register("ends")
    class Ends(StudyFigure):
        def draw(self, canvas, rows): ...
        def caption(self, rows): ...

A study names it by `figure: {kind: ends}`, or `figure: {kind: my_package.my_figure}` where the
module is its own; the rest of that section are the kind's ``Settings``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from nos_repro.errors import ConfigError
from nos_repro.experiments.schema import Study
from nos_repro.experiments.selection import Outcome
from nos_repro.experiments.settings_file import structured
from nos_repro.registry import Registry, require_methods
from nos_repro.report.provenance import origin
from nos_repro.report.study import protocol
from nos_repro.report.words import headline

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from nos_repro.report.pages.charts import Chart, Line

DEFAULT_KIND = "curves"


@dataclass(frozen=True)
class FigureSettings:
    """The section `figure` of a study; a kind with options of its own extends it."""

    kind: str = DEFAULT_KIND
    """The kind of figure."""
    rows: list[str] = field(default_factory=list)
    """The rows that the paper's own figure shows (default: all)."""


class StudyFigure(ABC):
    """A kind of figure, for one study. ``rows`` are always those to be drawn, in their order."""

    Settings: ClassVar[type[FigureSettings]] = FigureSettings
    heading: ClassVar[str] = ""
    """The heading of a section of its own on the page. "" for a figure that shows the same as the
    page's curves: it is then folded away below them."""

    def __init__(self, study: Study, settings: FigureSettings) -> None:
        self.study = study
        self.settings = settings

    @property
    def metric(self) -> str:
        """The recorded metric that the page's curves begin with; "" for the task's own."""
        return ""

    def size(self, rows: Sequence[Outcome]) -> tuple[float, float]:
        """Width and height in inches."""
        return 9.6, 5.4

    @abstractmethod
    def draw(self, canvas: Figure, rows: Sequence[Outcome]) -> None:
        """Draws on an empty matplotlib figure; title, caption and provenance are added to it."""

    @abstractmethod
    def caption(self, rows: Sequence[Outcome]) -> str:
        """What is drawn, in a sentence or two."""

    def texts(self, rows: Sequence[Outcome]) -> list[str]:
        """Texts of the drawing that change with the records, each as it is drawn: a committed
        figure that has them all, and the provenance of these records, is not drawn again."""
        return [outcome.name for outcome in rows]

    def chart(self, rows: Sequence[Outcome], lines: Sequence[Line]) -> Chart | None:
        """An interactive form for the page, if it has one; ``lines`` are the rows' colours."""
        return None


def _is_kind(thing: object) -> bool:
    return isinstance(thing, type) and issubclass(thing, StudyFigure) and thing is not StudyFigure


def _check_kind(name: str, kind: type[StudyFigure]) -> None:
    if not _is_kind(kind):
        raise ConfigError(f"figure {name}: expected a subclass of StudyFigure, got {kind!r}")
    require_methods(f"figure {name}", kind, StudyFigure)


FIGURES: Registry[type[StudyFigure]] = Registry(
    "figure",
    "nos_repro.report.figures",
    check=_check_kind,
    recognise=_is_kind,
    key="figure.kind",
)


def figure_of(study: Study) -> StudyFigure | None:
    """The figure that the study declares; None where it declares none.

    Raises ConfigError where its kind is unknown or refuses its section.
    """
    if study.figure is None:
        return None
    kind = FIGURES.find(study.figure.get("kind", DEFAULT_KIND))
    return kind(study, structured(kind.Settings, study.figure, "figure"))


def drawn(study: Study, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The rows that the study's figure shows."""
    asked = set((study.figure or {}).get("rows", ()))
    return [outcome for outcome in outcomes if not asked or outcome.name in asked]


def draw(study: Study, outcomes: Sequence[Outcome]) -> Figure | None:
    """The study's figure, with study, source and scale above it; below, its caption and where its
    numbers come from. None where it declares none."""
    from nos_repro.report.drawing import canvas, finished

    figure = figure_of(study)
    if figure is None:
        return None
    rows = drawn(study, outcomes)
    drawing = canvas(*figure.size(rows))
    figure.draw(drawing, rows)
    own = protocol.settings_of(study)
    label = "the paper's protocol" if protocol.is_the_papers(study) else "not the paper's protocol"
    what = f"{protocol.short(own)} ({label})"
    title = headline(study.study, study.source, study.scale, what)
    return finished(drawing, title, [figure.caption(rows), *origin(study, rows)])
