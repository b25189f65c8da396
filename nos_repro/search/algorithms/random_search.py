"""No learning at all: strings from the controller's initial, nearly uniform policy.

Every algorithm has to beat this. The baseline still moves, so that progress looks the same.
"""

from __future__ import annotations

from nos_repro.search.algorithms.base import ALGORITHMS, Algorithm, Batch, mean_entropy


@ALGORITHMS.register("random")
class RandomSearch(Algorithm):
    """Leaves the controller as it is."""

    def update(self, batch: Batch) -> dict[str, float]:
        import torch

        self.baseline.advantages(batch.rewards)
        with torch.no_grad():
            return {"entropy": float(mean_entropy(self.controller.score(batch.tokens)))}
