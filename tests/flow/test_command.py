"""`elman flow`, and `--flow-every`: what is looked at in a training and after it."""

import csv
from pathlib import Path

import pytest

from tests.small import SMALL, Command

PNG = b"\x89PNG\r\n\x1a\n"
PICTURES = {"gradients.png", "decay.png", "credit.png", "gates.png"}


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "flow.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_trained_model_is_measured_judged_and_drawn(elman: Command, copied: Path) -> None:
    said = elman("flow", copied, "--steps", 40)
    assert said.code == 0, said.err
    assert any(said.out.startswith(kind) for kind in ("vanishing", "healthy"))
    assert "recurrent.h_l0" in said.out
    assert "recurrent.c_l0" in said.out
    assert {path.name for path in (copied / "flow").iterdir()} == PICTURES
    for path in (copied / "flow").iterdir():
        assert path.read_bytes().startswith(PNG)


@pytest.mark.slow
def test_clipping_that_rules(elman: Command, file: Path, tmp_path: Path) -> None:
    arguments = ["--epochs", 1, *SMALL, "--out", tmp_path / "run", "--flow-every", 20, "--clip", 1e-3]
    assert elman("train", "text", file, *arguments).code == 0
    assert "clipped: 100% of the updates were clipped" in elman("flow", tmp_path / "run", "--steps", 10).out


@pytest.mark.slow
def test_a_history_that_is_damaged(elman: Command, copied: Path) -> None:
    for text, part in (
        ("step,clipped\n1,much\n", "row 1: clipped: expected a number, got 'much'"),
        ("step\n1\n", "'clipped'"),
        ("a\n1\n", "expected an integer in the column 'step', got the columns a"),
        ('"a\nb",c\n1,2\n', "expected an integer in the column 'step', got the columns a b, c"),
    ):
        (copied / "flow.csv").write_text(text)
        said = elman("flow", copied, "--steps", 10)
        assert (said.code, said.out) == (2, "")
        assert "flow.csv" in said.err
        assert part in said.err
    (copied / "flow.csv").write_text("step,clipped\n1,\n2,nan\n")
    assert elman("flow", copied, "--steps", 10).code == 0


@pytest.mark.slow
def test_another_text_and_another_folder(elman: Command, trained: Path, file: Path, tmp_path: Path) -> None:
    said = elman("flow", trained, file, "--steps", 10, "--sequences", 3, "--out", tmp_path / "there")
    assert said.code == 0, said.err
    assert {path.name for path in (tmp_path / "there").iterdir()} == PICTURES
    assert not (trained / "flow").exists()


@pytest.mark.slow
def test_all_steps_are_judged_that_were_asked_for(elman: Command, trained: Path, tmp_path: Path) -> None:
    said = elman("flow", trained, "--steps", 300, "--sequences", 1, "--out", tmp_path)
    assert "of 300 steps" in said.out.splitlines()[0]


def test_what_is_no_run_or_no_text(elman: Command, trained: Path, tmp_path: Path) -> None:
    assert (
        elman("flow", tmp_path / "no").err
        == f"elman: {tmp_path / 'no'}: expected a run folder, but it does not exist\n"
    )
    (tmp_path / "short.txt").write_text("the state\n")
    said = elman("flow", trained, tmp_path / "short.txt")
    assert (said.code, said.out) == (2, "")
    assert "short.txt: expected more than 128 tokens (--steps), got 10" in said.err


@pytest.mark.sample(1)
@pytest.mark.parametrize("cell", ["rnn", "lstm"])
def test_a_training_that_is_looked_at(elman: Command, file: Path, tmp_path: Path, cell: str) -> None:
    arguments = ["train", "text", file, "--cell", cell, "--layers", 2, "--dropout", 0, "--epochs", 1, *SMALL]
    assert elman(*arguments, "--out", tmp_path / "plain").code == 0
    assert elman(*arguments, "--out", tmp_path / "seen", "--flow-every", 30).code == 0
    assert not list((tmp_path / "plain").glob("flow*"))
    assert (tmp_path / "seen" / "flow.png").read_bytes().startswith(PNG)
    found = rows(tmp_path / "seen")
    steps = [int(row["step"]) for row in found]
    assert sorted(set(steps)) == list(range(1, max(steps) + 1, 30))
    letter = "h" if cell == "rnn" else "c"
    assert {row["name"] for row in found} == {f"recurrent.{letter}_l0", f"recurrent.{letter}_l1"}
    for row in found:
        assert 0 < int(row["horizon"]) <= int(row["steps"]) == 10
        assert 0 < float(row["growth"]) < 10
        assert float(row["norm"]) > 0
        assert float(row["clipped"]) in (0, 1)
    # To look changes nothing.
    plain, seen = ((tmp_path / name / "metrics.csv").read_text().splitlines() for name in ("plain", "seen"))
    assert [line.rpartition(",")[0] for line in plain] == [line.rpartition(",")[0] for line in seen]  # but the seconds


@pytest.mark.slow
def test_a_resumed_training_goes_on_with_its_table(elman: Command, file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert elman("train", "text", file, "--epochs", 1, *SMALL, "--out", run, "--flow-every", 30).code == 0
    before = rows(run)
    assert elman("train", "text", "--resume", run, "--epochs", 2).code == 0
    steps = [int(row["step"]) for row in rows(run)]
    assert rows(run)[: len(before)] == before
    assert steps == sorted(steps)
    assert len(steps) > len(before)
    assert all(step % 30 == 1 for step in steps)
