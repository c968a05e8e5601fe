"""The command line from end to end: a text becomes a run, and the run is used."""

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import elman as package
from elman.cells import REGISTRY, by_name
from tests.small import SMALL, Command, files, text
from tests.test_bad_input import refused


def test_a_run_is_a_folder_that_anyone_can_read(trained: Path) -> None:
    assert {
        "config.json",
        "checksums.json",
        "model.safetensors",
        "baseline.safetensors",
        "tokenizer.json",
        "metrics.csv",
        "curves.png",
        "checkpoints/last.ckpt",
        "checkpoints/best.ckpt",
    } <= files(trained)
    assert any(name.startswith("tensorboard/events") for name in files(trained))
    config = json.loads((trained / "config.json").read_text())
    assert config["elman"] == package.__version__
    assert config["options"]["hidden"] == 12
    assert load_file(trained / "model.safetensors")["recurrent.weight_hh_l0"].shape == (48, 12)
    assert (trained / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_the_scores_agree_with_each_other(elman: Command, trained: Path, file: Path, tmp_path: Path) -> None:
    config = json.loads((trained / "config.json").read_text())
    model, baseline = config["scores"].values()
    for score in (model, baseline):
        assert score["perplexity"] == pytest.approx(math.exp(score["nats_per_token"]))
        # By character every token but the first is one: the units differ by ln 2 alone.
        assert score["bits_per_character"] == pytest.approx(score["nats_per_token"] / math.log(2))
    validations = [row.split(",")[3] for row in (trained / "metrics.csv").read_text().splitlines()[1:]]
    whole, part = file.read_text(), tmp_path / "part.txt"
    begin, end = len(whole) * 8 // 10, len(whole) * 9 // 10
    part.write_text(whole[end:])
    assert json.loads(elman("evaluate", trained, part, "--json").out)["scores"] == config["scores"]
    part.write_text(whole[begin:end])
    model, baseline = json.loads(elman("evaluate", trained, part, "--json").out)["scores"].values()
    assert model["nats_per_token"] == pytest.approx(min(float(v) for v in validations if v), rel=1e-5)
    assert baseline["nats_per_token"] == pytest.approx(*config["baselines"].values())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train foo", r"elman train: expected one of text, image, .*, series; got 'foo'; if another package has .* it"),
        ("train imag", r"elman train: expected one of .*; got 'imag'; did you mean image\?"),
        ("predcit run", r"elman: expected one of train, tune, evaluate, .*; got 'predcit'; did you mean predict\?"),
    ],
)
def test_unknown_commands_and_tasks(elman: Command, words: str, message: str) -> None:
    said = elman(*words.split())
    assert (said.code, said.out) == (2, "")
    assert re.fullmatch(f"{message}\n", said.err)


KINDS = [(cell, tokens) for cell in ("rnn", "gru", "lstm") for tokens in ("char", "word", "bpe")]


@pytest.mark.sample(1)
@pytest.mark.parametrize(("cell", "tokens"), [*KINDS, *((cell, "char") for cell in list(REGISTRY)[3:])])
def test_every_cell_and_kind_of_token_learns(
    elman: Command, file: Path, tmp_path: Path, tokens: str, cell: str
) -> None:
    run = tmp_path / "run"
    more = ["--vocabulary", 300] if tokens == "bpe" else []
    layers = 2 if (cell, tokens) in KINDS else 1  # each takes seconds to compile
    said = elman(
        "train", "text", file, "--tokens", tokens, "--cell", cell, "--epochs", 2, "--out", run, *more, *SMALL,
        "--layers", layers, *(["--dropout", 0.1] if layers > 1 else []), "--lr", 0.02, "--bptt", 5,
    )  # fmt: skip
    assert said.code == 0
    assert f"{'2-layer ' if layers > 1 else ''}{by_name(cell).__name__} 12" in said.err
    config = json.loads((run / "config.json").read_text())
    first = next(iter(config["scores"].values()))
    # Two short epochs: the cells that torch has too are known to get there.
    assert first["perplexity"] < (config["model"]["vocabulary"] / 2 if (cell, tokens) in KINDS else math.inf)
    assert elman("generate", run, "--length", 20, "--prompt", "the state").out.startswith("the state")


def test_evaluate_on_the_validation_part_prints_the_trained_score(
    elman: Command, trained: Path, file: Path, tmp_path: Path
) -> None:
    part = tmp_path / "part.txt"
    whole = file.read_text()
    part.write_text(whole[int(0.9 * len(whole)) :])
    said = elman("evaluate", trained, part)
    config = json.loads((trained / "config.json").read_text())
    for score in config["scores"].values():
        assert f"{score['nats_per_token']:.4f}" in said.out
        assert f"{score['bits_per_character']:.4f}" in said.out


def test_evaluate_counts_unknown_characters_spelled_out(elman: Command, trained: Path, tmp_path: Path) -> None:
    known, foreign = tmp_path / "known.txt", tmp_path / "foreign.txt"
    known.write_text(text(500, seed=1))
    foreign.write_text(text(500, seed=1).replace("s", "ß"))
    assert "unknown" not in elman("evaluate", trained, known).err
    assert "of the tokens are unknown to this run" in elman("evaluate", trained, foreign).err


