"""GNMT: its published sizes, its attention, its loss, its batches, and a run that resumes."""

import dataclasses
import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from nos_repro.data.translation import Encoded, Sentences
from nos_repro.errors import ConfigError, DataError
from nos_repro.experiments.build import Conditions, build
from nos_repro.experiments.checkpoint import Checkpoints
from nos_repro.experiments.grid import points, sweep_trial
from nos_repro.experiments.load import load_study
from nos_repro.experiments.settings_file import find_config
from nos_repro.experiments.training import train
from nos_repro.experiments.trial import Training, Trial
from nos_repro.tasks.facts.gnmt import GNMTSettings
from nos_repro.tasks.gnmt import GNMT, SentenceBatch, _by_length
from nos_repro.tasks.gnmt_model import Attention, Dropout, Encoder, Layer, Memory, Network
from tests.tasks.resuming import stopped_and_whole

TINY: dict[str, Any] = {
    "data": "numbers", "train_pairs": 96, "vocabulary": 60, "layers": 3, "width": 16,
    "batch_size": 16, "beam": 2, "longest": 150,
}  # fmt: skip

# fmt: off
PARAMETERS = [
    # pieces, layers, shared embedding -> count (the published networks, two biases an LSTM)
    (32_000,  8, True,  243_967_233),
    (32_000,  8, False, 276_735_233),
    (32_320,  4, True,  160_671_297),
]
# fmt: on


@pytest.mark.parametrize(("pieces", "layers", "share", "count"), PARAMETERS)
def test_the_published_counts_of_parameters(
    pieces: int, layers: int, share: bool, count: int
) -> None:
    with torch.device("meta"):
        task = GNMT(GNMTSettings(vocabulary=pieces, layers=layers, share_embeddings=share))
    assert sum(p.numel() for p in task.parameters()) == count


def test_all_weights_start_in_the_papers_range() -> None:
    task = GNMT(GNMTSettings(**TINY))
    for name, weight in task.named_parameters():
        if not name.endswith("gain"):
            assert weight.abs().max() <= 0.04, name


def network(**changes: Any) -> Network:
    values = {"vocabulary": 20, "width": 8, "layers": 3, "dropout": 0.0, "init": 0.5, "share": True}
    torch.manual_seed(0)
    return Network(**{**values, **changes}).double()


def sources() -> torch.Tensor:
    return torch.tensor([[5, 6, 7, 8, 3], [9, 3, 0, 0, 0], [4, 5, 3, 0, 0]])


def test_attention_sums_to_1_over_the_source_and_gives_padding_nothing() -> None:
    net, source = network(), sources()
    target = torch.randint(4, 20, (3, 6))
    weights = net.decode(target, net.encode(source)).attention
    assert weights.shape == (3, 6, 5)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones_like(weights[..., 0]))
    assert (weights[source[:, None].expand_as(weights) == 0] == 0).all()


def test_attention_is_bahdanaus_normalised() -> None:
    torch.manual_seed(0)
    attention = Attention(4).double()
    for weight in attention.parameters():
        nn.init.normal_(weight)
    query, values = torch.randn(1, 1, 4).double(), torch.randn(1, 3, 4).double()
    memory = Memory(attention.key(values), values, torch.ones(1, 3, dtype=torch.bool))
    v = attention.gain * attention.direction / attention.direction.norm()
    scores = [
        v @ torch.tanh(attention.query.weight @ query[0, 0] + attention.key.weight @ h
                       + attention.bias)
        for h in values[0]
    ]  # fmt: skip
    context, weights = attention(query, memory)
    torch.testing.assert_close(
        weights[0, 0].double(), torch.stack(scores).softmax(0), atol=1e-6, rtol=1e-5
    )
    torch.testing.assert_close(context[0, 0], weights[0, 0].to(values) @ values[0])


def test_padding_reaches_no_sentence_in_any_layer() -> None:
    """A sentence among longer ones is encoded and decoded as if alone."""
    net, source = network(), sources()
    target = torch.randint(4, 20, (3, 6))
    together = net.decode(target, net.encode(source)).hidden
    for i, length in enumerate([5, 2, 3]):
        alone = net.decode(target[i : i + 1], net.encode(source[i : i + 1, :length])).hidden
        torch.testing.assert_close(together[:, i : i + 1], alone, atol=1e-6, rtol=1e-5)


