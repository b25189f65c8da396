"""How far a row came in a study that halves its rows, in a few words."""

from __future__ import annotations

from nos_repro.experiments.selection import Outcome


def how_far(outcome: Outcome) -> str:
    """`stopped at epoch 10 (rank 9 of 12)`, `going on to epoch 30 (rank 2 of 12)`, `to the end
    (rank 1 of 3)`: the rank is that of the last rung. "" where the study has no `halving`."""
    standing = outcome.standing
    if standing is None:
        return ""
    if standing.place is None:
        begun = sum(scored.leg is None for scored in outcome.sweep)
        return f"{begun}/{len(outcome.sweep)} at epoch {standing.until}" if begun else "not run yet"
    record = outcome.chosen.record if outcome.chosen is not None else None
    if outcome.chosen is None:
        kinds = {scored.record.status for scored in outcome.sweep if scored.record is not None}
        return " or ".join(sorted(kinds))
    if record is None:
        return f"going on to epoch {standing.until} ({standing.place})"
    if record.status == "stopped":
        return f"stopped at epoch {standing.place.rung} ({standing.place})"
    if record.status == "finished":
        return f"to the end ({standing.place})"
    return f"{record.status} after epoch {record.epoch:g} ({standing.place})"
