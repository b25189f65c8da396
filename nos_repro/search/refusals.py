"""Why a rule is not trained at all, and which of these reasons a search goes by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Reason = Literal["constant", "gradient-free", "no descent"]

# fmt: off
REASONS: dict[Reason, str] = {
    "constant":      "the update is the same for every weight and step",
    "gradient-free": "the update does not depend on the gradient",
    "no descent":    "on no probe did the update ever point downhill",
}
# fmt: on


@dataclass(frozen=True)
class Refusals:
    """Which findings keep a rule from being trained; each can be switched off."""

    constant: bool = True
    """Refuse a rule whose update is the same for every weight and step."""
    gradient_free: bool = True
    """Refuse a rule that does not depend on the gradient."""
    no_descent: bool = True
    """Refuse a rule whose update never pointed downhill on the five probes."""

    def refuse(self, reason: Reason | None) -> bool:
        return reason is not None and bool(
            getattr(self, reason.replace(" ", "_").replace("-", "_"))
        )
