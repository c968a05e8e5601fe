"""The ensemble of a language model and an n-gram."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from elman import tasks
from elman.baselines.kneser_ney import NGram
from elman.tasks.api import Trained
from elman.tasks.text import ensemble
from elman.tasks.text.baseline import NgramBaseline
from elman.tasks.text.ensemble import Ensemble
from elman.tasks.text.model import LanguageModel
from elman.tasks.text.task import TASK
from tests.small import Command, text

V = 6


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("ensemble")
    file = folder / "text.txt"
    file.write_text(text(4500))
    options: Any = {"hidden": 8, "embed": 4, "bptt": 8, "batch": 4, "epochs": 0.5}
    return tasks.text.fit(file, folder / "run", ensemble=True, **options)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("order", [1, 3])
def test_probabilities_are_means(cell: str, order: int) -> None:
    """In one piece, and step by step."""
    torch.manual_seed(0)
    network, ids = LanguageModel(V, cell, embed=3, hidden=4), np.random.default_rng(0).integers(0, V, (2, 50))
    ngram = NGram.fit(ids[0], V, order)
    model, tokens = Ensemble(network, ngram, 0.3), torch.from_numpy(ids.T.copy())
    whole, _ = model(tokens)
    p = 0.3 * network(tokens)[0].softmax(2).detach().numpy()
    p += 0.7 * np.stack([ngram.next_probabilities(row) for row in ids], 1)
    np.testing.assert_allclose(whole.detach().exp(), p, rtol=1e-4)
    state, steps = None, []
    for piece in tokens.split([1, 1, 7, 1, 40]):
        log_p, state = model.hidden(piece, state)
        steps.append(log_p)
    torch.testing.assert_close(torch.cat(steps), whole)


def test_the_weight_has_the_lowest_loss() -> None:
    draw = np.random.default_rng(0)
    network, ngram = draw.exponential(1.0, 1000), draw.exponential(1.1, 1000)
    weight = ensemble.fit_weight(network, ngram)
    losses = [ensemble.mean_nats(network, ngram, a).mean() for a in np.linspace(0, 1, 1001)]
    assert weight == pytest.approx(np.argmin(losses) / 1000, abs=1e-3)
    assert 0.4 < weight < 0.7
    np.testing.assert_allclose(ensemble.mean_nats(network, ngram, 1.0), network)
    np.testing.assert_allclose(ensemble.mean_nats(network, ngram, 0.0), ngram)


def test_it_is_scored_beside_its_parts(elman: Command, trained: Trained) -> None:
    titles = list(trained.scores)
    assert titles == [trained.model.title, "LSTM 8", titles[2]]
    assert titles[0] == f"LSTM 8 and {titles[2].split()[0]}"
    both, *parts = (row["nats_per_token"] for row in trained.scores.values())
    assert both < min(parts) + 1e-3  # the n-gram alone is about as good on this text
    file = trained.run.path.parent / "text.txt"
    result = trained.evaluate(file)
    assert list(result) == titles
    assert trained.score(file) == -result[titles[0]]["nats_per_token"]
    printed = elman("evaluate", trained.run.path, file).out
    assert titles[0] in printed


def test_it_writes_texts(elman: Command, trained: Trained) -> None:
    run = trained.run.path
    texts = [elman("generate", run, "--length", 60, "--seed", 1, "--temperature", t).out for t in (0, 0, 1)]
    assert texts[0] == texts[1] != texts[2]
    continued = "".join(trained.generate("the ", length=60, seed=1, temperature=0))
    words = continued.split()
    assert len(set(words) & set((run.parent / "text.txt").read_text().split())) > len(set(words)) / 2, "as the n-gram"


def test_together_with_others_it_writes_the_same(trained: Trained) -> None:
    """In a batch, as by `elman serve`."""
    alone, together = ([TASK.start_generation(trained._loaded, seed) for seed in (0, 1, 2)] for _ in range(2))
    expected = ["".join(step["text"] for step in generation.steps(20)) for generation in alone]
    pieces = [type(together[0]).advance(together, [{}] * 3) for _ in range(20)]
    assert ["".join(step["text"] for step in steps) for steps in zip(*pieces, strict=True)] == expected


def test_flow_and_export_are_of_the_network(elman: Command, trained: Trained, tmp_path: Path) -> None:
    assert elman("flow", trained.run.path, "--steps", 5, "--out", tmp_path / "flow").code == 0
    exported = elman("export", trained.run.path, "--format", "torch", "--out", tmp_path / "out")
    assert (exported.code, "of the ensemble, the network alone is exported" in exported.err) == (0, True), exported.err


def test_another_training_starts_from_the_network(trained: Trained, tmp_path: Path) -> None:
    file = trained.run.path.parent / "text.txt"
    again = tasks.text.fit(file, tmp_path / "run", init_from=str(trained.run.path), epochs=0.1, lr=1e-12)
    for name, weights in load_file(trained.run.path / "model.safetensors").items():
        np.testing.assert_allclose(load_file(again.run.path / "model.safetensors")[name], weights, atol=1e-7)
    assert again.model.title == trained.model.title


@pytest.mark.parametrize("weight", [-0.5, 1.5, np.nan, np.inf])
def test_a_damaged_weight(trained: Trained, weight: float) -> None:
    tensors = load_file(trained.run.path / "baseline.safetensors")
    assert 0 <= tensors["weight"].item() <= 1
    for values in ([weight], [0.5, 0.5], [[0.5]], []):
        with pytest.raises(ValueError, match="ensemble: weight must be a number from 0 to 1"):
            NgramBaseline.from_tensors(tensors | {"weight": np.array(values)})


def test_earlier_runs_are_networks(elman: Command, trained: Trained, tmp_path: Path) -> None:
    run = shutil.copytree(trained.run.path, tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    del config["options"]["ensemble"]
    (run / "config.json").write_text(json.dumps(config))
    (run / "checksums.json").unlink()
    assert tasks.load(run).model.title == "LSTM 8"
