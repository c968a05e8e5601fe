"""Texts with several labels, weights of labels, and predictions of several labels."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.utils.class_weight import compute_class_weight
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from elman import tasks
from elman.baselines import linear
from elman.cli import run
from elman.data.examples import Example
from elman.errors import BadInput
from elman.tasks import Trained, classify, image, tag
from elman.tasks.classify import multi_label
from elman.tasks.classify.data import labels_of
from elman.tasks.classify.model import TextClassifier
from elman.tasks.classify.options import ClassifyOptions
from elman.tasks.classify.task import TASK, ClassifyCodec
from elman.tasks.tag.options import TagOptions
from elman.tasks.tag.task import TagCodec
from tests.small import Command, unchecked
from tests.tasks.test_classify import batch
from tests.tasks.test_export import EXAMPLES, randomize, used
from tests.tasks.test_image import bars
from tests.tasks.test_tag import sentences
from tests.test_bad_input import refused

SIZE = ["--hidden", "8", "--embed", "8", "--pieces", "100", "--batch", "8", "--dropout", "0.1", "--smoothing", "0"]
SIZE += ["--word-dropout", "0"]


def films() -> tuple[list[str], list[list[str]]]:
    """80 texts with none to three labels, one for each of three words."""
    words = {"funny": "comedy", "sad": "drama", "loud": "action"}
    many, labels = [], []
    for i in range(80):
        chosen = [word for bit, word in enumerate(words) if i >> bit & 1]
        many.append(f"film {i} is {' '.join(chosen)} to me")
        labels.append([words[word] for word in chosen])
    return many, labels


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("films") / "films.csv"
    rows = [{"text": text, "label": ",".join(labels)} for text, labels in zip(*films(), strict=True)]
    pl.DataFrame(rows).write_csv(path)
    return path


@pytest.fixture(scope="module")
def trained(table: Path) -> Trained:
    path = table.with_name("run")
    more = ["--multi-label", "--epochs", "12", "--lr", "0.02", "--out", str(path)]
    assert run(["train", "classify", str(table), *SIZE, *more]) == 0
    return tasks.load(path)


def test_a_run_with_several_labels(elman: Command, trained: Trained, table: Path) -> None:
    config = trained.run.config
    own, baseline = config["scores"].values()
    assert list(own) == list(baseline) == ["micro_f1", "macro_f1", "exact_match", "nats_per_text"]
    assert own["micro_f1"] > 0.9
    assert trained.score(table) == trained.evaluate(table)[str(trained.model.title)]["micro_f1"]
    assert config["by_label"].keys() == {"action", "comedy", "drama"}
    assert not (trained.run.path / "confusion.png").exists()
    output = elman(
        "predict", trained.run.path, "film 5 is funny loud to me", "film 8 is to me", "--format", "jsonl"
    ).out
    first, second = (json.loads(line) for line in output.splitlines())
    assert sorted(first["labels"]) == ["action", "comedy"]
    assert first["probabilities"] == sorted(first["probabilities"], reverse=True)
    assert min(first["probabilities"]) >= 0.5
    assert second["labels"] == second["probabilities"] == []
    P = trained.predict_proba(["film 5 is funny loud to me"])
    assert P.shape == (1, 3)
    assert sorted(first["probabilities"]) == sorted(P[P >= 0.5].round(4))
    (row,) = csv.DictReader(elman("predict", trained.run.path, "funny loud", "--format", "csv").out.splitlines())
    assert row["labels"].split(",") == trained.predict("funny loud")[0]["labels"]


def test_labels_of_a_cell() -> None:
    assert labels_of(" b|a | |b", "row 1", "|") == ("a", "b")
    assert labels_of(["x", 2, np.str_("x")], "row 1", ",") == ("2", "x")
    assert labels_of({"a"}, "row 1", ",") == ("a",)
    assert labels_of(7, "row 1", ",") == ("7",)
    assert labels_of(None, "row 1", ",") == labels_of(math.nan, "row 1", ",") == labels_of("", "row 1", ",") == ()
    with pytest.raises(BadInput, match="row 1: expected a label, got none"):
        labels_of(["a", None], "row 1", ",")


CODEC = ClassifyCodec(["a", "b", "c"], ["one", "two", "three"], pieces=50, terms={}, multi_label=True)


def test_the_metrics_are_those_of_scikit_learn() -> None:
    draw = np.random.default_rng(0)
    P, Y = draw.random((50, 3)), draw.random((50, 3)) < 0.4
    targets = [tuple(np.array(CODEC.labels)[row]) for row in Y]
    obtained = multi_label.metrics(CODEC, list(P), targets)
    expected = {f"{kind}_f1": f1_score(Y, P >= 0.5, average=kind) for kind in ("micro", "macro")}
    nats = binary_cross_entropy_with_logits(torch.logit(torch.tensor(P)), torch.tensor(Y).double(), reduction="sum")
    expected |= {"exact_match": ((P >= 0.5) == Y).all(1).mean(), "nats_per_text": nats.item() / 50}
    assert obtained == pytest.approx(expected)
    rows = multi_label.metrics_of_labels(CODEC, list(P), targets)
    assert [row["f1"] for row in rows.values()] == pytest.approx(f1_score(Y, P >= 0.5, average=None))
    assert [row["texts"] for row in rows.values()] == Y.sum(0).tolist()


def test_labels_that_were_not_learnt_are_errors(capsys: pytest.CaptureFixture[str]) -> None:
    P, targets = [np.array([0.9, 0.1, 0.2])] * 2, [("a",), ("a", "z")]
    obtained = multi_label.metrics(CODEC, P, targets)
    assert obtained["micro_f1"] == 2 * 2 / (2 + 3)
    assert obtained["exact_match"] == 0.5
    CODEC.check_targets([Example("x", target, name="row") for target in targets])
    assert "1 labels of texts are not in the training part and count as errors: z" in capsys.readouterr().err
    with pytest.raises(BadInput, match="row: expected labels of the training data, a, b, c; got z"):
        CODEC.check_targets([Example("x", ("z",), name="row")])


def test_the_baseline_is_a_regression_for_each_label() -> None:
    draw = np.random.default_rng(0)
    X, Y = draw.normal(size=(40, 5)), (draw.random((40, 3)) < 0.4).astype(int)
    Y[:, 2] = 0
    obtained = 1 / (1 + np.exp(-linear.logits(linear.one_vs_rest(X, Y), X)))
    expected = OneVsRestClassifier(LogisticRegression(max_iter=1000)).fit(X, Y[:, :2]).predict_proba(X)
    np.testing.assert_allclose(obtained[:, :2], expected, atol=1e-4)
    assert (obtained[:, 2] < 0.02).all()


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_of_several_labels(smoothing: float) -> None:
    model = TextClassifier(
        3, 50, 3, embed=4, hidden=5, smoothing=smoothing, multi_label=True, class_weights=(2.0, 1, 4)
    )
    encoded = [CODEC.encode(Example(text, labels))[0] for text, labels in (("one two", ("a", "c")), ("two", ()))]
    given = CODEC.collate(encoded)
    assert given.labels.tolist() == [[1, 0, 1], [0, 0, 0]]
    logits = model(given)
    targets = given.labels * (1 - smoothing) + smoothing / 2
    # N / (2 n) = 2, 1 and 4: a quarter, half and an eighth of texts have the label, and the others N / (2 (N - n)).
    weights = torch.where(given.labels > 0, torch.tensor([2.0, 1, 4]), torch.tensor([2 / 3, 1, 4 / 7]))
    expected = binary_cross_entropy_with_logits(logits, targets, weights, reduction="sum")
    torch.testing.assert_close(model.loss(given)[0], expected)
    model.eval()
    torch.testing.assert_close(
        model.loss(given)[0], binary_cross_entropy_with_logits(logits, given.labels, reduction="sum")
    )


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    many, labels = ["good", "fine", "great", "bad"], ["pos", "pos", "pos", "neg"]
    examples = [Example(*pair) for pair in zip(many, labels, strict=True)]
    codec = ClassifyCodec.fit(examples, ClassifyOptions(class_weight="balanced"))
    expected = compute_class_weight("balanced", classes=np.array(["neg", "pos"]), y=labels)
    assert codec.class_weights == pytest.approx(expected, abs=1e-6)
    assert codec.model_args(ClassifyOptions())["class_weights"] == codec.class_weights
    both = [example._replace(target=(example.target, "all")) for example in examples]
    codec = ClassifyCodec.fit(both, ClassifyOptions(class_weight="balanced", multi_label=True))
    assert codec.class_weights == [0.5, 2.0, pytest.approx(4 / 6, abs=1e-6)]  # all, neg, pos
    words = [Example(["a", "b", "c"], ["X", "X", "Y"]), Example(["d"], ["X"])]
    codec = TagCodec.fit(words, TagOptions(class_weight="balanced"))  # type: ignore[assignment]
    assert codec.class_weights == [pytest.approx(4 / 6, abs=1e-6), 2.0]
    with pytest.raises(BadInput, match="--class-weight: expected no --crf"):
        TagCodec.fit(words, TagOptions(class_weight="balanced", crf=True))
    with pytest.raises(BadInput, match="--smoothing: expected no --crf"):
        TagCodec.fit(words, TagOptions(smoothing=0.1, crf=True))
    for options, smoothing in ((TagOptions(), 0.05), (TagOptions(smoothing=0.3), 0.3), (TagOptions(crf=True), None)):
        assert TagCodec.fit(words, options).model_args(options).get("smoothing") == smoothing


def test_weights_are_those_of_the_loss_of_training() -> None:
    model = TextClassifier(3, 50, 3, embed=4, hidden=5, class_weights=(1.0, 3.0, 1.0))
    given = batch("one", "two three")  # both with the label 1
    logits = model(given)
    torch.testing.assert_close(model.loss(given)[0], 3 * cross_entropy(logits, given.labels, reduction="sum"))
    torch.testing.assert_close(model.eval().loss(given)[0], cross_entropy(logits, given.labels, reduction="sum"))


@pytest.mark.slow
def test_rare_labels_are_found_with_weights(tmp_path: Path) -> None:
    """And the baseline has the same weights."""
    many = [f"{word} {i}" for i in range(60) for word in ("plain", "plain", "plain", "plain", "rare")]
    labels = ["no", "no", "no", "yes", "yes"] * 60  # a plain text is "yes" in a quarter of all cases
    common: dict[str, Any] = {"hidden": 8, "embed": 8, "pieces": 50, "epochs": 3, "lr": 0.02}
    weighted = classify.fit((many, labels), tmp_path / "a", class_weight="balanced", **common)
    alike = classify.fit((many, labels), tmp_path / "b", **common)
    assert weighted.predict_proba(["plain 3"])[0, 1] > alike.predict_proba(["plain 3"])[0, 1] + 0.05
    own, other = ([row["nats_per_text"] for row in run.scores.values()][1] for run in (weighted, alike))
    assert own != other


def test_the_most_probable_labels(elman: Command, trained: Trained) -> None:
    rows = trained.predict(["funny", "loud"], top_k=2)
    P = trained.predict_proba(["funny", "loud"])
    for row, p in zip(rows, P, strict=True):
        order = np.argsort(-p)[:2]
        assert row["labels"] == trained.classes_[order].tolist()
        assert row["probabilities"] == p[order].round(4).tolist()
    assert classify.predict(trained, ["funny", "loud"], top_k=2) == rows
    output = elman("predict", trained.run.path, "funny", "loud", "--top-k", "2", "--format", "jsonl").out
    assert [json.loads(line) for line in output.splitlines()] == rows
    assert len(trained.predict("funny", top_k=9)[0]["labels"]) == 3
    refused(elman("predict", trained.run.path, "funny", "--top-k", "0"), "--top-k", "of at least 1")
    with pytest.raises(ValueError, match="top_k: expected an integer of at least 1, got 0"):
        trained.predict("funny", top_k=0)


@pytest.mark.slow
def test_the_most_probable_labels_of_other_tasks(tmp_path: Path, elman: Command, file: Path) -> None:
    tagger = tag.fit(sentences(), tmp_path / "tag", hidden=4, embed=4, characters=4, epochs=0.1)
    rows = tagger.predict([["The", "cow"]], top_k=2)
    (P,) = tagger.predict_proba([["The", "cow"]])
    assert [row["word"] for row in rows] == ["The", "cow"]
    assert [row["labels"] for row in rows] == [tagger.classes_[np.argsort(-p)[:2]].tolist() for p in P]
    images, _ = bars(20)
    reader = image.fit(bars(20), tmp_path / "image", hidden=4, epochs=0.1)
    assert [len(row["labels"]) for row in reader.predict(images[:3], top_k=2)] == [2, 2, 2]
    assert "table" not in reader.predict(images[:1])[0]
    text = tmp_path / "text"
    assert elman("train", "text", file, "--hidden", "4", "--epochs", "0.1", "--out", text).code == 0
    refused(elman("predict", text, "--top-k", "2"), "--top-k: expected a model that predicts labels, got the run")


def test_lists_of_labels_in_python_and_in_streams(tmp_path: Path) -> None:
    many, labels = films()
    options = ClassifyOptions(multi_label=True, hidden=4, embed=4, pieces=50)
    codec, splits, *_ = TASK.prepare((many, labels), options, 0).details
    assert codec.labels == ["action", "comedy", "drama"]
    assert sum(map(len, splits)) == 80
    pl.DataFrame({"text": many, "label": labels}).write_parquet(tmp_path / "a.parquet")
    streamed = options.model_copy(update={"stream": True})
    codec, splits, *_ = TASK.prepare([tmp_path / "a.parquet"], streamed, 0).details
    assert codec.labels == ["action", "comedy", "drama"]
    assert all(isinstance(example.target, tuple) for example in splits.train)


@pytest.mark.slow
def test_an_exported_classifier_of_several_labels(trained: Trained, tmp_path: Path) -> None:
    unchecked(trained.run.path)
    randomize(trained)
    exported = trained.export("onnx", tmp_path / "out")
    sentences = ["Funny, and loud", "a sad film"]
    printed = used(EXAMPLES / "classify_text.py", exported.path, *sentences).splitlines()
    for line, row in zip(printed, trained.predict(sentences), strict=True):
        chosen = [part.rsplit(" ", 1) for part in line.split("\t")[0].split(", ") if part]
        assert [label for label, _ in chosen] == row["labels"]
        np.testing.assert_allclose([float(p) for _, p in chosen], row["probabilities"], atol=1e-3)
