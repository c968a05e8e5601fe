"""The conditional random field of `elman train tag --crf`: by its definition, and from sentences to a run in use."""

import json
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from elman import tasks
from elman.cli import run
from elman.decoding.crf import LinearChain
from elman.tasks.tag.options import TagOptions
from elman.tasks.tag.score import span_scores_by_type
from elman.tasks.tag.task import TASK, TagCodec, TagPrediction
from elman.tasks.task import Input
from tests.small import Command, unchecked
from tests.tasks.test_export import EXAMPLES, randomize, used

K = 3
LENGTHS = torch.tensor([4, 1, 2, 3])
SIZE = ["--hidden", "8", "--embed", "8", "--characters", "4", "--batch", "8", "--lr", "0.03", "--crf"]


@pytest.fixture
def crf() -> LinearChain:
    chain = LinearChain(K).double()
    for weights in chain.parameters():
        torch.nn.init.normal_(weights)
    return chain


@pytest.fixture
def emissions() -> Tensor:
    return torch.randn(4, len(LENGTHS), K, dtype=torch.float64, requires_grad=True)


def scores(crf: LinearChain, emissions: Tensor) -> dict[tuple[int, ...], Tensor]:
    """The score of every sequence of labels, by its definition, from the emissions (T, K) of a sentence."""
    obtained = {}
    for labels in product(range(K), repeat=len(emissions)):
        score = crf.begin[labels[0]] + crf.end[labels[-1]]
        score = score + sum(emissions[t, label] for t, label in enumerate(labels))
        obtained[labels] = score + sum(crf.transitions[pair] for pair in pairwise(labels))
    return obtained


def test_the_loss_is_that_of_all_sequences_of_labels(crf: LinearChain, emissions: Tensor) -> None:
    """And so is its gradient; an unknown label may be any."""
    labels = torch.randint(K, (4, len(LENGTHS)))
    labels[1, 0] = labels[0, 2] = labels[1, 2] = -1
    expected = []
    for b, T in enumerate(LENGTHS.tolist()):
        all_scores, wanted = scores(crf, emissions[:T, b]), labels[:T, b].tolist()
        fitting = [s for y, s in all_scores.items() if all(w in (-1, k) for w, k in zip(wanted, y, strict=True))]
        expected.append(torch.stack(list(all_scores.values())).logsumexp(0) - torch.stack(fitting).logsumexp(0))
    loss, right = crf(emissions, LENGTHS, labels), torch.stack(expected)
    torch.testing.assert_close(loss, right.float(), rtol=1e-5, atol=1e-5)
    assert loss[2] == 0  # nothing is known of it
    weights = (emissions, *crf.parameters())
    for actual, gradient in zip(
        torch.autograd.grad(loss.sum(), weights), torch.autograd.grad(right.sum(), weights), strict=True
    ):
        torch.testing.assert_close(actual, gradient, rtol=1e-4, atol=1e-5)


def test_marginals_and_the_best_labels(crf: LinearChain, emissions: Tensor) -> None:
    P, best = crf.decode(emissions, LENGTHS)
    for b, T in enumerate(LENGTHS.tolist()):
        all_scores = scores(crf, emissions[:T, b])
        p = torch.stack(list(all_scores.values())).softmax(0)
        expected = torch.zeros(T, K, dtype=torch.float64)
        for labels, share in zip(all_scores, p, strict=True):
            expected[range(T), labels] += share
        torch.testing.assert_close(P[:T, b], expected)
        assert tuple(best[:T, b].tolist()) == max(all_scores, key=lambda labels: all_scores[labels].item())


def test_without_transitions_words_are_independent(emissions: Tensor) -> None:
    labels = torch.randint(K, (4, 4))
    lengths = torch.full((4,), 4)
    loss = LinearChain(K)(emissions, lengths, labels).sum()
    expected = cross_entropy(emissions.flatten(0, 1), labels.flatten(), reduction="sum")
    torch.testing.assert_close(loss, expected.float(), rtol=1e-5, atol=1e-5)


def test_spans_by_type() -> None:
    predicted, expected = [["B-PER", "O", "B-ORG"], ["B-ORG"]], [["B-PER", "I-PER", "B-ORG"], ["O"]]
    obtained = span_scores_by_type(predicted, expected)
    assert obtained == {
        "ORG": {"f1": 2 / 3, "precision": 0.5, "recall": 1, "spans": 1},
        "PER": {"f1": 0, "precision": 0, "recall": 0, "spans": 1},
    }


# Names of two words. Any first name begins a person, and goes before any family name; some family names alone are
# places, so that a label depends on the one before.
FIRST, OTHER = ("Ada", "Alan", "Grace", "Emmy"), ("saw", "met", "left")
FAMILY = ("Paris", "London", "Noether", "Turing")


