"""The decoder with attention, beam search, and what texts are turned to."""

import itertools
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

from elman.baselines import ibm_model1
from elman.data.token_kinds import Kind
from elman.decoding.attention_decoder import Pairs, Writer
from elman.decoding.beam import search
from elman.tasks.text_output import Vocabulary, pad
from elman.tasks.translate.model import Translator
from tests.tolerances import close

V, END = 4, 3
NONE = torch.tensor([], dtype=torch.long)


@pytest.fixture
def model() -> Writer:
    return Translator(7, V, "gru", 6, embed=5).double().eval()


def batch(lengths: list[int], targets: list[int]) -> Pairs:
    read = [torch.randint(0, 7, (n,)) for n in lengths]
    written = [torch.cat([torch.randint(0, END, (n,)), torch.tensor([END])]) for n in targets]
    return Pairs(*pad(read), *pad(written))


def alone(pairs: Pairs, b: int) -> Pairs:
    S, T = int(pairs.lengths[b]), int(pairs.target_lengths[b])
    return Pairs(
        pairs.source[:S, b : b + 1], pairs.lengths[b : b + 1], pairs.targets[:T, b : b + 1],
        pairs.target_lengths[b : b + 1],
    )  # fmt: skip


def test_a_batch_is_its_rows_one_by_one(model: Writer) -> None:
    pairs = batch([3, 6, 1, 4], [2, 5, 3, 0])
    loss, count, _ = model.loss(pairs)
    rows = [model.loss(alone(pairs, b)) for b in range(4)]
    assert count == sum(n for _, n, _ in rows) == 14
    close(loss, torch.stack([one for one, _, _ in rows]).sum(), "outputs")
    together = model.write(pairs.source, pairs.lengths, 3, 8, NONE)
    by_row = [alone(pairs, b) for b in range(4)]
    assert together == [model.write(one.source, one.lengths, 3, 8, NONE)[0] for one in by_row]


def test_what_stands_behind_an_end_is_not_read(model: Writer) -> None:
    pairs = batch([3, 6], [2, 5])
    loss, attention = model.loss(pairs)[0], model(pairs)[1]
    assert attention[0, :, 3:].eq(0).all()
    close(attention.sum(2)[0, :3], torch.ones(3).double(), "outputs")
    pairs.source[3:, 0], pairs.targets[3:, 0] = 5, 1
    assert model.loss(pairs)[0] == loss


def test_smoothing_is_for_training_only(model: Writer) -> None:
    pairs = batch([3, 6], [2, 5])
    model.smoothing = 0.2
    logits, _ = model(pairs)
    p = logits.log_softmax(1)
    plain = model.loss(pairs)[0]
    model.train()
    close(model.loss(pairs)[0], 0.8 * plain - 0.2 * p.mean(1).sum(), "outputs")


def test_a_beam_as_wide_as_all_sequences_finds_the_best_of_them(model: Writer) -> None:
    pairs = batch([3, 6], [0, 0])
    longest = 4
    candidates = [[*row, END] for n in range(longest) for row in itertools.product(range(END), repeat=n)]
    for b, found in enumerate(model.write(pairs.source, pairs.lengths, V**longest, longest, NONE)):
        one = alone(pairs, b)
        means = {}
        for row in candidates:
            loss, count, _ = model.loss(
                one._replace(targets=torch.tensor(row)[:, None], target_lengths=torch.tensor([len(row)]))
            )
            means[tuple(row)] = loss.item() / count
        assert (*found, END) == min(means, key=lambda row: means[row])


def test_a_beam_of_one_takes_the_likeliest_token_each_time(model: Writer) -> None:
    pairs = batch([5], [0])
    (found,) = model.write(pairs.source, pairs.lengths, 1, 6, torch.tensor([1]))
    row: list[int] = []
    while len(row) < 6:
        logits, _ = model(
            pairs._replace(targets=torch.tensor([[*row, 0]]).T, target_lengths=torch.tensor([len(row) + 1]))
        )
        logits[:, 1] = -torch.inf
        token = int(logits[-1].argmax())
        if token == END:
            break
        row.append(token)
    assert found == row
    assert 1 not in found


def test_a_sequence_that_does_not_end_is_ended() -> None:
    def step(last: Tensor | None, state: Any) -> tuple[Tensor, Any]:
        return torch.tensor([[0.7, 0.3, 0.0]]).log().expand(state.shape[1], -1), state

    assert search(step, torch.zeros(1, 4, 1), 2, 2, 2, 5) == [[0] * 5] * 2


@pytest.mark.parametrize("kind", ["char", "word", "bpe"])
def test_texts_come_back(kind: Kind) -> None:
    texts = ["ein Haus .", "das Buch , ein Haus", "Straße!"]
    adapter = TypeAdapter(Vocabulary)
    vocabulary = adapter.validate_json(adapter.dump_json(Vocabulary.fit(kind, texts, 400)))
    for text in texts:
        ids = vocabulary.encode(text).tolist()
        assert ids[-1] == vocabulary.end == len(vocabulary) - 1
        assert vocabulary.decode(ids) == text
    assert "ein" not in "".join(vocabulary.pieces(vocabulary.never.tolist()))


def test_model_1_is_that_of_its_equations() -> None:
    pairs = [("a b", "x y"), ("b c c", "y z"), ("c", "z"), ("a d", "x w x")]
    t = {(e, f): 1.0 for s, u in pairs for e in u.split() for f in s.split()}
    for _ in range(ibm_model1.ITERATIONS):
        c = dict.fromkeys(t, 0.0)
        for s, u in pairs:
            for e in u.split():
                for f in s.split():
                    c[e, f] += t[e, f] / sum(t[e, g] for g in s.split())
        t = {(e, f): n / sum(c[k] for k in c if k[1] == f) for (e, f), n in c.items()}
    best = {f: max((e for e, g in t if g == f), key=lambda e: t[e, f]) for f in "abcd"}
    assert ibm_model1.fit(pairs) == best