def test_generate_writes_what_the_seed_says(elman: Command, trained: Path) -> None:
    once, again, other = (elman("generate", trained, "--seed", seed, "--length", 60).out for seed in (1, 1, 2))
    assert once == again != other
    assert len(once) == 60 + len("\n")
    greedy = [elman("generate", trained, "--temperature", 0, "--seed", seed).out for seed in (1, 2)]
    narrow = [elman("generate", trained, "--top-k", 1, "--seed", seed).out for seed in (1, 2)]
    nucleus = [elman("generate", trained, "--top-p", 1e-9, "--seed", seed).out for seed in (1, 2)]
    assert len({*greedy, *narrow, *nucleus}) == 1


def test_generate_writes_into_a_file(elman: Command, trained: Path, tmp_path: Path) -> None:
    how = ["--seed", 1, "--length", 60, "--prompt", "the state"]
    assert elman("generate", trained, *how, "--out", tmp_path / "a.txt").out == ""
    written = (tmp_path / "a.txt").read_text()
    assert written == elman("generate", trained, *how).out
    refused(elman("generate", trained, "--out", tmp_path / "a.txt"), "--out", "a.txt: expected a new name")
    assert (tmp_path / "a.txt").read_text() == written


def test_generate_goes_on_without_what_it_never_saw(elman: Command, trained: Path) -> None:
    said = elman("generate", trained, "--prompt", "the Ωstate§", "--length", 5, "--seed", 1)
    assert (said.code, said.err) == (
        0,
        "elman: --prompt: skipped characters or words that are not in the training part: 'Ω', '§'\n",
    )
    assert said.out.startswith("the Ωstate§")
    assert elman("generate", trained, "--prompt", "", "--length", 5).code == 0


def test_info_tells_what_a_run_is(elman: Command, trained: Path) -> None:
    said = elman("info", trained)
    assert said.code == 0
    for part in ("cell lstm", "hidden 12", "4,500", "metrics.csv", "Kneser-Ney", "after"):
        assert part in said.out


def test_runs_are_numbered_where_no_name_is_given(
    elman: Command, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for number in (1, 2):
        assert elman("train", "text", file, "--epochs", 0.1, *SMALL).code == 0
        assert (tmp_path / f"runs/text-{number}/curves.png").exists()


@pytest.mark.slow
def test_patience_ends_a_training_that_no_longer_gets_better(elman: Command, file: Path, tmp_path: Path) -> None:
    said = elman(
        "train", "text", file, "--epochs", 50, "--patience", 1, "--out", tmp_path / "run", *SMALL,
        "--optimizer", "sgd", "--lr", 1e-12,
    )  # fmt: skip
    assert said.code == 0
    assert json.loads((tmp_path / "run/config.json").read_text())["ended"]["steps"] < 50 * 90 / 2


@pytest.mark.slow
def test_minutes_bound_the_training(elman: Command, file: Path, tmp_path: Path) -> None:
    assert elman("train", "text", file, "--minutes", 0.03, "--out", tmp_path / "run", *SMALL).code == 0
    ended = json.loads((tmp_path / "run/config.json").read_text())["ended"]
    assert ended["steps"] >= 1
    assert (tmp_path / "run/model.safetensors").exists()


def test_without_a_file_it_trains_on_the_manual_of_python(elman: Command, tmp_path: Path) -> None:
    said = elman("train", "text", "--epochs", 0.01, "--out", tmp_path / "run", *SMALL, "--batch", 64)
    assert said.code == 0
    assert said.err.startswith("Python's reference manual: ")
    assert "name Python's reference manual" in elman("info", tmp_path / "run").out


def imported_by(code: str) -> set[str]:
    listing = f"import sys; {code}; print(' '.join(sys.modules))"
    return set(
        subprocess.run([sys.executable, "-c", listing], check=True, capture_output=True, text=True).stdout.split()
    )


def test_help_imports_nothing_heavy() -> None:
    loaded = imported_by(
        "from elman.cli import run; run(['--help']); run(['train', 'text', '--help']); run(['env', '--help'])"
    )
    heavy = {"torch", "lightning", "numpy", "matplotlib", "polars", "tokenizers", "numba", "filelock", "yaml"}
    assert not loaded & heavy


@pytest.mark.slow
def test_layers_import_nothing_of_the_command_line() -> None:
    assert not imported_by("import elman; elman.GRU(2, 3)") & {"pydantic", "typer", "lightning", "sklearn"}


@pytest.mark.parametrize("command", ["", "train", "train image", "predict", "bench", "draw", "env"])
def test_help_names_no_types_of_python(elman: Command, command: str) -> None:
    said = elman(*command.split(), "--help")
    assert said.code == 0
    assert "--help  " in said.out
    assert "<" not in said.out


def test_import_pulls_torch_and_little_else() -> None:
    loaded = imported_by("import elman; elman.LSTM")
    assert "torch" in loaded
    assert not loaded & {"lightning", "typer", "rich", "matplotlib", "polars", "tokenizers", "numba", "tensorboard"}


def test_the_command_is_installed_as_a_module_too() -> None:
    said = subprocess.run([sys.executable, "-m", "elman", "--version"], capture_output=True, text=True, check=True)
    assert said.stdout == f"elman {package.__version__}\n"


def test_weights_of_a_run_fit_a_torch_layer(trained: Path) -> None:
    weights = load_file(trained / "model.safetensors")
    theirs = torch.nn.LSTM(8, 12)
    theirs.load_state_dict({k.removeprefix("recurrent."): v for k, v in weights.items() if k.startswith("recurrent.")})


def test_a_prompt_in_a_file_is_read(elman: Command, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "prompt").write_text("the gate")
    named, given = (elman("generate", trained, "--prompt", p, "--seed", 1) for p in (tmp_path / "prompt", "the gate"))
    assert named == given
    assert named.out.startswith("the gate")
