"""`elman explain` writes a page with the numbers of elman.textbook. What a browser makes of it: tests/browser."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from elman import textbook
from elman.report.explain import page
from elman.report.explain.lesson import Lesson, train
from elman.textbook import ACTIVATIONS, Array, Parameters
from tests import tolerances
from tests.small import Command
from tests.small import files as files_in

SENTENCES = ("please stay at home", "no no yes", "the cat sat on the mat and the dog lay on it")
every_lesson = pytest.mark.parametrize(
    "lesson", [Lesson(tuple(s.split()), hidden=3, activation=g, seed=2) for s in SENTENCES for g in ACTIVATIONS]
)


def close(actual: Any, expected: Array) -> None:
    tolerances.close(torch.as_tensor(np.asarray(actual)), torch.as_tensor(expected), "gradients")


def embedded(html: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="lesson">(.*?)</script>', html, re.DOTALL)
    assert found
    return dict(json.loads(found[1]))


def written(lesson: Lesson) -> str:
    return page.write(lesson, train(lesson).losses, "elman explain")


def added(lesson: Lesson, terms: list[list[list[float]]], h: Array, only: int | None = None) -> tuple[Array, ...]:
    """The terms of one loss or of all, as products, added up: for U, W and b."""
    H, D = lesson.hidden, len(lesson.vocabulary)
    U, W, b = np.zeros((H, D)), np.zeros((H, H)), np.zeros(H)
    for t, row in enumerate(terms):
        assert len(row) == t + 1
        for k, da in enumerate(row):
            if only in (None, t):
                U += np.outer(da, lesson.x[k])
                W += np.outer(da, h[k - 1] if k else np.zeros(H))
                b += da
    return U, W, b


@every_lesson
def test_the_page_holds_the_numbers_of_the_textbook(lesson: Lesson) -> None:
    found = embedded(written(lesson))
    assert found["words"] == list(lesson.words)
    assert found["vocabulary"] == list(dict.fromkeys(lesson.words))
    p = textbook.start(len(lesson.vocabulary), 3, len(lesson.vocabulary), seed=2)
    for name, w in p._asdict().items():
        assert np.array_equal(found["start"][name], w)
    losses = []
    for _ in range(lesson.steps + 1):
        y = textbook.forward(p, lesson.x, lesson.activation).y
        losses.append(textbook.cross_entropy(y, lesson.targets))
        p = textbook.descend(p, textbook.bptt(p, lesson.x, lesson.targets, lesson.activation), 0.5)
    assert found["check"]["losses"] == losses


@every_lesson
def test_the_terms_add_up_to_the_gradient(lesson: Lesson) -> None:
    found, p = embedded(written(lesson))["check"], lesson.start()
    gradient = textbook.bptt_as_sum(p, lesson.x, lesson.targets, lesson.activation)
    h = textbook.forward(p, lesson.x, lesson.activation).h
    for actual, name in zip(added(lesson, found["terms"], h), "UWb", strict=True):
        close(actual, getattr(gradient, name))
    for name, value in gradient._asdict().items():
        close(found["gradient"][name], value)


@every_lesson
def test_the_terms_of_a_step_are_the_gradient_of_its_loss(lesson: Lesson) -> None:
    terms, p, T = embedded(written(lesson))["check"]["terms"], lesson.start(), len(lesson.x)

    def up_to(steps: int) -> Parameters:
        """The gradient of the sum, not the mean, of the first losses."""
        gradient = textbook.bptt(p, lesson.x[:steps], lesson.targets[:steps], lesson.activation)
        return Parameters(*(steps * w for w in gradient))

    h = textbook.forward(p, lesson.x, lesson.activation).h
    for t in range(1, T):
        alone = Parameters(*((a - b) / T for a, b in zip(up_to(t + 1), up_to(t), strict=True)))
        for actual, name in zip(added(lesson, terms, h, only=t), "UWb", strict=True):
            close(actual, getattr(alone, name))


def test_the_page_is_one_whole_file_that_loads_nothing() -> None:
    html = written(Lesson(("please", "stay")))
    assert html.startswith("<!doctype html>")
    assert html.rstrip().endswith("</html>")
    assert not re.findall(r"\{\{\w+\}\}", html)
    assert not re.findall(r"""\bsrc=|https?:|@import|url\(|fetch\(|href="(?!data:,")""", html)
    for name in (*page.SCRIPTS, "page.css"):
        last = (Path(page.__file__).parent / "templates" / name).read_text().splitlines()[-1]
        assert last in html


def test_words_are_never_taken_for_markup() -> None:
    words = ("</script>", "<b>&amp;", "{{style}}", '"\\u003c', "<!--")
    html = written(Lesson(words))
    assert embedded(html)["words"] == list(words)
    assert html.count("</script>") == 2
    assert "<b>" not in re.sub(r"<script>.*", "", html, flags=re.DOTALL)
    assert "“&lt;/script&gt; &lt;b&gt;&amp;amp; {{style}}" in html


def test_the_command(elman: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = elman("explain", "please stay at home")
    assert (said.code, said.err) == (0, "")
    assert "loss 1.510 untrained, 0.012 trained" in said.out
    assert 'after "please stay at": home 99%' in said.out
    assert said.out.endswith("page: explain.html\n")
    found = embedded((tmp_path / "explain.html").read_text(encoding="utf-8"))
    assert (found["hidden"], found["activation"], found["learning_rate"], found["steps"]) == (4, "tanh", 0.5, 100)
    options = ["--hidden", 2, "--activation", "ReLU", "--lr", 0.1, "--steps", 1, "--seed", 3, "--out", "other.html"]
    assert elman("explain", "caf\u00e9 au lait", *options).code == 0
    html = (tmp_path / "other.html").read_text(encoding="utf-8")
    found = embedded(html)
    assert (found["hidden"], found["activation"], found["learning_rate"], found["steps"]) == (2, "relu", 0.1, 1)
    assert found["words"] == ["caf\u00e9", "au", "lait"]
    again = "elman explain &#39;caf\u00e9 au lait&#39; --hidden 2 --activation relu --lr 0.1 --steps 1 --seed 3"
    assert f"<code>{again}</code>" in html
    assert files_in(tmp_path) == {"explain.html", "other.html"}


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_a_training_that_explodes_is_shown_too(elman: Command, tmp_path: Path, activation: str) -> None:
    out = tmp_path / "page.html"
    said = elman("explain", "a b c b", "--lr", 1e200, "--activation", activation, "--out", out)
    assert (said.code, said.err) == (0, "")
    losses = embedded(out.read_text())["check"]["losses"]
    assert losses[0] is not None
    assert losses[-1] is None or losses[-1] > 100


def test_words_are_what_stands_between_blanks(elman: Command, tmp_path: Path) -> None:
    family = "\N{MAN}\u200d\N{WOMAN}\u200d\N{GIRL}\ufe0f"  # one letter to those who read it
    said = elman("explain", f" please\tstay \n  {family}  home\n", "--out", tmp_path / "page.html")
    assert (said.code, said.err) == (0, "")
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert embedded(html)["words"] == ["please", "stay", family, "home"]
    assert f"<code>elman explain &#39;please stay {family} home&#39;" in html


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--lr", 1000], "the loss was infinite after 3 steps and finite again after 4 steps; try a smaller --lr"),
        (["--lr", 1000, "--steps", 3], "training diverged"),
        (["--lr", 1000, "--steps", 1], "\n1 step of gradient descent, learning rate 1000:"),
        (["--lr", 1000], "loss 1.510 untrained, 0.000 trained"),
        (["--lr", 1e308], "training diverged, as the page shows"),
    ],
)
def test_what_a_long_step_does_is_told(elman: Command, tmp_path: Path, options: list[Any], told: str) -> None:
    said = elman("explain", "please stay at home", *options, "--out", tmp_path / "page.html")
    assert told in said.out
    assert ("exploded" in said.out) == ("exploded" in told)


BAD = [
    (["home"], ["SENTENCE", "2 to 12 words", "in quotes", "got 1, 'home'"]),
    ([""], ["SENTENCE", "2 to 12 words", "got 0, ''"]),
    ([" "], ["SENTENCE", "2 to 12 words", "got 0"]),
    (["a b c d e f g h i j k l m"], ["SENTENCE", "2 to 12 words", "got 13"]),
    (["no no no"], ["SENTENCE", "two different words", "'no'"]),
    (["stay \udcff"], ["SENTENCE", "UTF-8"]),
    (["stay \x1b[31m"], ["SENTENCE", "control character '\\x1b'"]),
    (["please", "stay"], ["stay"]),
    ([], ["SENTENCE"]),
    (["a b", "--hidden", "9"], ["--hidden", "from 1 to 8", "got '9'"]),
    (["a b", "--hidden", "0"], ["--hidden", "an integer from 1 to 8", "'0'"]),
    (["a b", "--steps", "1001"], ["--steps", "from 1 to 1000", "got '1001'"]),
    (["a b", "--steps", "0"], ["--steps", "'0'"]),
    (["a b", "--lr", "0"], ["--lr", "a number greater than 0", "'0'"]),
    (["a b", "--lr", "inf"], ["--lr", "'inf'"]),
    (["a b", "--activation", "swish"], ["--activation", "tanh, sigmoid, relu", "'swish'"]),
    (["a b", "--activation", "than"], ["--activation", "got 'than'; did you mean tanh?"]),
    (["a b", "--out", "."], ["--out .", "got a folder"]),
    (["a b", "--out", "none/page.html"], ["--out none/page.html", "the folder none does not exist"]),
]


@pytest.mark.parametrize(("arguments", "parts"), BAD, ids=lambda value: ascii(" ".join(value)))
def test_bad_input(
    elman: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], parts: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    said = elman("explain", *arguments)
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    for part in parts:
        assert part in said.err
    assert files_in(tmp_path) == set()


def test_a_page_is_written_whole_or_not_at_all(elman: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    said = elman("explain", "please stay", "--out", tmp_path / "page.html")
    assert said.code == 1
    assert "No space left" in said.err
    assert files_in(tmp_path) == set()


def test_it_needs_no_torch() -> None:
    code = (
        "import sys; from elman.cli import run; run(['explain', 'no']); run(['explain', '--help']); print(*sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(said.stdout.split()) & {"torch", "numpy", "matplotlib"}