def test_the_first_layer_is_torchs_bidirectional_lstm_on_packed_sequences() -> None:
    torch.manual_seed(0)
    ours = Encoder(6, 2, 0.0).double()
    theirs = nn.LSTM(6, 6, bidirectional=True).double()
    for name, weight in ours.forward_layer.named_parameters():
        getattr(theirs, name).data.copy_(weight)
    for name, weight in ours.backward_layer.named_parameters():
        getattr(theirs, f"{name}_reverse").data.copy_(weight)
    x, lengths = torch.randn(5, 3, 6).double(), torch.tensor([5, 2, 3])
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
    expected, _ = nn.utils.rnn.pad_packed_sequence(theirs(packed)[0])
    for i, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(ours.both_ways(x, lengths)[:length, i], expected[:length, i])


def test_layers_add_their_input_from_the_third_on() -> None:
    """With LSTMs that output zeros, a third layer passes its input on."""
    torch.manual_seed(0)
    encoder = Encoder(6, 3, 0.0)
    for weight in encoder.layers[1].parameters():
        nn.init.zeros_(weight)
    x, lengths = torch.randn(4, 2, 6), torch.tensor([4, 4])
    with_third = encoder(x, lengths)
    del encoder.layers[1]
    torch.testing.assert_close(with_third, encoder(x, lengths))


def test_teacher_forcing_is_one_step_after_another() -> None:
    net, source = network(), sources()
    target, memory = torch.randint(4, 20, (3, 6)), net.encode(source)
    whole = net.decode(target, memory)
    state = None
    for t in range(6):
        step = net.decode(target[:, t : t + 1], memory, state)
        state = step.state
        torch.testing.assert_close(step.hidden[0], whole.hidden[t], atol=1e-6, rtol=1e-5)


def test_a_uniform_models_loss_is_ln_v_whatever_the_padding(tmp_path: Path) -> None:
    task, data = (
        GNMT(GNMTSettings(**TINY)),
        GNMT.make_data(GNMTSettings(**TINY), data_dir=tmp_path, seed=0),
    )
    for weight in task.network.classifier.parameters():
        nn.init.zeros_(weight)
    batch = next(data.train_batches(0))
    assert (batch.target == 0).any()
    assert task.training_step(batch).item() == pytest.approx(math.log(60), rel=1e-6)
    sums = {k: float(v) for k, v in task.evaluation_sums(batch).items()}
    assert sums["count"] == (batch.target[:, 1:] != 0).sum()
    assert task.metrics(sums) == pytest.approx({"loss": math.log(60), "perplexity": 60})


def three_pairs() -> SentenceBatch:
    target = torch.tensor([[2, 9, 3], [2, 3, 0], [2, 8, 3]])
    return SentenceBatch(sources(), target, torch.tensor(5 / 3), torch.tensor(1))


@pytest.mark.parametrize("unit", ["sentence", "piece"])
def test_the_loss_is_the_sum_over_pieces_divided_by_sentences_or_pieces(
    tmp_path: Path, unit: str
) -> None:
    """As a loop over sentences and pieces adds it up; what is shown is per piece in both cases."""
    settings = GNMTSettings(**{**TINY, "dropout": 0.0, "loss_per": unit})
    task = GNMT(settings).double()
    batch = next(GNMT.make_data(settings, data_dir=tmp_path, seed=0).train_batches(0))
    total, pieces = torch.zeros(()).double(), 0
    for source, target in zip(batch.source, batch.target, strict=True):
        words = target[target != 0][None]
        memory = task.network.encode(source[source != 0][None])
        hidden = task.network.decode(words[:, :-1], memory).hidden[:, 0]
        log_p = task.network.classifier(hidden).log_softmax(dim=1)
        for place, piece in enumerate(words[0, 1:]):
            total, pieces = total - log_p[place, piece], pieces + 1
    naive = total / (len(batch.source) if unit == "sentence" else pieces)
    loss = task.training_step(batch)
    torch.testing.assert_close(loss.double(), naive, rtol=1e-6, atol=0)
    weights = list(task.parameters())
    found, expected = (torch.autograd.grad(value, weights) for value in (loss, naive))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(
        task.shown_loss(loss, batch).double(), total / pieces, rtol=1e-6, atol=0
    )


