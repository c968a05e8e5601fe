"""The parts of the text task: tokens, streams, scores, sampling."""

import math
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given

from elman.data import tokenizers
from elman.data.streams import IGNORED, streams
from elman.data.token_kinds import KINDS, Kind
from elman.decoding.sampling import Sampling, choose, choose_rows, generator_of
from elman.errors import Failure
from elman.tasks.text import corpus, sample, score
from elman.tasks.text.model import LanguageModel
from elman.tasks.text.options import TextOptions
from elman.tasks.text.task import TASK

ENGLISH = "Don't stop\tat 42,000 steps — go on.\r\n\n  The naïve gate's open; \u2018so\u2019 is the door! 日本語 " * 3
printable = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)


@pytest.mark.parametrize("kind", KINDS)
@given(text=printable)
def test_tokens_give_the_text_back(kind: Kind, text: str) -> None:
    whole = ENGLISH + text
    tokenizer = tokenizers.fit(kind, whole, 400)
    ids = tokenizers.encode(tokenizer, whole)
    assert tokenizer.decode(ids.tolist()) == whole
    assert tokenizers.token_bytes(tokenizer)[ids].sum() == len(whole.encode())


@pytest.mark.sample(1)
@pytest.mark.parametrize("kind", KINDS)
def test_a_long_text_is_tokenized_as_its_parts_are(kind: Kind) -> None:
    text = ENGLISH * 2000
    tokenizer = tokenizers.fit(kind, ENGLISH, 400)
    assert len(list(tokenizers.blocks(text))) > 3
    assert "".join(tokenizers.blocks(text)) == text
    np.testing.assert_array_equal(tokenizers.encode(tokenizer, text), tokenizer.encode(text).ids)


def test_words_are_words() -> None:
    tokenizer = tokenizers.fit("word", "please stay at home, don't go", 0)
    pieces = [tokenizer.id_to_token(index) for index in tokenizers.encode(tokenizer, "please stay at home, don't go")]
    assert pieces == ["please", " stay", " at", " home", ",", " don't", " go"]


def test_the_vocabulary_is_bounded_and_rare_words_of_a_long_text_are_unknown() -> None:
    text = "one two three " * 600 + "never"
    assert tokenizers.fit("word", text, 3).get_vocab_size() == 3
    tokenizer = tokenizers.fit("word", text)
    assert tokenizer.token_to_id(" never") is None
    assert tokenizers.encode(tokenizer, " never").tolist() == [tokenizer.token_to_id(tokenizers.UNKNOWN)]
    assert tokenizers.fit("bpe", text, 300).get_vocab_size() <= 300


def test_what_is_unknown_is_named_once_and_left_out() -> None:
    tokenizer = tokenizers.fit("char", "abc ")
    assert tokenizers.split_known(tokenizer, "aXbXYc") == ("abc", ["X", "Y"])
    words = tokenizers.fit("word", "stay at home")
    assert tokenizers.split_known(words, "at home") == (" at home", [])


@given(length=st.integers(2, 200), batch=st.integers(1, 7), bptt=st.integers(1, 9))
def test_streams_score_every_token_once(length: int, batch: int, bptt: int) -> None:
    chunks = list(streams(np.arange(length), batch, bptt, every_token=True))
    targets = torch.cat([chunk.values[1].flatten() for chunk in chunks])
    assert sorted(targets[targets != IGNORED].tolist()) == list(range(1, length))
    for inputs, targets in (chunk.values for chunk in chunks):
        kept = targets != IGNORED
        assert torch.equal(targets[kept], inputs[kept] + 1)


def test_streams_to_train_on_are_whole_chunks() -> None:
    chunks = list(streams(np.arange(48), batch=3, bptt=7))
    assert [chunk.lengths.tolist() for chunk in chunks] == [[7, 7, 7]] * 2
    assert [chunk.values[0][0].tolist() for chunk in chunks] == [[0, 15, 30], [7, 22, 37]]


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_a_text_scored_in_chunks_is_scored_as_one(cell: str) -> None:
    model = LanguageModel(7, cell, embed=3, hidden=5, layers=2)
    ids = torch.randint(7, (900,)).numpy().astype(np.int32)
    logits, _ = model(torch.from_numpy(ids[:-1]).unsqueeze(1))
    whole = torch.nn.functional.cross_entropy(logits.squeeze(1), torch.from_numpy(ids[1:]).long(), reduction="none")
    np.testing.assert_allclose(score.nats(model, ids), whole.detach(), rtol=1e-4)


def test_bits_per_character_spell_out_what_is_unknown() -> None:
    tokenizer = tokenizers.fit("char", "ab")
    text = score.ScoredText.of(tokenizer, "aé" + "b" * 8)
    assert (text.characters, text.unknown, text.unknown_bytes) == (9, 1, 2)
    result = score.Score.of(9 * math.log(2), text)
    assert result == pytest.approx((math.log(2), (9 + 8 * 3) / 9, 2.0))


