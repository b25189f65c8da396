"""When a search is over: its draws or its children are used up, whichever comes first."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from nos_repro.search.state import Tally


class Budget(NamedTuple):
    """samples: strings to draw; children: different rules to train in full, 0 for any number.

    A rule that is refused, known, or stopped by the cascade costs no child.
    """

    samples: int
    children: int = 0

    def over(self, tally: Tally) -> bool:
        """Whether nothing more is expected of the search."""
        trained = 0 < self.children <= tally.children
        return tally.settled >= self.samples or (trained and tally.settled >= tally.sampled)

    def left(self, drawn: int, children: int) -> bool:
        """Whether another string may be drawn after so many; children: those under way too."""
        return drawn < self.samples and (not self.children or children < self.children)

    def share(self, tally: Tally) -> float:
        """How much of it is used up, from 0 to 1."""
        trained = tally.children / self.children if self.children else 0.0
        return min(1.0, max(tally.settled / self.samples, trained))

    def words(self, tally: Tally) -> str:
        """`812/1,000 draws`, and the children where they are counted."""
        draws = f"{tally.evaluated:,}/{self.samples:,} draws"
        return f"{draws}, {tally.children:,}/{self.children:,} children" if self.children else draws

    @property
    def asked(self) -> str:
        """`1,000 draws`, and the most children where they are counted."""
        draws = f"{self.samples:,} draws"
        return f"{draws} or {self.children:,} children" if self.children else draws

    @property
    def most_children(self) -> int:
        """As many children at most."""
        return min(self.samples, self.children or self.samples)
