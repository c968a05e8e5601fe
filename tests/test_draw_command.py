"""`elman draw`: cells by any spelling, runs, and what is refused."""

import re
from pathlib import Path

import pytest

from elman.tasks.registry import TASKS
from tests.small import Command


def is_picture(path: Path) -> bool:
    data = path.read_bytes()
    return data.startswith(b"\x89PNG") if path.suffix == ".png" else b"<svg" in data and data.endswith(b"</svg>\n")


def test_the_command(elman: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert elman("draw", "lstm") == (0, "drawing: lstm.svg\n", "")
    first = Path("lstm.svg").read_bytes()
    assert elman("draw", "lstm").code == 0
    assert Path("lstm.svg").read_bytes() == first
    more = ["--input", 7, "--hidden", 11, "--layers", 2, "--bidirectional"]
    assert elman("draw", "gru", *more, "--out", "a.png").code == 0
    assert b"Stack(7, 11, num_layers=2, bidirectional=True, cell_type=GRU)" in Path("a.png").read_bytes()
    assert is_picture(Path("a.png"))
    assert {path.name for path in tmp_path.iterdir()} == {"lstm.svg", "a.png"}
    assert is_picture(Path("lstm.svg"))


@pytest.mark.slow
def test_the_command_for_a_run(elman: Command, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert elman("draw", trained) == (0, "drawing: run.svg\n", "")
    assert elman("draw", trained, "--gradients", "--out", "run.png").code == 0
    assert is_picture(Path("run.svg"))
    assert is_picture(Path("run.png"))
    assert "draw " in elman("--help").out


@pytest.mark.slow
def test_a_cell_goes_by_any_spelling(elman: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert elman("draw", "LSTM") == (0, "drawing: lstm.svg\n", "")
    assert elman("draw", "PeepholeLSTM") == (0, "drawing: peephole_lstm.svg\n", "")
    assert elman("draw", "layer-norm-gru") == (0, "drawing: layer_norm_gru.svg\n", "")


@pytest.mark.slow
def test_a_run_that_is_called_like_a_cell(
    elman: Command, copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied.rename(tmp_path / "gru")
    monkeypatch.chdir(tmp_path)
    also = "for the run in the folder of that name, pass ./gru\n"
    assert elman("draw", "gru") == (0, f"drawing: gru.svg, the cell; {also}", "")
    said = elman("draw", "gru", "--gradients")
    assert said == (
        2,
        "",
        f"elman: --gradients: expected a run folder, got the cell gru; {also}",
    )
    assert b"cell_type=GRU" in Path("gru.svg").read_bytes()
    assert elman("draw", "./gru") == (0, "drawing: gru.svg\n", "")
    assert b"LanguageModel" in Path("gru.svg").read_bytes()


BAD: dict[str, tuple[list[str], str]] = {
    "no cell": (
        ["ltsm"],
        r"elman: ltsm: expected a cell, one of rnn, .*slstm, or a run folder; got neither; .*lstm\?",
    ),
    "no run": (["."], r"elman: \.: expected a run folder, got a folder without config\.json"),
    "a name": (["lstm", "--out", "x.pdf"], r"elman: --out x\.pdf: expected a file name that ends with \.png or \.svg"),
    "a folder": (
        ["lstm", "--out", "no/x.svg"],
        r"elman: --out no/x\.svg: the folder no does not exist; create it first",
    ),
    "a size": (["lstm", "--hidden", "0"], r"elman draw: .*'--hidden': expected an integer of at least 1, got '0'"),
    "gradients": (
        ["lstm", "--gradients"],
        r"elman: --gradients: expected a run folder, got the cell .*",
    ),
    "two sizes": (
        [".", "--layers", "2"],
        r"elman: --layers: expected a built-in cell, got the run \., whose sizes are fixed",
    ),
}


@pytest.mark.parametrize(("arguments", "line"), BAD.values(), ids=BAD.keys())
def test_bad_input(
    elman: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    said = elman("draw", *arguments)
    assert (said.code, said.out) == (2, "")
    assert re.fullmatch(f"{line}\n", said.err)
    assert list(tmp_path.iterdir()) == []


def test_a_run_of_another_task(elman: Command, copied: Path) -> None:
    config = copied / "config.json"
    config.write_text(config.read_text().replace('"task": "text"', '"task": "chess"'))
    said = elman("draw", copied, "--out", copied / "x.png")
    assert said == (
        2,
        "",
        f"elman: {config}: expected 'task' to be one of {', '.join(TASKS)}; got 'chess'; if another "
        "package has this task, install it\n",
    )