@pytest.mark.parametrize(("unit", "clipped"), [("sentence", 10), ("piece", 0)])
def test_a_norm_of_5_clips_most_early_steps_on_the_authors_scale_and_none_per_piece(
    tmp_path: Path, unit: str, clipped: int
) -> None:
    study = load_study(
        find_config("table4"),
        scale="smoke",
        overrides=[f"task.loss_per={unit}", "task.init=0.04", "task.data=numbers"],
    )
    row = study.rows["Adam"]
    run = build(sweep_trial(study, row, points(study, row)[0]), Conditions(tmp_path))
    limit, norms = run.training.gradient_norm, []
    for batch in itertools.islice(run.data.train_batches(0), 12):
        run.task.zero_grad()
        run.task.training_step(batch).backward()
        norms.append(nn.utils.get_total_norm([p.grad for p in run.task.parameters()]))
        run.train_step(batch)
    above = sum(norm > limit for norm in norms)
    assert above >= clipped if clipped else above == 0


def test_curves_show_the_loss_per_piece_whatever_it_is_divided_by(tmp_path: Path) -> None:
    shown = []
    for unit in ("sentence", "piece"):
        values = dataclasses.asdict(
            GNMTSettings(**{**TINY, "dropout": 0.0, "bleu_every": 0, "loss_per": unit})
        )
        trial = Trial("gnmt", json.loads(json.dumps(values)), "sgd", 1e-12)
        run = build(trial, Conditions(tmp_path))
        train(run, Checkpoints(tmp_path / unit, every_seconds=1e9))
        shown.append(run.history[-1]["train_loss"])
    assert shown[0] == pytest.approx(shown[1], rel=1e-6)
    assert shown[0] == pytest.approx(math.log(60), rel=0.05)


def test_label_smoothing_is_torchs_and_in_training_alone() -> None:
    task = GNMT(GNMTSettings(**TINY, label_smoothing=0.1, dropout=0.0))
    plain = GNMT(GNMTSettings(**TINY, dropout=0.0))
    plain.load_state_dict(task.state_dict())
    batch = three_pairs()
    logits, wanted = task(batch.source, batch.target)
    log_p = logits.log_softmax(1)
    smoothed = -(0.9 * log_p.gather(1, wanted[:, None])[:, 0] + 0.1 * log_p.mean(dim=1)).mean()
    torch.testing.assert_close(task.training_step(batch), smoothed)
    torch.testing.assert_close(
        task.evaluation_sums(batch)["loss"], plain.evaluation_sums(batch)["loss"]
    )


class SeenLstms(TorchFunctionMode):
    """Notes the types of every LSTM call's floating point tensors, and whether autocast is on."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[set[torch.dtype], bool]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.lstm, torch._VF.lstm):
            x, state, weights = args[:3]
            kinds = {tensor.dtype for tensor in (x, *state, *weights)}
            self.calls.append((kinds, torch.is_autocast_enabled(x.device.type)))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("precision", "kind"), [("bf16", torch.bfloat16), ("32", torch.float32)])
def test_every_lstm_gets_tensors_of_the_precision_and_no_autocast(
    precision: str, kind: torch.dtype
) -> None:
    """cuDNN's would cast to float16 under autocast, whatever type that is for."""
    task = GNMT(GNMTSettings(**TINY, precision=precision))
    with SeenLstms() as seen:
        task.training_step(three_pairs())
        task.translate(sources())
    assert len(seen.calls) > 2 * (2 * 3 + 1)
    assert all(call == ({kind}, False) for call in seen.calls)


