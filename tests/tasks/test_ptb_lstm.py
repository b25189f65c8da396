"""The language model: its size, its path through the text, its state, its dropout, its metric."""

import dataclasses
import itertools
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from nos_repro.data.corpora import CORPORA, Lines, Texts
from nos_repro.errors import ConfigError, DataError
from nos_repro.experiments.trial import Training, Trial
from nos_repro.tasks import ptb_lstm
from nos_repro.tasks.facts.ptb_lstm import PtbLstmSettings
from nos_repro.tasks.ptb_lstm import CorpusData, PtbLstm, Segment
from nos_repro.tasks.recurrence import LstmState, plain
from tests.tasks.resuming import stopped_and_whole

TRAIN, VAL, TEST = 510, 90, 110
SMALL = {"data": "counting", "hidden": 12, "embedding": 6, "batch_size": 4, "time_steps": 5}
NO_DROPOUT = {"input_dropout": 0.0, "state_dropout": 0.0, "output_dropout": 0.0, "state_reset": 0.0}


@pytest.fixture(autouse=True)
def counting() -> None:
    """A corpus of 19 letters in lines of nine, every part in a different order."""

    def lines(tokens: int, stride: int) -> Lines:
        letters = "abcdefghijklmnopqrs"
        text = [letters[(stride * n) % len(letters)] for n in range(9 * tokens // 10)]
        return Lines([text[k : k + 9] for k in range(0, len(text), 9)], "memory")

    @CORPORA.register("counting", vocabulary=21)
    def read(data_dir: Path) -> Texts:
        return Texts(lines(TRAIN, 1), lines(VAL, 2), lines(TEST, 3))


def settings(**changes: Any) -> PtbLstmSettings:
    return PtbLstmSettings(**{**SMALL, **changes})


def data(seed: int = 0, **changes: Any) -> CorpusData:
    return CorpusData(settings(**changes), data_dir=Path("unused"), seed=seed)


def task(**changes: Any) -> PtbLstm:
    torch.manual_seed(0)
    return PtbLstm(settings(**changes))


def walk(source: CorpusData) -> Iterator[Segment]:
    return itertools.chain.from_iterable(source.train_batches(e) for e in itertools.count())


def perplexity(model: PtbLstm, batches: Iterator[Segment]) -> float:
    sums: dict[str, float] = {}
    model.eval()
    for batch in batches:
        for key, value in model.evaluation_sums(batch).items():
            sums[key] = sums.get(key, 0.0) + float(value)
    model.train()
    return model.metrics(sums)["perplexity"]


# The model


@pytest.mark.parametrize(
    ("changes", "count"),
    [({}, 9_997_280), ({"hidden": 3, "embedding": 2, "vocabulary": 10}, 108)],
)
def test_the_parameters_are_counted_to_the_unit(changes: dict[str, int], count: int) -> None:
    model = PtbLstm(PtbLstmSettings(**changes))
    assert sum(p.numel() for p in model.parameters()) == count


def test_a_uniform_model_loses_the_logarithm_of_the_vocabulary() -> None:
    model = task()
    torch.nn.init.zeros_(model.embedding)
    loss = model.training_step(next(data().train_batches(0)))
    assert loss.item() / SMALL["time_steps"] == pytest.approx(math.log(21))
    assert (
        perplexity(model, data().val_batches()) == pytest.approx(21) == model.chance(model.settings)
    )


def by_hand(
    model: PtbLstm, segment: Segment, state: LstmState, masks: list[Tensor], capped: bool
) -> tuple[Tensor, LstmState]:
    """The loss of a segment from the definition; `masks` are those of input, state, output and
    projection."""
    x = model.embedding[segment.words[:-1]] * masks[0]
    outputs, state = plain(x, state, model.layer, masks[1], capped)
    features = (outputs * masks[2]) @ model.projection.weight.t() * masks[3]
    logits = features @ model.embedding.t() + model.bias
    losses = F.cross_entropy(logits.flatten(0, 1), segment.words[1:].flatten(), reduction="none")
    return losses.view(segment.words[1:].shape).sum(dim=0).mean(), state


# fmt: off
DROPOUTS = {
    "none":    NO_DROPOUT,
    "input":   {**NO_DROPOUT, "input_dropout": 0.6},
    "state":   {**NO_DROPOUT, "state_dropout": 0.4},
    "output":  {**NO_DROPOUT, "output_dropout": 0.5},
    "resets":  {**NO_DROPOUT, "state_reset": 0.5},
    "all":     {"input_dropout": 0.6, "state_dropout": 0.4, "output_dropout": 0.5,
                "state_reset": 0.5},
}
# fmt: on


@pytest.mark.parametrize("name", ["gal", "melis"])
@pytest.mark.parametrize("kind", DROPOUTS)
def test_steps_are_the_definition_forward_and_backward(kind: str, name: str) -> None:
    """Two models, one by hand, over four segments: the masks are drawn in the documented order.

    Of `gal` each of the three masks is one for all steps; of `melis` only the state's is, and there
    is a fourth one after the projection.
    """
    chosen = DROPOUTS[kind]
    model = task(**chosen, model=name).double()
    state = LstmState(model.hidden.clone(), model.cell.clone())
    steps = (SMALL["time_steps"],) if name == "melis" else ()
    rates = [chosen[f"{place}_dropout"] for place in ("input", "state", "output")]
    rates.append(rates[-1] if name == "melis" else 0.0)
    sizes = [
        (*steps, 4, SMALL["embedding"]), (4, SMALL["hidden"]),
        (*steps, 4, SMALL["hidden"]), (*steps, 4, SMALL["embedding"]),
    ]  # fmt: skip
    for step, segment in enumerate(itertools.islice(walk(data(**chosen)), 4)):
        torch.manual_seed(step)
        loss = model.training_step(segment)
        ours = torch.autograd.grad(loss, list(model.parameters()))
        torch.manual_seed(step)
        goes_on = torch.rand(4, 1) >= chosen["state_reset"]
        if step == 0:
            goes_on = torch.zeros_like(goes_on)
        masks = [
            (torch.rand(size) >= rate).double() / (1 - rate) if rate else torch.ones(size).double()
            for size, rate in zip(sizes, rates, strict=True)
        ]
        start = LstmState(*(value.detach() * goes_on for value in state))
        expected, state = by_hand(model, segment, start, masks, capped=name == "melis")
        theirs = torch.autograd.grad(expected, list(model.parameters()))
        torch.testing.assert_close(loss, expected)
        torch.testing.assert_close(list(ours), list(theirs))
        torch.testing.assert_close(LstmState(model.hidden, model.cell), LstmState(*state))


def test_the_model_of_melis_is_evaluated_with_its_capped_gate_and_no_masks() -> None:
    model, segment = task(model="melis").double(), next(data().val_batches())
    model.eval()
    zero = torch.zeros(1, 12).double()
    ones = [torch.ones(1, size).double() for size in (6, 12, 12, 6)]
    expected, _ = by_hand(model, segment, LstmState(zero, zero), ones, capped=True)
    torch.testing.assert_close(model.evaluation_sums(segment)["loss"], expected.detach())


def test_the_projection_of_melis_starts_with_rows_at_right_angles() -> None:
    weight = task(model="melis").projection.weight.detach()
    torch.testing.assert_close(weight @ weight.t(), torch.eye(6), atol=1e-6, rtol=0)
    weight = task().projection.weight.detach()
    assert (weight @ weight.t() - torch.eye(6)).abs().max() > 0.5


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("dropped", [0.0, 0.2])
def test_bfloat16_keeps_weights_and_loss_in_float32_and_the_gradient_near(
    device: str, dropped: float
) -> None:
    chosen = {**NO_DROPOUT, "hidden": 64, "embedding": 32, "state_dropout": dropped}
    segment, found = next(data(**chosen).train_batches(0)), []
    segment = Segment(*(part.to(device) for part in segment))
    for precision in ("32", "bf16"):
        model = task(**chosen, precision=precision).to(device)
        torch.manual_seed(5)
        loss = model.training_step(segment)
        loss.backward()
        assert loss.dtype == torch.float32
        assert {p.grad.dtype for p in model.parameters()} == {torch.float32}
        found.append([loss.detach(), *(p.grad.flatten() for p in model.parameters())])
    torch.testing.assert_close(found[0][0], found[1][0], rtol=0.01, atol=0)
    for a, b in zip(*(each[1:] for each in found), strict=True):
        assert torch.cosine_similarity(a, b, dim=0) > 0.999


def test_a_mask_is_one_for_all_steps_of_a_text_and_another_for_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Tensor] = []

    def spy(inputs: Tensor, *rest: Any) -> Any:
        seen.append(inputs.detach())
        return plain(inputs, *rest)

    monkeypatch.setattr(ptb_lstm, "lstm", spy)
    model = task(input_dropout=0.5, embedding=40)
    for segment in itertools.islice(walk(data()), 2):
        model.training_step(segment)
    dropped = [(inputs == 0) for inputs in seen]
    for masks in dropped:
        assert torch.equal(masks, masks[:1].expand_as(masks))
        assert not torch.equal(masks[0, 0], masks[0, 1])
    assert not torch.equal(dropped[0][0], dropped[1][0])


def test_evaluation_drops_nothing_and_leaves_the_training_state_alone() -> None:
    model, source = task(), data()
    model.training_step(next(source.train_batches(0)))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    draws = torch.get_rng_state()
    first = perplexity(model, source.val_batches())
    assert (
        perplexity(model, source.test_batches()) != first == perplexity(model, source.val_batches())
    )
    assert torch.equal(torch.get_rng_state(), draws)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key


# The state


def test_the_state_carries_over_between_segments_and_epochs() -> None:
    model, source = task(**NO_DROPOUT), data(steps_per_epoch=3)
    states = []
    for segment in itertools.islice(walk(source), 7):
        states.append(model.hidden.clone())
        model.training_step(segment)
    assert not states[0].any()
    assert all(state.any() for state in states[1:])


def test_a_reset_is_drawn_separately_for_each_text() -> None:
    model = task(**{**NO_DROPOUT, "state_reset": 0.5, "batch_size": 64, "data": "pydoc"})
    source = data(batch_size=64, data="pydoc")
    model.hidden.fill_(1.0)
    model.cell.fill_(100.0)
    segment = next(source.train_batches(1))
    with torch.no_grad():
        model.training_step(segment)
    kept = (model.cell > 20).any(dim=1)
    assert 15 < kept.sum() < 49


def test_a_fresh_text_starts_at_zero_even_after_a_state_that_is_not_a_number() -> None:
    model = task(**NO_DROPOUT)
    segment = next(data().train_batches(0))
    expected = model.training_step(segment)
    model.hidden.fill_(math.nan)
    assert torch.equal(model.training_step(segment), expected)


# Evaluation


def test_truncation_at_35_is_one_long_text(monkeypatch: pytest.MonkeyPatch) -> None:
    model, found = task().double(), []
    for length in (1024, 35, 1):
        monkeypatch.setattr(ptb_lstm, "EVALUATION_STEPS", length)
        found.append(perplexity(model, data().val_batches()))
    assert found == pytest.approx([found[0]] * 3, rel=1e-12)


def test_every_token_counts_the_ends_of_lines_among_them() -> None:
    source = data()
    segments = list(source.val_batches())
    read = torch.cat([segment.words[1:, 0] for segment in segments])
    assert torch.equal(read, source.corpus.val)
    assert (read == source.corpus.end).sum() == 9
    model = task()
    assert sum(int(model.evaluation_sums(s)["count"]) for s in segments) == len(read)
    assert segments[0].words[0] == source.corpus.end


def test_perplexity_is_the_exponential_of_the_loss_or_infinite() -> None:
    assert PtbLstm.metrics({"loss": 6 * math.log(8), "count": 6.0}) == {
        "loss": pytest.approx(math.log(8)),
        "perplexity": pytest.approx(8),
    }
    assert PtbLstm.metrics({"loss": 1e6, "count": 1.0})["perplexity"] == math.inf
    assert math.isnan(PtbLstm.metrics({"loss": math.nan, "count": 1.0})["loss"])


# Writing on


def test_at_temperature_0_the_most_likely_word_comes_next_and_never_unknown() -> None:
    model, corpus = task().double(), data().corpus
    with torch.no_grad():
        model.bias[0] = 100.0  # <unk> would always win
    written = model.write_on("a zebra c", corpus, 6, temperature=0.0)
    number = {word: n for n, word in enumerate(corpus.words)}
    read = [number[word] for word in ("<eos>", "a", "<unk>", "c", *written)]
    zero = torch.zeros(1, 12).double()
    outputs, _ = plain(
        model.embedding[torch.tensor(read)[:, None]], LstmState(zero, zero), model.layer
    )
    logits = model.projection(outputs[:, 0]) @ model.embedding.t() + model.bias
    assert [number[word] for word in written] == logits[3:-1, 1:].argmax(dim=1).add(1).tolist()


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_words_are_drawn_as_often_as_their_probability_says(temperature: float) -> None:
    model, corpus, count = task(), data().corpus, 4000
    share = torch.arange(21.0).double()  # <unk> is the first: 0
    with torch.no_grad():
        model.embedding.zero_()
        model.bias.copy_(share.clamp(min=1e-6).log())
    written = model.write_on("", corpus, count, temperature=temperature, seed=3)
    wanted = share ** (1 / temperature) / (share ** (1 / temperature)).sum()
    found = torch.tensor([written.count(word) / count for word in corpus.words]).double()
    assert (found - wanted).abs().max() < 4 * (wanted * (1 - wanted) / count).sqrt().max()
    again = model.write_on("", corpus, 50, temperature=temperature, seed=3)
    assert again == written[:50]
    assert model.write_on("", corpus, 50, temperature=temperature, seed=4) != again


# The walk


def test_segments_join_and_every_token_is_read_within_an_epoch() -> None:
    source = data()
    ring = source.corpus.train
    segments = [segment.words for segment in source.train_batches(0)]
    assert source.steps_per_epoch == len(segments) == math.ceil(len(ring) / 20)
    for one, two in itertools.pairwise(segments):
        assert torch.equal(one[-1], two[0])
    steps = 5 * torch.arange(len(segments))[:, None, None] + torch.arange(5)[:, None]
    read = set(((source._begin + steps) % len(ring)).flatten().tolist())
    assert read == set(range(len(ring)))


def test_an_epoch_may_have_any_length_and_the_walk_is_the_same() -> None:
    whole = [segment.words for segment in itertools.islice(walk(data()), 60)]
    parts = [segment.words for segment in itertools.islice(walk(data(steps_per_epoch=7)), 60)]
    assert all(torch.equal(a, b) for a, b in zip(whole, parts, strict=True))
    fresh = [bool(segment.fresh) for segment in itertools.islice(walk(data()), 60)]
    assert fresh == [True] + 59 * [False]


def test_the_seed_chooses_where_the_walk_starts() -> None:
    first = [next(data(seed=seed).train_batches(0)).words for seed in (0, 0, 1)]
    assert torch.equal(first[0], first[1])
    assert not torch.equal(first[0], first[2])


def test_ptbs_epoch_is_415_steps() -> None:
    source = data(batch_size=64, time_steps=35)
    source.corpus = source.corpus._replace(train=torch.zeros(929_589, dtype=torch.int64))
    assert source.steps_per_epoch == 415


# Resuming


def test_a_run_stopped_inside_an_epoch_and_resumed_is_the_run_that_never_stopped(
    tmp_path: Path,
) -> None:
    values = json.loads(json.dumps(dataclasses.asdict(settings(steps_per_epoch=7))))
    trial = Trial(
        "ptb_lstm", values, "powersign", 0.05, training=Training(epochs=2, gradient_norm=5.0)
    )
    parts, _ = stopped_and_whole(trial, tmp_path, Path("unused"), steps=3)
    assert parts.task.state_dict().keys() >= {"hidden", "cell", "vocabulary"}


def test_weights_of_another_vocabulary_are_refused_at_the_first_batch() -> None:
    model, segment = task(), next(data().train_batches(0))
    model.training_step(segment)
    loaded = task()
    loaded.load_state_dict(model.state_dict())
    loaded.training_step(segment)
    foreign = segment._replace(vocabulary=segment.vocabulary + 1)
    loaded.load_state_dict(model.state_dict())
    for step in (loaded.training_step, loaded.evaluation_sums):
        with pytest.raises(DataError, match="vocabulary of 'counting' is not the one"):
            step(foreign)


# Settings


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"hidden": 0}, r"task\.hidden must be at least 1, got 0"),
        ({"state_dropout": 1.0}, r"task\.state_dropout must be at least 0 and below 1, got 1.0"),
        ({"state_reset": -0.1}, r"task\.state_reset must be at least 0 and below 1, got -0.1"),
        ({"input_dropout": math.nan}, r"task\.input_dropout must be at least 0 and below 1"),
        ({"model": "zaremba"}, r"task\.model must be one of: gal melis, got 'zaremba'"),
        ({"precision": "16"}, r"task\.precision must be one of: 32 bf16, got '16'"),
        ({"vocabulary": 2}, r"task\.vocabulary must be at least 3, got 2"),
        ({"steps_per_epoch": 0}, r"task\.steps_per_epoch must be at least 1, got 0"),
        ({"data": "penn"}, r"unknown corpus 'penn'"),
    ],
)
def test_an_impossible_setting_is_named(given: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings(**given)


def test_more_readers_than_the_text_has_segments_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"task\.batch_size must be at most 102 for 'counting'"):
        data(batch_size=200).prepare()


def test_a_vocabulary_larger_than_the_text_is_an_error_before_training() -> None:
    with pytest.raises(DataError, match=r"memory has 21 different words.*vocabulary of 30"):
        data(vocabulary=30).prepare()


def test_a_negative_seed_is_an_error() -> None:
    with pytest.raises(ConfigError, match="seed must be at least 0, got -1"):
        data(seed=-1)


def test_several_processes_do_not_share_a_text_whose_state_only_one_would_save(
    tmp_path: Path,
) -> None:
    settings = PtbLstmSettings(data="pydoc", hidden=8, embedding=8, batch_size=4)
    data = PtbLstm.make_data(settings, data_dir=tmp_path, seed=0)
    with pytest.raises(ConfigError, match="trained by one process"):
        list(data.train_share(0, 0, rank=0, world=2))
