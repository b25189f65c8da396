"""A kind of test that decides claims is one file: it registers itself, here or outside."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nos_repro.errors import ConfigError
from nos_repro.report.claims.evidence import Effect
from nos_repro.report.claims.kinds.base import CLAIM_TESTS
from nos_repro.report.claims.kinds.search import closest
from nos_repro.report.claims.listed import beyond, claims, read_claim
from nos_repro.report.claims.results import Results
from tests.report.claims.test_own_claims import CLAIM, Own


def test_the_closest_opponent_is_one_without_missing_runs() -> None:
    """An opponent that failed on some seeds may look close, or far, on the few that are left."""
    nan = float("nan")
    whole = [Effect("a", 1.9, 1, 3, 5, "points"), Effect("b", 2.5, 1, 4, 5, "points")]
    broken = Effect("c (0 and 3 runs without a result)", 0.4, nan, nan, 2, "points")
    assert closest([broken, *whole]).what == "a"


FINISHES = '''
"""Whether every row of a study has a number."""

from dataclasses import dataclass

from nos_repro.report.claims.evidence import Effect, Finding, single
from nos_repro.report.claims.kinds.base import CLAIM_TESTS, ClaimTest


@CLAIM_TESTS.register("finishes")
@dataclass(frozen=True)
class Finishes(ClaimTest):
    study: str
    least: int = 1

    @property
    def source(self):
        return self.study

    def judge(self, found, scale):
        _, rows = found.study(self.study, scale)
        done = sum(row.number("best_test") is not None for row in rows.values())
        nan = float("nan")
        effect = Effect("rows with a number", done, nan, nan, 1, "rows",
                        float(done < self.least), float(done >= self.least))
        return Finding(scale, single(effect).verdict, f"{done} rows have a number", [effect])
'''


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module outside the suite that registers a claim test."""
    folder = tmp_path / "judges"
    folder.mkdir()
    (folder / "finishes.py").write_text(FINISHES)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(CLAIM_TESTS, "_entries", dict(CLAIM_TESTS._entries))
    yield "judges.finishes"
    for name in ("judges.finishes", "judges"):
        sys.modules.pop(name, None)


def test_a_claim_may_be_decided_by_a_test_from_outside(
    outside: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = Own(tmp_path)
    for least, verdict in ((2, "HOLDS"), (99, "DOES NOT HOLD")):
        own.write({**CLAIM, "test": {"kind": outside, "study": "tiny", "least": least}})
        assert own.judge() == 0
        printed = capsys.readouterr().out
        assert verdict in printed
        assert "rows have a number" in printed
    own.write({**CLAIM, "test": {"kind": outside, "study": "tinny"}})
    assert own.judge() == 2
    assert "did you mean 'tiny'" in capsys.readouterr().err
    own.write({**CLAIM, "test": {"kind": outside, "study": "tiny", "leest": 3}})
    assert own.judge() == 2
    assert "did you mean 'least'" in capsys.readouterr().err


def test_a_test_without_its_contract_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "half_a_test").mkdir()
    (tmp_path / "half_a_test" / "judge.py").write_text(
        "from dataclasses import dataclass\n"
        "from nos_repro.report.claims.kinds.base import ClaimTest\n"
        "@dataclass(frozen=True)\n"
        "class Half(ClaimTest):\n"
        "    study: str\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    entry = {**CLAIM, "test": {"kind": "half_a_test.judge", "study": "tiny"}}
    with pytest.raises(ConfigError, match=r"claim better: .*lacks judge\(self, found: Results"):
        read_claim(entry)


def test_an_unknown_kind_shows_the_nearest_and_the_choice() -> None:
    for kind, words in (("row", "did you mean 'rows'"), ("no.such", "no Python module 'no.such'")):
        with pytest.raises(ConfigError, match=f"claim better: .*\n?.*{words}"):
            read_claim({**CLAIM, "test": {"kind": kind}})


@pytest.mark.parametrize("name", CLAIM_TESTS.names())
def test_every_kind_that_ships_decides_a_claim_that_ships(name: str, tmp_path: Path) -> None:
    kind = CLAIM_TESTS.find(name)
    assert kind.__doc__
    shipped = (*claims(), *beyond())
    tests = [claim.test for claim in shipped if isinstance(claim.test, kind)]
    assert tests
    for test in tests:
        assert test.source in (*Results(tmp_path).files, "")