def test_the_tokenizer_has_seen_only_what_is_trained_on() -> None:
    made = corpus.prepare("ab" * 40 + "xy" * 5 + "az" * 5, "text", "char", 0)
    assert made.tokenizer.token_to_id("x") is None
    assert (len(made.train), len(made.validation.ids), made.validation.unknown) == (80, 10, 9)
    assert (len(made.test.ids), made.test.unknown) == (10, 5)


@pytest.mark.parametrize("part", ["validation", "test"])
def test_a_part_that_is_a_text_of_its_own(part: str) -> None:
    made = corpus.prepare("ab" * 45 + "ba" * 5, "text", "char", 0, parts={part: ["bb"]})
    held_out = {name: getattr(made, name).ids.tolist() for name in ("validation", "test")}
    a, b = made.train[:2].tolist()
    assert (len(made.train), held_out.pop(part), *held_out.values()) == (90, [b, b], [b, a] * 5)
    assert {*made.sha256} == {"sha256", f"{part}_sha256"}


def counted(draws: int = 4000, **options: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    logits = torch.tensor([0.5, 0.25, 0.2, 0.05]).log()
    drawn = [choose(logits, generator=generator, **options) for _ in range(draws)]
    return torch.bincount(torch.tensor(drawn), minlength=4) / draws


@pytest.mark.slow
def test_sampling_follows_the_distribution() -> None:
    # Three standard deviations of a share drawn 4,000 times are at most 0.024.
    torch.testing.assert_close(counted(), torch.tensor([0.5, 0.25, 0.2, 0.05]), atol=0.024, rtol=0)
    torch.testing.assert_close(counted(top_k=2), torch.tensor([2 / 3, 1 / 3, 0, 0]), atol=0.024, rtol=0)
    torch.testing.assert_close(counted(top_p=0.7), torch.tensor([2 / 3, 1 / 3, 0, 0]), atol=0.024, rtol=0)
    torch.testing.assert_close(counted(top_p=0.4), torch.tensor([1.0, 0, 0, 0]))
    squared = torch.tensor([0.25, 0.0625, 0.04, 0.0025])
    torch.testing.assert_close(counted(temperature=0.5), squared / squared.sum(), atol=0.024, rtol=0)
    assert choose(torch.tensor([1.0, 9.0, 2.0]), temperature=0) == 1


@pytest.mark.parametrize("V", [2, 100, 5000])
def test_rows_are_drawn_as_each_alone(V: int) -> None:
    """Whatever the others are: greedy ones draw no random numbers, and those that are no numbers get -1."""
    logits = 3 * torch.randn(9, V)
    logits[4, 1] = torch.nan
    ways = [Sampling(), Sampling(0.0), Sampling(0.5, 2), Sampling(1.5, 0, 0.9), Sampling(5e-324, 10**40, 0.1)]
    samplings = [ways[i % len(ways)] for i in range(9)]
    together, alone = ([generator_of(i) for i in range(9)] for _ in range(2))
    for _ in range(5):
        expected = [-1 if i == 4 else choose(row, *samplings[i], generator=alone[i]) for i, row in enumerate(logits)]
        assert choose_rows(logits, samplings, together).tolist() == expected


def test_a_draw_is_that_of_multinomial() -> None:
    logits = torch.randn(100)
    p, order = logits.double().softmax(0).sort(descending=True, stable=True)
    ours, theirs = generator_of(1), generator_of(1)
    for _ in range(20):
        assert choose(logits, generator=ours) == order[torch.multinomial(p, 1, generator=theirs)]


def test_logits_that_are_no_numbers() -> None:
    with pytest.raises(Failure, match="got nan"):
        choose(torch.tensor([0.0, torch.nan]))


def test_the_unknown_token_is_never_written() -> None:
    model = LanguageModel(4, "rnn", 3, 5).eval()
    with torch.no_grad():
        model.output.bias[2] = 100
    assert 2 in sample.generate(model, [1], 50, seed=0)
    assert 2 not in sample.generate(model, [1], 50, seed=0, never=2)


@pytest.mark.parametrize(("kind", "different"), [("char", 3), ("word", 4), ("bpe", 258)])
def test_the_unknown_token_is_none_of_the_different_ones(tmp_path: Path, kind: Kind, different: int) -> None:
    (tmp_path / "t.txt").write_text("a b " * 50)
    options = TextOptions(tokens=kind, batch=2, bptt=4, vocabulary=260 if kind == "bpe" else 0)
    made = TASK.prepare([tmp_path / "t.txt"], options, 0)
    assert f"; {different} distinct tokens" in made.summary
    assert kind == "bpe" or different == len(set(made.details[0].train.tolist()))