@pytest.mark.parametrize("given", [False, True], ids=["zeros", "a state"])
def test_on_a_cpu_a_layer_in_bfloat16_is_torchs_own_under_autocast_to_the_bit(given: bool) -> None:
    torch.manual_seed(0)
    ours, theirs = Layer(24, 16), nn.LSTM(24, 16)
    theirs.load_state_dict(ours.state_dict())
    x, count = torch.randn(7, 5, 24), torch.linspace(-1, 1, 7 * 5 * 16).view(7, 5, 16)
    state = (torch.randn(1, 5, 16), torch.randn(1, 5, 16)) if given else None
    found = []
    for layer in (ours, theirs):
        with torch.autocast("cpu", torch.bfloat16):
            out, after = layer(x, state)
        (out.float() * count).sum().backward()
        found.append([out, *after, *(weight.grad for weight in layer.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.gpu
def test_on_a_gpu_the_gradients_in_bfloat16_are_those_of_float32_and_none_vanish() -> None:
    grads = []
    for precision in ("32", "bf16"):
        torch.manual_seed(0)
        task = GNMT(GNMTSettings(**{**TINY, "width": 64, "dropout": 0.0, "precision": precision}))
        batch = SentenceBatch(*(part.cuda() for part in three_pairs()[:4]))
        task.cuda().training_step(batch).backward()
        grads.append({name: p.grad.flatten().float() for name, p in task.named_parameters()})
    for name, precise in grads[0].items():
        rough = grads[1][name]
        assert torch.cosine_similarity(rough, precise, dim=0) > 0.99, name
        assert ((rough == 0) & (precise != 0)).double().mean() < 0.01, name


def test_bfloat16_keeps_float32_weights_and_loss() -> None:
    task = GNMT(GNMTSettings(**TINY, precision="bf16"))
    batch = three_pairs()
    loss = task.training_step(batch)
    loss.backward()
    assert loss.dtype == torch.float32
    assert {p.dtype for p in task.parameters()} == {torch.float32}
    assert all(p.grad is not None and p.grad.isfinite().all() for p in task.parameters())


def test_bleu_is_measured_as_often_as_requested(tmp_path: Path) -> None:
    settings = GNMTSettings(**TINY, bleu_every=2)
    data = GNMT.make_data(settings, data_dir=tmp_path, seed=0)
    translated = []
    for epoch in range(4):
        next(data.train_batches(epoch))
        translated.append([bool(batch.references) for batch in data.test_batches()])
    assert [all(batches) for batches in translated] == [False, True, False, True]
    assert not any(batch.references for batch in data.val_batches())


def test_the_validation_part_is_translated_if_asked_for(tmp_path: Path) -> None:
    settings = GNMTSettings(**TINY, bleu_every=2, validation_bleu=True)
    data = GNMT.make_data(settings, data_dir=tmp_path, seed=0)
    translated = []
    for epoch in range(2):
        next(data.train_batches(epoch))
        translated.append([bool(batch.references) for batch in data.val_batches()])
    assert [all(batches) for batches in translated] == [False, True]
    references = [text for b in data.val_batches() for r in b.references for text in r.texts]
    assert sorted(references) == sorted(data._corpus.read("val", None).target.lines)


def test_an_evaluation_has_every_pair_once_in_batches_of_bounded_size() -> None:
    draw = torch.Generator().manual_seed(0)
    sides = []
    for _ in range(2):
        lengths = torch.randint(1, 400, (700,), generator=draw)
        lengths[3] = 20_000  # alone in its batch
        starts = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
        sides.append(Sentences(torch.zeros(int(starts[-1]), dtype=torch.int32), starts))
    batches = list(_by_length(Encoded(*sides)))
    assert torch.cat(batches).sort().values.tolist() == list(range(700))
    total = sides[0].lengths + sides[1].lengths
    for batch in batches:
        assert 1 <= len(batch) <= 128
        assert len(batch) == 1 or len(batch) * int(total[batch].max()) <= 128 * 128


def test_another_vocabulary_than_the_checkpoints_is_refused(tmp_path: Path) -> None:
    settings = GNMTSettings(**TINY)
    task, data = GNMT(settings), GNMT.make_data(settings, data_dir=tmp_path, seed=0)
    task.agree(next(data.train_batches(0)).vocabulary)
    resumed = GNMT(settings)
    resumed.training_step(next(data.train_batches(0)))
    resumed.load_state_dict({**task.state_dict(), "vocabulary": task.vocabulary + 1})
    with pytest.raises(DataError, match="not those that the checkpoint was trained with"):
        resumed.training_step(next(data.train_batches(0)))
    resumed.load_state_dict(task.state_dict())
    other = GNMT.make_data(
        dataclasses.replace(settings, train_pairs=100), data_dir=tmp_path, seed=0
    )
    with pytest.raises(DataError, match="not those that the checkpoint was trained with"):
        resumed.training_step(next(other.train_batches(0)))


# fmt: off
IMPOSSIBLE = [
    ({"vocabulary": 4},          r"task\.vocabulary must be at least 5, got 4"),
    ({"layers": 1},              r"task\.layers must be at least 2, got 1"),
    ({"dropout": 1.0},           r"task\.dropout must be at least 0 and below 1, got 1\.0"),
    ({"dropout": 0.999},         r"task\.dropout must be 0, or from 1/256 to 255/256, got 0\.999"),
    ({"dropout": 0.001},         r"task\.dropout must be 0, or from 1/256 to 255/256, got 0\.001"),
    ({"length_penalty": -0.1},   r"task\.length_penalty must be at least 0"),
    ({"languages": ("en", "")},  r"task\.languages must be two suffixes"),
    ({"loss_per": "batch"},      r"task\.loss_per must be one of: piece sentence, got 'batch'"),
    ({"precision": "16"},        r"task\.precision must be one of: 32 bf16, got '16'"),
    ({"beam": 0},                r"task\.beam must be at least 1"),
    ({"train_pairs": 0},         r"task\.train_pairs must be at least 1"),
]
# fmt: on


@pytest.mark.parametrize(("values", "message"), IMPOSSIBLE)
def test_impossible_settings_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GNMTSettings(**values)


@pytest.mark.slow
def test_a_run_stopped_inside_an_epoch_and_resumed_is_the_run_that_never_stopped(
    tmp_path: Path,
) -> None:
    trial = Trial(
        task="gnmt",
        task_settings=json.loads(
            json.dumps(dataclasses.asdict(GNMTSettings(**TINY, bleu_every=2)))
        ),
        optimizer="rule: exp(ld*sign(g)*sign(m)) * (g + noise)",
        lr=0.1,
        training=Training(epochs=2, gradient_norm=5.0),
    )

    _, whole = stopped_and_whole(trial, tmp_path, tmp_path, steps=4)
    assert "test_bleu" in whole.history[-1]


def test_dropout_keeps_the_mean_and_drops_the_share_it_says() -> None:
    torch.manual_seed(0)
    dropout, x = Dropout(0.2), torch.ones(40_000)
    dropped = dropout(x)
    assert (dropped == 0).double().mean() == pytest.approx(51 / 256, abs=0.01)
    assert dropped.mean() == pytest.approx(1.0, abs=0.01)
    assert dropped.unique().tolist() == pytest.approx([0.0, 256 / 205])
    assert torch.equal(dropout.eval()(x), x)


@pytest.mark.parametrize("unit", ["sentence", "piece"])
def test_the_shares_of_a_batch_have_the_batchs_loss_and_gradient_in_the_mean(
    tmp_path: Path, unit: str
) -> None:
    settings = GNMTSettings(**{**TINY, "dropout": 0.0, "loss_per": unit})
    data = GNMT.make_data(settings, data_dir=tmp_path, seed=3)
    task = GNMT(settings).double()

    def gradient(batch: SentenceBatch) -> torch.Tensor:
        task.zero_grad()
        task.training_step(batch).backward()
        return torch.cat([p.grad.flatten() for p in task.parameters() if p.grad is not None])

    whole = list(data.train_batches(epoch=1))
    shares = [list(data.train_share(1, 0, rank, 3)) for rank in range(3)]
    for batch, *parts in itertools.islice(zip(whole, *shares, strict=True), 3):
        assert sum(len(part.source) for part in parts) == len(batch.source)
        losses = torch.stack([task.training_step(part) for part in parts])
        loss = task.training_step(batch)
        torch.testing.assert_close(losses.mean(), loss)
        shown = [task.shown_loss(*both) for both in zip(losses, parts, strict=True)]
        torch.testing.assert_close(torch.stack(shown).mean(), task.shown_loss(loss, batch))
        mean = torch.stack([gradient(part) for part in parts]).mean(0)
        torch.testing.assert_close(mean, gradient(batch), rtol=1e-5, atol=2e-7)
