"""Bad input is one line on standard error and exit code 2, a failure is code 1, and nothing is left behind."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from elman.io import files
from tests.small import SMALL, Command, Said
from tests.small import files as files_in


def refused(said: Said, *parts: str) -> None:
    assert said.code == 2
    complains(said, *parts)


def failed(said: Said, *parts: str) -> None:
    assert said.code == 1
    complains(said, *parts)


def complains(said: Said, *parts: str) -> None:
    """The last line on standard error, and no other, is a complaint; there may be notes before it."""
    *notes, line = said.err.splitlines()
    assert line.startswith("elman"), said.err
    assert not any(note.startswith(("elman", "Traceback")) for note in notes), said.err
    for part in parts:
        assert part in line


TEXTS: list[tuple[str, bytes | None, list[str]]] = [
    ("missing", None, ["expected a file", "does not exist"]),
    ("empty", b"", ["expected a text", "empty"]),
    ("short", b"please stay at home", ["expected at least 161 tokens", "--batch 16", "--bptt 10", "got 15"]),
    ("tiny", b"a", ["longer text"]),
    ("latin1", "caf\u00e9".encode("cp1252"), ["expected UTF-8", "0xe9 at offset 3", "--encoding"]),
    ("utf16", "please".encode("utf-16"), ["UTF-16", "byte order mark of 2 bytes", "--encoding utf-16"]),
    ("utf32", "please".encode("utf-32"), ["UTF-32", "byte order mark of 4 bytes", "--encoding utf-32"]),
    ("binary", b"\x7fELF\x00\x01", ["binary", "0x00 at offset 4"]),
]


@pytest.mark.parametrize(("name", "data", "parts"), TEXTS, ids=[case[0] for case in TEXTS])
def test_a_text_that_is_none(elman: Command, tmp_path: Path, name: str, data: bytes | None, parts: list[str]) -> None:
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    before = files_in(tmp_path)
    refused(elman("train", "text", path, "--out", tmp_path / "run", *SMALL), str(path), *parts)
    assert files_in(tmp_path) == before


def test_a_folder_for_a_text(elman: Command, tmp_path: Path, trained: Path) -> None:
    refused(elman("train", "text", tmp_path), str(tmp_path), "expected a file, got a folder")
    refused(elman("evaluate", trained, tmp_path), str(tmp_path), "expected a file, got a folder")


def test_another_encoding_is_read_where_it_is_named(elman: Command, tmp_path: Path, trained: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes("the w\u00f6rd".encode("cp1252"))
    refused(elman("evaluate", trained, path), "0xf6 at offset 5")
    assert elman("evaluate", trained, path, "--encoding", "cp1252").code == 0
    path.write_text("odd")
    refused(elman("evaluate", trained, path, "--encoding", "utf-16"), "expected UTF-16", "--encoding utf-8")
    refused(elman("evaluate", trained, path, "--encoding", "klingon"), "--encoding", "klingon")
    refused(elman("evaluate", trained, path, "--encoding", "rot13"), "--encoding", "rot13")


def test_a_byte_order_mark_is_not_text(tmp_path: Path) -> None:
    for encoding, name in (("utf-8-sig", "utf-8"), ("utf-16", "utf-16")):
        (tmp_path / "text").write_bytes("gate\r\n".encode(encoding))
        assert files.read_text(tmp_path / "text", name) == "gate\r\n"


OPTIONS: list[tuple[list[Any], list[str]]] = [
    (["--cell", "elmo"], ["--cell", "rnn, gru, lstm", "'elmo'"]),
    (["--tokens", "syllable"], ["--tokens", "char, word, bpe", "'syllable'"]),
    (["--optimizer", "adamm"], ["--optimizer", "adamw, adam, rmsprop, sgd", "'adamm'"]),
    (["--hidden", "0"], ["--hidden", "an integer of at least 1", "'0'"]),
    (["--hidden", "2.5"], ["--hidden", "an integer of at least 1", "'2.5'"]),
    (["--seed", "9" * 400], ["--seed", "of at least 0 and at most 2147483647", "'999"]),
    (["--dropout", "1.5"], ["--dropout", "a number from 0 to 1", "'1.5'"]),
    (["--lr", "nan"], ["--lr", "a number greater than 0", "'nan'"]),
    (["--minutes", "inf"], ["--minutes", "a number greater than 0", "'inf'"]),
    (["--devices", "0"], ["--devices", "an integer of at least 1", "'0'"]),
    (["--epochs", "0"], ["--epochs", "a number greater than 0", "'0'"]),
    (["--speed", "9"], ["--speed"]),
    (["--hidden"], ["--hidden"]),
    (["another.txt"], ["another.txt"]),
]


@pytest.mark.parametrize(("arguments", "parts"), OPTIONS, ids=lambda value: " ".join(map(str, value)))
def test_an_option_that_is_none(
    elman: Command, file: Path, tmp_path: Path, arguments: list[Any], parts: list[str]
) -> None:
    refused(elman("train", "text", file, "--out", tmp_path / "run", *arguments), *parts)
    assert files_in(tmp_path) == set()


def test_a_model_that_memory_has_no_room_for(elman: Command, file: Path, tmp_path: Path) -> None:
    said = elman("train", "text", file, "--out", tmp_path / "run", "--hidden", 2000000000)
    failed(said, "text: expected a model that fits into memory", "'hidden': 2000000000")
    assert files_in(tmp_path) == set()


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("--temperature", "-1", "of at least 0"),
        ("--top-p", "0", "greater than 0"),
        ("--length", "0", "of at least 1"),
        ("--top-k", "x", "of at least 0"),
    ],
)
def test_options_of_generate(elman: Command, trained: Path, option: str, value: str, expected: str) -> None:
    refused(elman("generate", trained, option, value), option, expected, repr(value))


def test_commands_that_are_none(elman: Command) -> None:
    refused(elman("trian"), "trian")
    refused(elman("train", "poem"), "poem")
    refused(elman("generate"), "RUN")


def test_a_prompt_of_which_nothing_is_known(elman: Command, trained: Path) -> None:
    refused(elman("generate", trained, "--prompt", "ΩΨ"), "--prompt", "ΩΨ")
    refused(elman("generate", trained, "--prompt", "the\udce9"), "--prompt: expected UTF-8, got byte 0xe9")


def test_out_is_never_overwritten(elman: Command, file: Path, copied: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}
    refused(elman("train", "text", file, "--out", copied, *SMALL), "--out", str(copied), f"--resume {copied}")
    assert {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()} == before
    refused(elman("train", "text", file, "--out", file, *SMALL), "--out", "got a file")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/mine.txt").touch()
    refused(elman("train", "text", file, "--out", tmp_path / "folder", *SMALL), "got a folder with files")
    assert files_in(tmp_path / "folder") == {"mine.txt"}


def test_out_that_cannot_be_made(elman: Command, file: Path) -> None:
    refused(elman("train", "text", file, "--out", file / "below", *SMALL), "--out", "cannot be written")


def test_a_full_disk_at_the_start_leaves_nothing(
    elman: Command, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", full_disk)
    out = tmp_path / "new/run"
    failed(elman("train", "text", file, "--out", out, *SMALL), "--out", str(out), "No space left")
    assert files_in(tmp_path) == set()


@pytest.mark.slow
def test_a_full_disk_later_keeps_what_was_whole(
    elman: Command, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from elman.training.callbacks import CheckpointCallback

    run, original = tmp_path / "run", CheckpointCallback.on_validation_end

    def on_validation_end(self: CheckpointCallback, *rest: Any) -> None:
        original(self, *rest)
        monkeypatch.setattr(os, "fsync", full_disk)  # from the second validation on

    monkeypatch.setattr(CheckpointCallback, "on_validation_end", on_validation_end)
    failed(elman("train", "text", file, "--epochs", 4, "--out", run, *SMALL), "No space left")
    monkeypatch.undo()
    assert [name for name in files_in(run) if name.startswith(".")] == [".lock"]
    for checkpoint in (run / "checkpoints").iterdir():
        torch.load(checkpoint, weights_only=True)
    assert elman("generate", run, "--length", 3).code == 0
    assert elman("train", "text", "--resume", run).code == 0


def full_disk(descriptor: int) -> None:
    """Of a file, half gets to the disk."""
    os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def put(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def foreign(path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, path)


DAMAGE: list[tuple[str, str, Callable[[Path], object], list[str]]] = [
    ("cut model", "model.safetensors", cut, ["complete safetensors file"]),
    ("foreign model", "model.safetensors", foreign, ["embedding.weight", "(17, 8)", "none"]),
    ("text as model", "model.safetensors", lambda path: path.write_text("hello"), ["complete safetensors file"]),
    ("no model", "model.safetensors", Path.unlink, ["expected the weights of this run, but the file does not exist"]),
    ("newer config", "config.json", lambda path: put(path, format=9, elman="7.1"), ["format 1", "got 9", "elman 7.1"]),
    ("cut config", "config.json", cut, ["expected valid JSON"]),
    ("list as config", "config.json", lambda path: path.write_text("[]"), ["config.json: expected an object, got []"]),
    (
        "config without a model",
        "config.json",
        lambda path: put(path, model=None),
        ["model: expected an object, got None"],
    ),
    ("another model", "config.json", lambda path: put(path, model={"vocabulary": 17, "cell": "gru"}), ["shape"]),
    ("unknown cell", "config.json", lambda path: put(path, model={"cell": "elmo"}), ["rnn, gru, lstm", "elmo"]),
    ("unknown task", "config.json", lambda path: put(path, task="poem"), ["poem"]),
    ("no config", "config.json", Path.unlink, ["without config.json"]),
    ("cut tokenizer", "tokenizer.json", cut, ["expected a tokenizer"]),
    ("half a tokenizer", "tokenizer.json", lambda path: put(path, pre_tokenizer=None), ["without a pre_tokenizer"]),
    ("no tokenizer", "tokenizer.json", Path.unlink, ["expected a file"]),
]


@pytest.mark.parametrize(("name", "damage", "parts"), [case[1:] for case in DAMAGE], ids=[case[0] for case in DAMAGE])
def test_a_damaged_run(
    elman: Command, copied: Path, name: str, damage: Callable[[Path], object], parts: list[str]
) -> None:
    damage(copied / name)
    refused(elman("generate", copied), str(copied), *parts)


def test_a_damaged_baseline(elman: Command, copied: Path, file: Path) -> None:
    cut(copied / "baseline.safetensors")
    refused(elman("evaluate", copied, file), "baseline.safetensors")
    foreign(copied / "baseline.safetensors")
    refused(elman("evaluate", copied, file), "baseline.safetensors")


def test_what_is_not_a_run(elman: Command, tmp_path: Path, file: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing", file):
        for command in (
            ["generate", path],
            ["info", path],
            ["evaluate", path, file],
            ["train", "text", "--resume", path],
        ):
            refused(elman(*command), str(path), "expected a run folder")


def test_resuming_what_cannot_be_resumed(elman: Command, copied: Path, file: Path, tmp_path: Path) -> None:
    resume = ["train", "text", "--resume", copied, "--epochs", 4]
    refused(elman(*resume, "--hidden", 9), "--hidden", "--resume")
    refused(elman(*resume, "--out", tmp_path / "other"), "--out", "--resume")
    (tmp_path / "other.txt").write_text(file.read_text() + "!")
    refused(elman(*resume, tmp_path / "other.txt"), "other.txt", "trained on")
    cut(copied / "checkpoints/last.ckpt")
    refused(elman(*resume), "last.ckpt")
    whole = json.loads((copied / "config.json").read_text())
    put(copied / "config.json", model=whole["model"] | {"hidden": 9})
    refused(elman(*resume), "config.json", "model.hidden and options.hidden", "9 and 12")
    put(copied / "config.json", model=whole["model"], training=whole["training"] | {"seed": "a"})
    refused(elman(*resume), "config.json", "seed", "an integer", "'a'")
    put(copied / "config.json", training=whole["training"])
    (copied / "metrics.csv").write_text("epoch,train_loss\n1,2\n")
    before = (copied / "config.json").read_bytes()
    refused(elman(*resume), "metrics.csv", "row 1", "'step'", "the columns epoch, train_loss")
    assert (copied / "config.json").read_bytes() == before
    (copied / "checkpoints/last.ckpt").unlink()
    (copied / "metrics.csv").unlink()
    refused(elman(*resume), "last.ckpt")
    assert (copied / "model.safetensors").exists()
    put(copied / "config.json", task="poem")
    refused(elman(*resume), "poem")


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("pickle-was-executed"),)


def test_a_checkpoint_never_executes_what_it_holds(
    elman: Command, copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"global_step": 3, "evil": Evil()}, copied / "checkpoints/last.ckpt")
    refused(elman("train", "text", "--resume", copied, "--epochs", 4), "last.ckpt")
    assert not (tmp_path / "pickle-was-executed").exists()


def test_a_training_that_explodes_says_what_to_turn(elman: Command, file: Path, tmp_path: Path) -> None:
    said = elman(
        "train", "text", file, "--out", tmp_path / "run", *SMALL, "--optimizer", "sgd", "--lr", 1e37, "--clip", 0
    )
    failed(said, "loss is", "--lr 1e+37", "--clip 0", "All values in the recurrent layers are finite", "Try a smaller")


@pytest.mark.parametrize("allocate", [lambda: bytearray(2**62), lambda: np.zeros(2**50), lambda: torch.zeros(2**50)])
def test_too_little_memory(elman: Command, monkeypatch: pytest.MonkeyPatch, allocate: Callable[[], Any]) -> None:
    """Wherever it is: of Python, NumPy and torch, which has no error of its own for that."""
    monkeypatch.setattr("elman.io.run_folder.open_run", lambda path: allocate())
    failed(elman("info", "run"), "elman: not enough memory", "; use smaller data, smaller layers or a smaller --batch")


def test_another_error_of_torch_is_no_lack_of_memory(elman: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("elman.io.run_folder.open_run", lambda path: torch.zeros(2) @ torch.zeros(3))
    with pytest.raises(RuntimeError, match="size"):
        elman("info", "run")