def names() -> list[list[tuple[str, str]]]:
    """64 sentences with names of persons and places, in BIO labels."""
    obtained = []
    for i in range(64):
        first, family, verb = FIRST[i % 4], FAMILY[i // 4 % 4], OTHER[i % 3]
        person = [(first, "B-PER"), (family, "I-PER")]
        obtained.append([*person, (verb, "O"), (FAMILY[i // 16 % 2], "B-LOC"), (str(i), "O")])
    return obtained


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("names") / "names.tsv"
    path.write_text("\n\n".join("\n".join("\t".join(pair) for pair in sentence) for sentence in names()))
    return path


@pytest.fixture(scope="module")
def trained(sentences: Path) -> Path:
    path = sentences.with_name("run")
    assert run(["train", "tag", str(sentences), "--out", str(path), "--epochs", "12", *SIZE]) == 0
    return path


def test_names_are_found(elman: Command, trained: Path, sentences: Path) -> None:
    config = json.loads((trained / "config.json").read_text())
    (title, scores), _ = config["scores"].items()
    assert title == "bidirectional GRU 8, CRF"
    assert scores["span_f1"] > 0.9
    assert config["by_label"].keys() == {"LOC", "PER"}
    table = elman("evaluate", trained, sentences).out
    assert [line.split()[0] for line in table.splitlines() if line.strip().startswith(("PER", "LOC"))] == [
        "LOC",
        "PER",
    ]
    shown = json.loads(elman("evaluate", trained, sentences, "--json").out)
    assert shown["by_label"]["PER"]["spans"] == 64


@pytest.mark.slow
def test_a_report_has_the_scores_of_each_type(elman: Command, trained: Path, tmp_path: Path) -> None:
    assert elman("report", trained, "--out", tmp_path / "report.html").code == 0
    assert ">PER</th>" in (tmp_path / "report.html").read_text()


def test_probabilities_are_marginals(trained: Path) -> None:
    tagger = tasks.load(trained)
    sentence = ["Grace", "London", "saw", "qwertz", "Paris"]
    (P,) = tagger.predict_proba([sentence])
    batch = tagger.batch([sentence])
    with torch.inference_mode():
        emissions = tagger.model(batch)
        marginals, best = tagger.model.crf.decode(emissions, batch.lengths)  # type: ignore[union-attr, operator]
    np.testing.assert_allclose(P, marginals[:, 0], atol=1e-6)
    assert not np.allclose(P, emissions[:, 0].softmax(1), atol=1e-3)
    rows = tagger.predict([sentence])
    assert [row["label"] for row in rows] == tagger.classes_[best[:, 0]].tolist()
    assert [row["probability"] for row in rows] == [round(P[t, k], 4) for t, k in enumerate(best[:, 0])]
    # as `elman serve` predicts, together with the sentence of another request
    requests = [[Input("", sentence)], [Input("", ["Ada", "Turing"])]]
    assert TASK.predict_requests(tagger._loaded, requests)[0] == rows


def test_the_best_labels_of_a_sentence_are_not_those_of_its_words() -> None:
    """p(AA) = 0.4 is the most, but B is the most probable second label: p(AA) + p(BA) = 0.4, p(BB) = p(CB) = 0.3."""
    codec = TagCodec(["A", "B", "C"], [], [])
    prediction = TagPrediction(np.array([[0.4, 0.3, 0.3], [0.4, 0.6, 0.0]]), np.array([0, 0]))
    assert codec.best_labels(prediction) == ["A", "A"]
    assert TASK.metrics(codec, [prediction], [["A", "A"]])["accuracy"] == 1


def test_resuming_changes_nothing(elman: Command, sentences: Path, tmp_path: Path) -> None:
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    more = ["--schedule", "constant"]
    assert elman("train", "tag", sentences, "--out", whole, *SIZE, *more, "--epochs", "2").code == 0
    assert elman("train", "tag", sentences, "--out", parted, *SIZE, *more, "--epochs", "0.5").code == 0
    assert elman("train", "tag", "--resume", parted, "--epochs", "2").code == 0
    assert (whole / "model.safetensors").read_bytes() == (parted / "model.safetensors").read_bytes()


def test_runs_of_earlier_versions_have_no_crf() -> None:
    codec = TagCodec(["A", "B"], ["one"], ["o"])
    assert "crf" not in codec.model_args(TagOptions())
    assert codec.model_args(TagOptions(crf=True))["crf"] is True


@pytest.mark.slow
def test_an_exported_tagger_finds_the_best_labels(trained: Path, tmp_path: Path) -> None:
    tagger = tasks.load(unchecked(trained))
    randomize(tagger)
    exported = tagger.export("onnx", tmp_path / "out")
    texts = ["Ada Paris met London 7", "qwertz", "Emmy saw Emmy Turing Noether"]
    printed = used(EXAMPLES / "tag_words.py", exported.path, *texts)
    rows = [line.split("\t") for line in printed.splitlines() if line]
    assert rows == [[row["word"], row["label"]] for row in tagger.predict(texts)]
    emissions = tagger.model(tagger.batch(texts))
    assert emissions.argmax(2).T.flatten().tolist() != [tagger.classes_.tolist().index(label) for _, label in rows]
