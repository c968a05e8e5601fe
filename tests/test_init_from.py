"""Trainings that start from the weights of another run: `--init-from`."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from elman import tasks, tune
from elman.errors import BadInput
from elman.io import run_folder
from tests.small import Command, text
from tests.test_runs import Crash, fail_at

BEGIN = ["--epochs", 0.1, "--lr", 1e-12]  # so small that the weights stay as they are


def weights(run: Path) -> dict[str, np.ndarray]:
    return load_file(run / "model.safetensors")


def test_the_weights_and_the_vocabulary_are_those_of_the_run(elman: Command, trained: Path, tmp_path: Path) -> None:
    other, run = tmp_path / "other.txt", tmp_path / "run"
    other.write_text(text(4000)[::-1] + "ß" * 40)
    assert elman("train", "text", other, "--init-from", trained, "--out", run, *BEGIN).code == 0
    assert (run / "tokenizer.json").read_text() == (trained / "tokenizer.json").read_text()
    for name, values in weights(trained).items():
        np.testing.assert_allclose(weights(run)[name], values, atol=1e-7)
    config, of_base = (json.loads((path / "config.json").read_text()) for path in (run, trained))
    assert config["options"] == of_base["options"]
    assert config["training"]["init_from"] == str(trained)


def test_options_that_are_passed_come_first(elman: Command, trained: Path, file: Path, tmp_path: Path) -> None:
    train = ["train", "text", file, "--init-from", trained, *BEGIN]
    assert elman(*train, "--bptt", 4, "--out", tmp_path / "run").code == 0
    assert json.loads((tmp_path / "run/config.json").read_text())["options"]["bptt"] == 4
    refused = elman(*train, "--hidden", 13, "--out", tmp_path / "other")
    assert (refused.code, refused.out) == (2, "")
    expected = f"elman: --init-from {trained}: expected a model with hidden 12, as in this run, got 13"
    assert refused.err.strip() == expected


def test_a_training_that_is_killed_before_its_first_checkpoint_starts_from_them_again(
    elman: Command, trained: Path, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "_remove", lambda *_: None)
        fail_at(patch, "last.ckpt", 1, Crash(), after=False)
        with pytest.raises(Crash):
            elman("train", "text", file, "--init-from", trained, "--out", run, *BEGIN)
    assert "the training starts from the beginning" in elman("train", "text", "--resume", run).err
    assert (run / "tokenizer.json").read_text() == (trained / "tokenizer.json").read_text()
    for name, values in weights(trained).items():
        np.testing.assert_allclose(weights(run)[name], values, atol=1e-7)


def test_a_run_of_another_task(elman: Command, trained: Path, tmp_path: Path) -> None:
    refused = elman("train", "classify", "a.csv", "--init-from", trained)
    assert refused.err.strip() == f"elman: --init-from {trained}: expected a run of classify, got one of 'text'"
    none = tmp_path / "none"
    assert elman("train", "text", "--init-from", none).err.startswith(f"elman: {none}: expected a run folder")


def test_a_classifier_in_python(tmp_path: Path) -> None:
    pairs = [(f"the {w} film {i}", label) for i in range(20) for w, label in (("good", "yes"), ("bad", "no"))]
    texts, labels = map(list, zip(*pairs, strict=True))
    first = tasks.classify.fit((texts, labels), tmp_path / "first", hidden=4, embed=4, epochs=1)
    second = tasks.classify.fit(
        ([t.upper() for t in texts], labels), tmp_path / "second", init_from=first.run.path, epochs=1, lr=1e-12
    )
    assert second.classes_.tolist() == ["no", "yes"]
    for name, values in weights(first.run.path).items():
        np.testing.assert_allclose(weights(second.run.path)[name], values, atol=1e-7)
    with pytest.raises(BadInput, match="expected a label of the training data"):
        tasks.classify.fit((texts, ["maybe"] * 40), tmp_path / "third", init_from=first.run.path, epochs=1)


def test_a_search_in_python(trained: Path, file: Path, tmp_path: Path) -> None:
    of_base = json.loads((trained / "config.json").read_text())["options"]
    rates = {"lr": [1e-12, 1e-9]}
    tuned = tune.search("text", file, tmp_path / "study", trials=1, space=rates, init_from=trained, epochs=0.1)
    assert json.loads((tuned.best_run / "config.json").read_text())["options"] == of_base
