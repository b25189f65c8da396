"""One of today's general optimizers: Optuna's tree-structured Parzen estimator (Bergstra et al.
2011). It needs the extra `optuna`.

Every position of the string is a categorical parameter, and all are drawn from one joint model, as
is Optuna's default. A drawn string that the space forbids is drawn again.

*Departures from Optuna's own loop*: the study is rebuilt from the search's log, and the draw of a
sample is seeded by its number, so that a search can be resumed; a rule that is known, waits for its
reward or is refused is drawn again instead of being evaluated again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from nos_repro.rules.space import Space
from nos_repro.search.algorithms.base import (
    ALGORITHMS,
    AlgorithmSettings,
    ControllerSettings,
    Proposal,
    require,
)
from nos_repro.search.algorithms.drawing import DrawingAlgorithm
from nos_repro.search.sample import Sample, mixed

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

STUDY = "search"


@dataclass(frozen=True)
class OptunaSettings(AlgorithmSettings):
    """Optuna's settings have Optuna's defaults."""

    startup: int = 10
    """Rules that are drawn at random before the first model."""
    candidates: int = 24
    """Strings that are drawn from the model of the good rules; the one that it makes likeliest,
    compared to the model of the other rules, is taken."""
    tries: int = 10
    """Draws to try, until one is a rule that is new and not refused; if all of them fail, as many
    uniform ones follow."""

    def __post_init__(self) -> None:
        for key in ("startup", "candidates", "tries"):
            require(getattr(self, key) >= 1, key, "at least 1", getattr(self, key))


@ALGORITHMS.register("optuna")
class Optuna(DrawingAlgorithm):
    """Writes strings with Optuna's TPE."""

    Settings: ClassVar[type[Any]] = OptunaSettings

    def __init__(
        self, space: Space, settings: Any, *, seed: int, controller: ControllerSettings
    ) -> None:
        from optuna.distributions import CategoricalDistribution

        super().__init__(space, settings, seed=seed, controller=controller)
        self._distributions: dict[str, BaseDistribution] = {
            str(position): CategoricalDistribution(space.choices(position))
            for position in range(space.length)
        }
        self._begin()

    def _begin(self) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.learned: list[tuple[list[str], float]] = []
        self._storage = optuna.storages.InMemoryStorage()
        self._study = optuna.create_study(
            storage=self._storage, study_name=STUDY, direction="maximize"
        )

    def propose(self, number: int, open: Mapping[int, Sample]) -> Proposal:
        return self.first_new(self._draws(number), open)

    def _draws(self, number: int) -> Iterator[list[str]]:
        """Nothing is asked of the study itself, for that would change it; and only a study that is
        loaded again sees what was added to it."""
        from optuna import load_study
        from optuna.samplers import TPESampler

        sampler = TPESampler(
            n_startup_trials=self.settings.startup,
            n_ei_candidates=self.settings.candidates,
            seed=mixed(self.seed, number) % 2**32,
            multivariate=True,
            constant_liar=False,  # open samples are passed over
        )
        study = load_study(study_name=STUDY, storage=self._storage, sampler=sampler)
        trial = self._trial(len(self.learned))
        for _ in range(self.settings.tries):
            drawn = sampler.sample_relative(study, trial, dict(self._distributions))
            tokens = [str(word) for word in drawn.values()]
            if tokens and self.space.contains(tokens):
                yield tokens
        source = self.source(number)
        for _ in range(self.settings.tries):
            yield self.space.sample(source)

    def _trial(self, number: int) -> FrozenTrial:
        """The next trial, about which nothing is known yet."""
        from optuna.trial import TrialState, create_trial

        trial = create_trial(state=TrialState.RUNNING)
        trial.number = number
        return trial

    def learn(self, sample: Sample, reward: float) -> dict[str, float] | None:
        self._add(sample.tokens, reward)
        return super().learn(sample, reward)

    def _add(self, tokens: list[str], reward: float) -> None:
        from optuna.trial import create_trial

        self.learned.append((tokens, reward))
        params = {str(position): word for position, word in enumerate(tokens)}
        self._study.add_trial(
            create_trial(params=params, distributions=self._distributions, value=reward)
        )

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "learned": self.learned}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._begin()
        for tokens, reward in state["learned"]:
            self._add(list(tokens), reward)
