"""elman train tag, from sentences to a run, and the run put to use."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from elman import cells, tasks
from elman.cli import run
from elman.data.examples import Example
from elman.engine import EXECUTORS
from elman.errors import BadInput
from elman.tasks import tag
from elman.tasks.codec import NO_LABEL
from elman.tasks.tag.data import read_inputs
from elman.tasks.tag.model import Sentences, Tagger
from elman.tasks.tag.options import TagOptions
from elman.tasks.tag.score import is_bio, span_scores
from elman.tasks.tag.task import TASK, TagCodec, TagPrediction
from tests.small import Command, files
from tests.test_bad_input import refused

SIZE = ["--hidden", "8", "--embed", "8", "--characters", "4", "--batch", "8", "--dropout", "0.1"]
SMALL = [*SIZE, "--epochs", "12", "--lr", "0.02"]
NOUNS, VERBS = ("cat", "dog", "bird", "cow", "fish"), ("sees", "bites", "likes", "hears")


def sentences() -> list[list[tuple[str, str]]]:
    """60 of three to six words, each with its label."""
    found = []
    for i in range(60):
        noun, verb, other = NOUNS[i % 5], VERBS[i % 4], NOUNS[i // 4 % 5]
        words = [("The", "DET"), (noun, "NOUN"), (verb, "VERB")]
        words += [("the", "DET"), (other, "NOUN")] if i % 3 else []
        found.append([*words, (str(i), "NUM"), (".", "PUNCT")])
    return found


def conllu(which: list[list[tuple[str, str]]], documents: int = 0) -> str:
    """CoNLL-U, with what is no word between the words, and a new document every so many sentences."""
    lines = []
    for n, sentence in enumerate(which):
        lines += [f"# newdoc id = {n}"] if documents and n % documents == 0 else []
        lines += ["# text = # this is a comment", "1-2\tThecat" + "\t_" * 8]
        lines += [f"{i}\t{word}\t{word}\t{label}" + "\t_" * 6 for i, (word, label) in enumerate(sentence, 1)]
        lines += ["2.1\tnothing" + "\t_" * 8, ""]
    return "\n".join(lines)


def columns(which: list[list[tuple[str, str]]]) -> str:
    return "\n\n".join("\n".join(f"{word} x {label}" for word, label in sentence) for sentence in which)


@pytest.fixture(scope="module")
def treebank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("treebanks") / "t.conllu"
    path.write_text(conllu(sentences()))
    return path


@pytest.fixture(scope="module")
def trained(treebank: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "run"
    assert run(["train", "tag", str(treebank), "--out", str(path), "--flow-every", "9", *SMALL]) == 0
    return path


@pytest.mark.sample(1)
@pytest.mark.parametrize("form", [conllu, columns])
def test_columns_as_lines_are_refused(
    elman: Command, trained: Path, monkeypatch: pytest.MonkeyPatch, form: Callable[[list[list[tuple[str, str]]]], str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(form(sentences()).encode()), "utf-8"))
    expected = "standard input: expected one sentence per line, got columns of words and labels; to read the"
    refused(elman("predict", trained), f"{expected} words, pass -: elman predict {trained} -")


@pytest.mark.parametrize(
    "lines", ["The NOUN\na NOUN\n", "a NOUN\nthe DET\na dog\n", "NOUN a\nDET a\nDET b\n", "a\nb\nc\n"]
)
def test_sentences_like_columns_are_sentences(
    elman: Command, trained: Path, monkeypatch: pytest.MonkeyPatch, lines: str
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines.encode()), "utf-8"))
    said = elman("predict", trained, "--format", "csv")
    assert (said.code, len(said.out.splitlines())) == (0, 1 + len(lines.split()))


def test_a_run_of_sentences(elman: Command, trained: Path, treebank: Path, tmp_path: Path) -> None:
    assert {"codec.json", "split.csv", "baseline.safetensors", "confusion.png", "flow.csv"} <= files(trained)
    config = json.loads((trained / "config.json").read_text())
    assert (config["data"]["train"], config["data"]["validation"], config["data"]["test"]) == (48, 6, 6)
    own, baseline = config["scores"].items()
    assert (own[0], baseline[0]) == ("bidirectional GRU 8", "most frequent label of the word")
    assert list(own[1]) == list(baseline[1]) == ["accuracy", "nats_per_word"]
    assert own[1]["accuracy"] > 0.9
    said = elman("evaluate", trained, treebank)
    assert said.code == 0
    assert "most frequent label" in said.out
    for command in (["info"], ["report"], ["flow"], ["draw", "--out", tmp_path / "net.svg"]):
        assert elman(command[0], trained, *command[1:]).code == 0
    assert "DET NOUN VERB" in (trained / "report.html").read_text()


def test_sentences_are_predicted(elman: Command, trained: Path, treebank: Path) -> None:
    said = elman("predict", trained, "The cow hears 7.", "The bird sees 9 .", "--format", "jsonl")
    rows = [json.loads(line) for line in said.out.splitlines()]
    assert [row["label"] for row in rows] == ["DET", "NOUN", "VERB", "NUM", "PUNCT"] * 2
    assert [row["sentence"] for row in rows] == [1] * 5 + [2] * 5
    assert [row["word"] for row in rows[5:]] == ["The", "bird", "sees", "9", "."]
    refused(elman("predict", trained, ""), "predict: expected a sentence, got ''")


def test_the_baseline_is_the_most_frequent_label(tmp_path: Path) -> None:
    labels = [["A", "B"], ["A", "C"], ["C", "C"], ["B", "C"]]
    many = [["one", "two"], ["one", "four"], ["one", "four"], ["two", "five"]]
    examples = [Example(*pair) for pair in zip(many, labels, strict=True)]
    codec = TagCodec.fit(examples, TagOptions())
    (baseline,) = TASK.fit_baselines(codec, examples, TagOptions(), 0)
    (again,) = TASK.load_baselines(codec, baseline.tensors())
    for one in (baseline, again):
        ((P, _),) = one.predict([Example(["One", "two", "four", "never"])])
        assert [codec.labels[i] for i in P.argmax(1)] == ["A", "B", "C", "C"]
        torch.testing.assert_close(P.sum(1), torch.ones(4).double().numpy())


def test_formats_say_the_same(elman: Command, treebank: Path, tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_text(columns(sentences()))
    named = TagOptions(column="3", words="1")
    found = [
        [(example.input, example.target) for example in TASK.read([name], options)]
        for name, options in ((treebank, TagOptions()), (path, TagOptions()), (path, named))
    ]
    assert found[0] == found[1] == found[2]
    assert [list(zip(*pair, strict=True)) for pair in found[0]] == sentences()
    assert next(iter(TASK.read([treebank], TagOptions(column="lemma")))).target == found[0][0][0]
    refused(elman("train", "tag", path, "--column", "2", *SMALL), "at least two different labels", "'x'")


def test_documents_are_never_cut(tmp_path: Path) -> None:
    path = tmp_path / "d.txt"
    path.write_text(conllu(sentences(), documents=5))
    parts = TASK.split_data([path], TagOptions(), 0)
    groups = [{example.group for example in part} for part in parts]
    assert [len(part) for part in parts] == [40, 10, 10]
    assert [len(part) for part in groups] == [8, 2, 2]
    assert len(set.union(*groups)) == 12
    path.write_text(columns(sentences()).replace("The x DET", "-DOCSTART- -X- O\n\nThe x DET"))
    assert len({example.group for example in TASK.read([path], TagOptions())}) == 60


def test_spans_are_scored_where_labels_are_bio() -> None:
    labels = ["B-PER", "I-PER", "O"]
    codec = TagCodec(labels, [], [])
    said = [TagPrediction.of(np.eye(3)[numbers]) for numbers in ([0, 1, 2], [2, 0])]
    found = TASK.metrics(codec, said, [["B-PER", "I-PER", "O"], ["O", "B-ORG"]])
    assert found == {"accuracy": 0.8, "span_f1": 0.5, "precision": 0.5, "recall": 0.5, "nats_per_word": 0}
    assert list(TASK.metrics(TagCodec(["B", "O"], [], []), [TagPrediction.of(np.eye(2))], [["B", "O"]])) == [
        "accuracy", "nats_per_word",
    ]  # fmt: skip
    assert not is_bio(["O", "NOUN"])
    assert is_bio(["O", "S-LOC", "E-LOC"])


@pytest.mark.parametrize(
    ("said", "right", "f1"),
    [
        ("B-A I-A O", "B-A I-A O", 1),
        ("I-A I-A O", "B-A I-A O", 1),  # what goes on with nothing begins
        ("B-A B-A O", "B-A I-A O", 0),
        ("B-A I-B O", "B-A O O", 2 / 3),
        ("S-A S-A O", "B-A B-A O", 1),
        ("B-A E-A I-A", "B-A I-A B-A", 1),
        ("O O O", "B-A I-A O", 0),
    ],
)
def test_spans(said: str, right: str, f1: float) -> None:
    assert span_scores([said.split()], [right.split()])["span_f1"] == f1


CODEC = TagCodec(["A", "B"], ["one", "two"], list("abcdefot"))


def batch(*texts: str) -> Sentences:
    return CODEC.collate([CODEC.encode(Example(text.split(), ["A"] * len(text.split())))[0] for text in texts])


@pytest.mark.parametrize("cell", cells.REGISTRY)
def test_every_cell_reads_each_sentence_as_if_alone(cell: str) -> None:
    model = Tagger(2, 8, 2, cell, 4, 3, 5, layers=2, dropout=0.5, word_dropout=0.5, bptt=3).eval()
    model.recurrent.executor = model.speller.executor = "loop"
    texts = ["one two abc two", "fed", "two cafe one"]
    together = model(batch(*texts))
    for b, text in enumerate(texts):
        alone = model(batch(text))[:, 0]
        torch.testing.assert_close(together[: len(alone), b], alone)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_words_that_are_not_known_are_spelled(executor: str) -> None:
    model = Tagger(2, 8, 2, "lstm", 4, 3, 5)
    model.recurrent.executor = model.speller.executor = executor
    assert batch("abc").words.tolist() == [[0]]
    assert not torch.equal(model(batch("abc")), model(batch("cab")))
    given = batch("one abc", "two")
    assert given.labels.tolist() == [[0, 0], [0, NO_LABEL]]
    loss, count, _ = model.loss(given)
    assert count == 3
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.slow
def test_labels_of_the_test_that_were_not_learnt_are_wrong(elman: Command, treebank: Path, tmp_path: Path) -> None:
    (tmp_path / "other.conllu").write_text(treebank.read_text().replace("VERB", "MOVE"))
    more = ["--test", tmp_path / "other.conllu", "--validation", tmp_path / "other.conllu", "--out", tmp_path / "run"]
    said = elman("train", "tag", treebank, *more, *SMALL)
    assert said.code == 0
    own, baseline = json.loads((tmp_path / "run/config.json").read_text())["scores"].values()
    verbs = sum(label == "VERB" for sentence in sentences() for _, label in sentence)
    words = sum(map(len, sentences()))
    assert baseline["accuracy"] == pytest.approx(1 - verbs / words)
    assert own["accuracy"] <= baseline["accuracy"]
    assert f"{verbs:,} words have labels that are not in the training part and count as errors: 'MOVE'" in said.err
    (tmp_path / "none.txt").write_text("one X\ntwo Y\n")
    refused(
        elman("evaluate", tmp_path / "run", tmp_path / "none.txt"), "expected labels of the training data,", "'X', 'Y'"
    )


def test_resuming_changes_nothing(elman: Command, treebank: Path, tmp_path: Path) -> None:
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    more = ["--dropout", "0.3", "--schedule", "constant"]
    assert elman("train", "tag", treebank, "--out", whole, *SMALL, *more, "--epochs", "4").code == 0
    assert elman("train", "tag", treebank, "--out", parted, *SMALL, *more, "--epochs", "1.5").code == 0
    assert elman("train", "tag", "--resume", parted, "--epochs", "4").code == 0
    assert (whole / "model.safetensors").read_bytes() == (parted / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_in_python(tmp_path: Path) -> None:
    pairs = [zip(*sentence, strict=True) for sentence in sentences()]
    many, labels = zip(*[(list(words), list(own)) for words, own in pairs], strict=True)
    found = tag.fit((many, labels), tmp_path / "run", hidden=8, embed=8, epochs=12, lr=0.02, batch=8, cell="lstm")
    assert next(iter(found.evaluate((many, labels)).values()))["accuracy"] > 0.9
    assert [row["label"] for row in found.predict([["The", "cow", "hears"]])] == ["DET", "NOUN", "VERB"]


WORD = "1\tone\tone\tNUM" + "\t_" * 6 + "\n"
BAD: list[tuple[str, str, list[str], list[str]]] = [
    ("empty", "", [], ["expected a text", "empty"]),
    ("blank", "\n\n", [], ["expected sentences with one word per line, got none"]),
    ("name", WORD, ["--column", "pos"], ["--column", "a column from 1 to 10, or one of id, form", "got 'pos'"]),
    ("number", "a b\n", ["--column", "3"], ["--column", "expected a column from 1 to 2; got '3'"]),
    ("words", "a b\n", ["--words", "form"], ["--words", "expected a column from 1 to 2; got 'form'"]),
    ("short", "a A\nb B\n\na A\nb\n", [], ["line 5: expected at least 2 columns, got 1", "--skip-bad"]),
    ("one column", "a\nb\n", [], ["line 1: expected a word and its label", "got 'a'"]),
    ("commas", "a,A\nb,B\n", [], ["line 1: expected a word and its label", "got 'a,A'"]),
    (
        "one for both",
        "a A\n",
        ["--words", "2", "--column", "2"],
        ["--column", "other than that of the words", "got 2 for both"],
    ),
    ("no label", WORD + WORD.replace("NUM", "_"), [], ["line 2: expected a label in column 4, got '_'", "--skip-bad"]),
    ("empty label", WORD + WORD.replace("NUM", ""), [], ["line 2: expected a label in column 4, got ''"]),
    ("empty word", WORD + WORD.replace("\tone", "\t", 1), [], ["line 2: expected a word in column 2, got ''"]),
    ("an id", WORD + "x" + WORD, [], ["line 2: expected an id like 3, 3-4 or 3.1, got 'x1'", "--skip-bad"]),
    ("comments", "# text = a\n# text = b\n", [], ["expected sentences with one word per line, got none"]),
    ("few", "a A\n\nb B\n", [], ["at least 3 different examples"]),
]


@pytest.mark.parametrize(("data", "more", "parts"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_wrong_files(elman: Command, tmp_path: Path, data: str, more: list[str], parts: list[str]) -> None:
    path = tmp_path / "t.txt"
    path.write_text(data)
    refused(elman("train", "tag", path, "--out", tmp_path / "run", *SMALL, *more), *parts)
    assert files(tmp_path) == {"t.txt"}


def test_four_columns_are_no_conllu(elman: Command, tmp_path: Path) -> None:
    path = tmp_path / "t.conllu"
    path.write_text("# text = one two\n1\tone\tNUM\t_\n2\ttwo\tNUM\t_\n")
    refused(elman("train", "tag", path), "line 2: expected 10 tab-separated columns of CoNLL-U", "got 4", "--skip-bad")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("word", ["12\u00a0000", "a\u2028b", "a\u0085b", "a\u3000b", "a\x0cb"])
@pytest.mark.parametrize("gap", ["\t", " ", "  "])
def test_words_are_cut_at_tabs_and_plain_spaces_alone(tmp_path: Path, gap: str, word: str, end: str) -> None:
    path = tmp_path / "t.txt"
    path.write_bytes(f"{word}{gap}N{end}.{gap}P{end}{end}c{gap}N{end}".encode())
    assert [(one.input, one.target) for one in TASK.read([path], TagOptions())] == [
        ([word, "."], ["N", "P"]), (["c"], ["N"]),
    ]  # fmt: skip
    path.write_bytes(f"New York\tN{end}{word}\tP".encode())
    assert [one.input for one in TASK.read([path], TagOptions())] == [["New York", word]]


def test_features_may_be_none(tmp_path: Path) -> None:
    path = tmp_path / "t.conllu"
    path.write_text(WORD)
    assert [one.target for one in TASK.read([path], TagOptions(column="feats"))] == [["_"]]


def test_what_is_wrong(elman: Command, tmp_path: Path, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", tmp_path / "run", *SMALL]
    latin = tmp_path / "latin"
    latin.write_bytes("caf\u00e9 A\n".encode("cp1252"))
    refused(elman("train", "tag", latin, *out), "latin", "0xe9 at offset 3", "--encoding cp1252")
    refused(elman("train", "tag", tmp_path / "none", *out), "none", "does not exist")
    refused(elman("train", "tag", *out), "expected DATA")
    refused(elman("evaluate", trained, latin), "0xe9")
    short = tmp_path / "short"
    short.write_text(columns(sentences()) + "\n\nodd\n")
    refused(elman("train", "tag", short, *out), "expected at least 3 columns, got 1", "--skip-bad")
    assert not (tmp_path / "run").exists()
    capsys.readouterr()
    assert len(list(TASK.read([short], TagOptions(skip_bad=True)))) == 60
    assert "skipped 1 unusable example" in capsys.readouterr().err


@pytest.mark.slow
def test_a_file_to_predict_is_read_in_columns(elman: Command, trained: Path, treebank: Path, tmp_path: Path) -> None:
    right = [(str(n), word) for n, one in enumerate(sentences(), 1) for word, _ in one]
    spaced, bare, tabbed = tmp_path / "t.txt", tmp_path / "words.txt", tmp_path / "t.tags"
    spaced.write_text(columns(sentences()))
    bare.write_text("\n\n".join("\n".join(word for word, _ in one) for one in sentences()))
    tabbed.write_text("\n\n".join("\n".join(f"{word}\tx" for word, _ in one) for one in sentences()))
    for path in (treebank, spaced, bare, tabbed):
        said = elman("predict", trained, path, "--format", "csv")
        assert [tuple(row.split(",")[:2]) for row in said.out.splitlines()[1:]] == right, path
    said = elman("predict", trained, bare, "The end .", "--format", "csv")
    assert said.out.splitlines()[-1].startswith("61,.,")
    for lines in ("The cat sees\nA dog .\n", "The cat sees .\n", "one two\nsix ten\n"):
        bare.write_text(lines)
        refused(elman("predict", trained, bare), "words.txt: expected one word per line", "standard input")
    refused(elman("predict", trained, treebank.parent), "expected a text or a file, got a folder")
    found = tasks.load(trained)
    assert len(found.predict(treebank)) == len(found.predict(str(treebank))) == len(right)


COMMENTED = "# id 001 domain=en\nthe _ _ O\nking _ _ B-PER\n# _ _ O\n\n# id 002 domain=en\n# _ _ O\nspain _ _ B-LOC\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (COMMENTED, ["the king #", "# spain"]),
        (COMMENTED.replace(" ", "\t").replace("#\tid\t", "# id "), ["the king #", "# spain"]),
        ("#hi HT\nyou O\n\n# HT\nme O\n\nand O\n# HT\n", ["#hi you", "# me", "and #"]),  # every # is a word
        ("#hi\tHT\nyou\tO\n\n#\tHT\n", ["#hi you", "#"]),
        ("#begin document (a); part 000\na x O\n\n#end document\n#begin document (b)\nb x O\n", ["a", "b"]),
    ],
)
def test_comments_in_columns_are_no_words(tmp_path: Path, text: str, expected: list[str]) -> None:
    path = tmp_path / "t.conll"
    path.write_text(text)
    assert [" ".join(one.input) for one in TASK.read([path], TagOptions())] == expected


def test_comments_are_counted_and_mark_documents(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t.conll"
    path.write_text(COMMENTED)
    assert {label for one in TASK.read([path], TagOptions()) for label in one.target} == {"O", "B-PER", "B-LOC"}
    assert capsys.readouterr().err == (f"{path}: 2 lines read as comments, the first in line 1: '# id 001 domain=en'\n")
    path.write_text("# newdoc\na A\n\nb B\n\n# newdoc\nc A\n")
    assert [one.group for one in TASK.read([path], TagOptions())] == [("document", str(path), n) for n in (1, 1, 2)]


def test_sentences_of_pairs_as_nltk_has_them(tmp_path: Path) -> None:
    pairs = [tuple(zip(*sentence, strict=True)) for sentence in sentences()]
    beside = tuple([list(pair[side]) for pair in pairs] for side in (0, 1))
    expected = [(one.input, one.target) for one in TASK.read(beside, TagOptions())]
    for given in (sentences(), iter(sentences()), [list(map(list, one)) for one in sentences()], tuple(sentences())):
        assert [(one.input, one.target) for one in TASK.read(given, TagOptions())] == expected
    small: dict[str, Any] = {"hidden": 4, "embed": 4, "characters": 4, "epochs": 0.2}
    found = tag.fit(sentences(), tmp_path / "run", validation=sentences()[:5], **small)
    assert found.evaluate(sentences()) == found.evaluate(beside)


NO_SENTENCES: list[tuple[Any, str]] = [
    (5, "tag: expected files, sentences of .* pairs, or a tuple of sentences and their labels; got 5$"),
    ({"word": ["a"]}, "tag: expected files, .*; got dict"),
    ([], "tag: expected files, .*; got an empty list"),
    ([("a", "A"), ("b", "B")], r"tag: sentence 1: expected a list of \(word, label\) pairs, got 'a' in it"),
    ([[("a", "A", "x")]], r"sentence 1: expected a list of \(word, label\) pairs, got \('a', 'A', 'x'\) in it"),
    ([[("a", None)]], "sentence 1: expected a label, got none"),
    ([[("a", "A")], [(None, "A")]], "sentence 2: expected words, got None"),
    (([["a"]], [["A"]], [["B"]]), r"sentence 1: expected a list of \(word, label\) pairs, got \['a'\] in it"),
    (([["a"]],), r"sentence 1: expected a list of \(word, label\) pairs, got \['a'\] in it"),
    (([["a", "b"]], ["AB"]), "sentence 1: expected a list of words and as many labels, got .* and 'AB'"),
    (([["a"]], [["A"], ["B"]]), "tag: expected as many sentences as labels, got 1 and 2"),
]


@pytest.mark.parametrize(("data", "message"), NO_SENTENCES)
def test_what_is_no_sentences_in_python(tmp_path: Path, data: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        tag.fit(data, tmp_path / "run")
    assert not files(tmp_path)


def test_pairs_are_no_words_to_predict(trained: Path) -> None:
    wrong: list[list[Any]] = [[[("The", "DET")]], [5], [[None]]]
    for given in wrong:
        with pytest.raises(BadInput, match="input 1: predict: expected"):
            tasks.load(trained).predict(given)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("EU B-ORG\n# a comment here\nx O\n# O\n", ["EU x #"]),  # a comment between words, and a word
        ("a x y z O\n\n# text = blood O\nb x y z O\n", ["a", "b"]),  # as many columns as words have, and their label
        ("EU B-ORG\n-DOCSTART- O\nx O\n", ["EU", "x"]),  # a document ends a sentence
    ],
)
def test_comments_between_words(tmp_path: Path, text: str, expected: list[str]) -> None:
    path = tmp_path / "t.conll"
    path.write_text(text)
    assert [" ".join(one.input) for one in TASK.read([path], TagOptions())] == expected


def test_lines_with_more_columns_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.conll"
    path.write_text("x O\nNew York B-LOC\n")
    with pytest.raises(BadInput, match=r"line 2: expected 2 columns, as in the first line, got 3; pass --column 2"):
        list(TASK.read([path], TagOptions()))
    named = list(TASK.read([path], TagOptions(column="2")))
    assert named[0].target == ["O", "York"]


def test_comments_of_what_is_predicted_are_counted_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t.conll"
    path.write_text("# id 1 domain=en\nEU B-ORG\n\n# id 2 domain=en\nx O\n")
    found = list(read_inputs(path, TagOptions(column="2"), ["B-ORG", "O"]))
    assert [one.input for one in found] == [["EU"], ["x"]]
    assert "2 lines read as comments, the first in line 1" in capsys.readouterr().err
