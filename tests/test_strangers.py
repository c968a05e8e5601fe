"""Files of strangers: pipes and devices, sizes that are lies, names that lead elsewhere, texts that are commands."""

import csv
import gzip
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from matplotlib.figure import Figure

from elman import tasks
from elman.data import audio, images, manifests, midi, tables, tokenizers
from elman.errors import BadInput
from elman.flow import plots
from elman.io import files, metrics_csv, terminal
from elman.io.run_folder import MAX_CONFIG
from elman.report import curves
from elman.tasks.caption.options import CaptionOptions
from elman.tasks.forecast import rows
from elman.tasks.forecast.options import ForecastOptions
from elman.tasks.image import data as labelled
from elman.tasks.tag import data as tag
from elman.tasks.tag.options import TagOptions
from tests.small import Command
from tests.tasks.test_damaged import made
from tests.tasks.test_image_data import idx
from tests.test_bad_input import put, refused

# What is no regular file.

BINARY: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "bytes": ("", files.read_bytes),
    "image": (".png", images.picture),
    "recording": (".wav", lambda path: audio.read_audio(path, 8000)),
    "midi": (".mid", lambda path: midi.read(path, 4)),
    "parquet": (".parquet", tables.read_table),
    "rows of parquet": (".parquet", lambda path: list(tables.rows(path, {"--text": "text"}))),
    "metrics": (".csv", metrics_csv.read),
}


@pytest.mark.parametrize("kind", BINARY)
def test_pipes_and_devices_are_no_files(kind: str, tmp_path: Path) -> None:
    suffix, read = BINARY[kind]
    pipe, device = tmp_path / f"pipe{suffix}", tmp_path / f"device{suffix}"
    os.mkfifo(pipe)
    device.symlink_to("/dev/zero")
    for path, got in ((pipe, "got a pipe"), (device, "got a device"), (tmp_path, "got a folder")):
        if path != tmp_path or not suffix:
            with pytest.raises(BadInput, match=f"{path}: expected .*{got}"):
                read(path)


def test_a_pipe_that_the_shell_has_opened(tmp_path: Path) -> None:
    """`<(...)`, which is read once."""
    reads: dict[bytes, Callable[[Path], Any]] = {b"\0\1": files.read_bytes, b"ab": files.read_text}
    for content, read in reads.items():
        reader, writer = os.pipe()
        os.write(writer, content)
        os.close(writer)
        assert read(Path(f"/dev/fd/{reader}")) in (content, content.decode())
        os.close(reader)


def test_a_named_pipe_that_nobody_writes_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "PIPE_SECONDS", 0.05)
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(BadInput, match=r"expected a process that writes to this pipe, got none in 0.05 seconds"):
        files.read_text(path)


def test_a_named_pipe_to_which_a_process_writes_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "PIPE_SECONDS", 0.2)
    path = tmp_path / "pipe"
    os.mkfifo(path)

    def write() -> None:
        with path.open("w") as pipe:
            time.sleep(0.5)
            pipe.write("please")

    writer = threading.Thread(target=write)
    writer.start()
    assert files.read_text(path) == "please"
    writer.join()


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_run_with_devices_in_it(elman: Command, copied: Path, name: str) -> None:
    (copied / name).unlink()
    (copied / name).symlink_to("/dev/zero")
    refused(elman("generate", copied), f"{copied / name}: expected a file, got a device")
    (copied / name).unlink()
    os.mkfifo(copied / name)
    refused(elman("generate", copied), f"{copied / name}: expected a file, got a pipe")


def test_a_run_that_is_resumed_with_a_pipe_in_it(elman: Command, copied: Path) -> None:
    (copied / "metrics.csv").unlink()
    os.mkfifo(copied / "metrics.csv")
    refused(elman("train", "text", "--resume", copied, "--epochs", 4), "metrics.csv: expected a file, got a pipe")


@pytest.mark.sample(1)
@pytest.mark.parametrize("name", ["-", "pipe", "/dev/zero"])
def test_a_run_whose_data_is_no_file(elman: Command, copied: Path, tmp_path: Path, name: str) -> None:
    """Which would wait for input that nobody types."""
    os.mkfifo(tmp_path / "pipe")
    path = str(tmp_path / name) if name == "pipe" else name
    config = json.loads((copied / "config.json").read_text())
    put(copied / "config.json", data=config["data"] | {"files": [path]})
    refused(elman("flow", copied), "expected data in files, got", "a pipe or a device")
    assert elman("report", copied).code == 0
    assert "The training data cannot be read" in (copied / "report.html").read_text()


def test_a_table_that_names_a_terminal(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("path,text\n/dev/stdin,a\n")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "pipes.csv").write_text("path,text\npipe,a\n")
    for name in ("table.csv", "pipes.csv"):
        with pytest.raises(BadInput, match=r"row 1: .*expected a file, got a"):
            list(manifests.read([tmp_path / name], CaptionOptions(), lambda file, text: images.picture(file)))


# Sizes.


def test_a_small_file_that_becomes_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labelled, "MAX_UNZIPPED", 1 << 16)
    (tmp_path / "x.gz").write_bytes(gzip.compress(idx(np.zeros((40, 64, 64), np.uint8))))
    (tmp_path / "y.idx").write_bytes(idx(np.arange(40, dtype=np.uint8) % 2))
    with pytest.raises(BadInput, match=r"x\.gz: expected at most 65,536 bytes of numbers .* 163,840 .*; .* gunzip"):
        labelled.read([tmp_path / "x.gz", tmp_path / "y.idx"], skip_bad=False)
    (tmp_path / "x.idx").write_bytes(idx(np.zeros((40, 64, 64), np.uint8)))  # this one is as large as it says
    assert len(list(labelled.read([tmp_path / "x.idx", tmp_path / "y.idx"], skip_bad=False))) == 40


def test_more_dimensions_than_images_have(tmp_path: Path) -> None:
    (tmp_path / "x.idx").write_bytes(idx(np.zeros(1, np.uint8), dims=[1] * 200))
    with pytest.raises(BadInput, match="expected at most 8 dimensions according to its header, got 200"):
        labelled.read([tmp_path / "x.idx"] * 2, skip_bad=False)


def test_a_table_larger_than_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "zeros.parquet"
    pl.DataFrame({"time": range(100_000), "value": [0.0] * 100_000}).write_parquet(path)
    monkeypatch.setattr(tables, "_memory", lambda: 700_000)
    with pytest.raises(BadInput, match="expected a table that fits into 700,000 bytes of memory, got 200,000 cells"):
        tables.read_table(path)
    monkeypatch.undo()
    assert len(tables.read_table(path)) == 100_000


def test_a_piece_of_music_that_is_too_long(tmp_path: Path) -> None:
    path = tmp_path / "long.mid"
    path.write_bytes(bytes(midi.MAX_BYTES + 1))
    with pytest.raises(BadInput, match=r"long\.mid: expected a file of at most 4,194,304 bytes, got 4,194,305"):
        midi.read(path, 4)


def test_a_configuration_that_is_too_large(elman: Command, copied: Path) -> None:
    whole = json.loads((copied / "config.json").read_text())
    put(copied / "config.json", data=whole["data"] | {"name": "x" * MAX_CONFIG})
    refused(elman("info", copied), "config.json: expected a file of at most 16,777,216 bytes")
    put(copied / "config.json", data=whole["data"] | {"name": "x" * 1_000_000})
    result = elman("info", copied)
    assert result.code == 0
    assert "… (1,000,000" in " ".join(result.out.split())
    assert len(result.out) < 20_000
    put(copied / "config.json", data=whole["data"] | {"name": json.loads("[" * 200 + "]" * 200)})
    refused(elman("info", copied), "config.json: expected valid JSON: lists or objects are nested more than 100 times")
    put(copied / "config.json", data=whole["data"], task="y" * 1_000_000)
    result = elman("info", copied)
    refused(result, "config.json: task: expected a text of at most 100 characters, got 'yyyy")
    assert len(result.err) < 1000


def test_a_model_of_a_million_layers(elman: Command, copied: Path) -> None:
    config = json.loads((copied / "config.json").read_text())
    put(copied / "config.json", model=config["model"] | {"layers": 10**6})
    refused(elman("generate", copied), "config.json: expected the model arguments", "more than 20,000 modules")
    refused(elman("train", "text", "--layers", 5000), "--layers", "an integer from 1 to 1000", "'5000'")


def test_an_ensemble_of_a_million_networks(elman: Command, tmp_path: Path) -> None:
    run = made("series", tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    put(run / "config.json", model=config["model"] | {"members": 10**6})
    refused(elman("predict", run, "x.csv"), "config.json: expected the model arguments", "more than 20,000 modules")


def test_images_are_scaled_to_a_shape_that_fits(tmp_path: Path) -> None:
    run = made("image", tmp_path / "run")
    put(run / "codec.json", columns=10**9)
    put(run / "config.json", model=json.loads((run / "config.json").read_text())["model"] | {"width": 10**9})
    with pytest.raises(BadInput, match="images of at most 67,108,864 pixels, got a shape of 5 x 1,000,000,000"):
        tasks.load(run).predict([np.zeros((5, 6), np.float32)])


# Tables of a run.

METRICS = "step,epoch,train_loss,val_loss,lr,seconds\n"


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"\x80\x00\xff" * 50 + b"\n", "expected a table of numbers: 'utf-8' codec can't decode"),
        (METRICS.encode() + b'1,"' + b"x" * 200_000 + b'",,,,\n', "row 1: expected cells of at most 1,000 characters"),
        (METRICS.encode() + b"9" * 5000 + b",1,1,1,1,1\n", "row 1: expected cells of at most 1,000 characters"),
        (METRICS.encode() + b"9" * 400 + b",1,1,1,1,1\n", "row 1: expected an integer in the column 'step', got '999"),
        (METRICS.encode() + "\u0661,1,1,1,1,1\n".encode(), "row 1: expected an integer in the column 'step'"),
        (METRICS.encode() + b"1,1,1,1,1,1,1\n", "row 1: expected 6 columns, got more"),
    ],
    ids=["binary", "a large field", "an immense number", "a long number", "other digits", "more columns"],
)
def test_metrics_that_are_none(elman: Command, copied: Path, content: bytes, part: str) -> None:
    (copied / "metrics.csv").write_bytes(content)
    refused(elman("train", "text", "--resume", copied, "--epochs", 4), f"metrics.csv: {part}")
    refused(elman("report", copied), f"metrics.csv: {part}")


def test_metrics_of_another_program(copied: Path) -> None:
    (copied / "metrics.csv").write_text("step,loss\n1,2\n")
    with pytest.raises(BadInput, match=r"metrics\.csv: expected the columns step, epoch; got step, loss"):
        metrics_csv.CsvTable(copied / "metrics.csv", ["step", "epoch"], keep=5)
    (copied / "metrics.csv").write_text(f"{METRICS}1,one,2,,,\n")
    with pytest.raises(BadInput, match=r"metrics\.csv: expected a table of numbers"):
        curves.draw(copied / "metrics.csv", copied / "curves.png", "loss")


@pytest.mark.parametrize(
    "content", ["step,name,steps,horizon\n1,a,x,1\n", "a,b\n1,2\n", "", "step,name,steps,horizon\n"]
)
def test_a_flow_that_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "flow.csv").write_text(content)
    with pytest.raises(BadInput, match=r"flow\.csv: expected"):
        plots.history(tmp_path / "flow.csv", tmp_path / "plot.png")


@pytest.mark.parametrize("number", ["inf", "nan", "1e308", "-1"])
def test_a_flow_of_no_number_of_steps(tmp_path: Path, number: str) -> None:
    (tmp_path / "flow.csv").write_text(f"step,name,steps,horizon\n1,a,{number},1\n")
    with pytest.raises(BadInput, match=r"flow\.csv: steps: expected a number from 0 to 2,147,483,647, got "):
        plots.history(tmp_path / "flow.csv", tmp_path / "plot.png")


def test_a_split_that_is_none(tmp_path: Path) -> None:
    from elman.data.splits import load_split

    (tmp_path / "split.csv").write_text('part,number,name\ntrain,0,"' + "x" * (tables.MAX_CELL_SIZE + 1) + '"\n')
    with pytest.raises(BadInput, match=r"split\.csv: expected a table of the parts of examples: field larger"):
        load_split(tmp_path / "split.csv", [None], ["train"])  # type: ignore[list-item]
    (tmp_path / "split.csv").write_text(f"part,number,name\ntrain,{'9' * 5000},a\n")
    assert load_split(tmp_path / "split.csv", [None], ["train"]) is None  # type: ignore[list-item]


# Names.


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_a_column_with_quotation_marks(suffix: str, tmp_path: Path) -> None:
    stamp, value, other = 'a "b" c', '"x"', "sun, shade"
    table = pl.DataFrame({stamp: ["2026-01-01", "2026-01-02"], value: [1, 2], other: [3, 4]})
    path = tmp_path / f"table{suffix}"
    if suffix == ".parquet":
        table.write_parquet(path)
    elif suffix == ".jsonl":
        table.write_ndjson(path)
    else:
        table.write_csv(path, separator="\t" if suffix == ".tsv" else ",")
    names: list[Any] = ['"sun, shade"', [other]]
    for covariates in names:
        options = ForecastOptions(time=stamp, target=value, covariates=covariates)
        _, (series,) = rows.read_rows([path], options)
        assert series.values.tolist() == [1, 2]
        assert series.covariates.ravel().tolist() == [3, 4]
    assert next(iter(tables.rows(path, {"--text": stamp}))) == ("2026-01-01",)
    assert tables.column_names(path) == [stamp, value, other]


def test_columns_that_quotation_marks_make_equal(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text('"a ""b""","a ""b""",c\n1,2,3\n')
    table = tables.read_table(path)
    with pytest.raises(BadInput, match="expected one column named 'a \"b\"', got several"):
        tables.column(path, table, 'a "b"', "--target")
    assert table["c"].to_list() == ["3"]


def test_a_column_of_labels_that_the_training_named(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("one X\ntwo Y\n\n")
    with pytest.raises(BadInput, match="expected one word per line"):
        tag.read_inputs(tmp_path / "words.txt", TagOptions(column="upos"), ["Z"])


def test_a_link_out_of_a_run_is_not_copied(copied: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text("secret")
    trained = tasks.load(copied)
    (copied / "notes.json").symlink_to(secret)
    with pytest.raises(BadInput, match=r"save: .*notes\.json: expected a file of the run, got a link that leads out"):
        trained.save(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()
    (copied / "notes.json").unlink()
    (copied / "notes.json").symlink_to("config.json")
    os.mkfifo(copied / "pipe.json")
    trained.save(tmp_path / "saved")
    assert (tmp_path / "saved" / "notes.json").read_bytes() == (copied / "config.json").read_bytes()
    assert not (tmp_path / "saved" / "pipe.json").exists()


def test_the_cache_of_the_hub_has_links(copied: Path, tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "models--a--b/snapshots/1", tmp_path / "models--a--b/blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for i, path in enumerate(path for path in copied.iterdir() if path.is_file() and path.name != ".lock"):
        path.rename(blobs / str(i))
        (snapshot / path.name).symlink_to(f"../../blobs/{i}")
    tasks.load(snapshot).save(tmp_path / "saved")
    assert not (tmp_path / "saved" / "config.json").is_symlink()
    assert tasks.load(tmp_path / "saved").generate("the", 3, seed=0)


def test_folders_in_each_other(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*"a" * (files.MAX_FOLDERS - 1))
    deep.mkdir(parents=True)
    (deep / "file").touch()
    assert list(files.visible_files(tmp_path)) == [deep / "file"]
    (deep / "b").mkdir()
    with pytest.raises(BadInput, match="expected at most 100 folders in each other"):
        list(files.visible_files(tmp_path))


def test_a_file_with_a_line_break_in_its_name(elman: Command, copied: Path) -> None:
    (copied / "a\nended yes").touch()
    assert r"a\nended yes (0 bytes)" in elman("info", copied).out


# Tokenizers.


def test_tokenizers_that_elman_has_not_fitted(elman: Command, copied: Path) -> None:
    path = copied / "tokenizer.json"
    whole = json.loads(path.read_text())
    slow = {"type": "Split", "pattern": {"Regex": "(a|a)*(a|a)*b"}, "behavior": "Isolated", "invert": False}
    put(path, pre_tokenizer=slow)
    refused(elman("generate", copied), "tokenizer.json", "splits texts in another way")
    put(path, pre_tokenizer=whole["pre_tokenizer"], normalizer={"type": "Lowercase"})
    refused(elman("generate", copied), "tokenizer.json", "splits texts in another way")
    vocabulary = whole["model"]["vocab"]
    name = max(vocabulary, key=vocabulary.get)
    put(path, normalizer=None, model=whole["model"] | {"vocab": vocabulary | {name: 4_000_000_000}})
    refused(elman("generate", copied), "tokenizer.json", "not numbered from 0 without gaps")
    put(path, model=whole["model"] | {"type": "Unigram"})
    refused(elman("generate", copied), "tokenizer.json", "with the model 'Unigram'")
    put(path, model=whole["model"])
    assert elman("generate", copied, "--length", 3).code == 0


def test_a_tokenizer_at_which_the_library_crashes(tmp_path: Path) -> None:
    content = json.loads(tokenizers.fit("bpe", "please stay at home, please stay", 300).to_str())
    content["model"]["continuing_subword_prefix"] = "longer than a token"
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(BadInput, match=r"tokenizer\.json: .*one with continuing_subword_prefix 'longer than a token'"):
        tokenizers.load(tmp_path / "tokenizer.json")


@pytest.mark.parametrize("kind", ["char", "word", "bpe"])
def test_tokenizers_that_elman_has_fitted(kind: Any, tmp_path: Path) -> None:
    tokenizer = tokenizers.fit(kind, "please stay at home, please stay", 300)
    (tmp_path / "tokenizer.json").write_text(tokenizer.to_str())
    loaded = tokenizers.load(tmp_path / "tokenizer.json")
    assert tokenizers.encode(loaded, "stay").tolist() == tokenizers.encode(tokenizer, "stay").tolist()


# Texts that are commands elsewhere.


def test_labels_are_no_formulas(tmp_path: Path) -> None:
    figure = Figure()
    axes = figure.subplots()
    axes.set_xticks(range(4), ["$\\frac$", "$\\mathdefault{\\frac}$", "$x", "$a_b$"])
    axes.plot([1, 1000], label="$\\undefined$")
    axes.set_yscale("log")
    axes.legend()
    files.write_figure(tmp_path / "picture.png", figure)
    legend = axes.get_legend()
    assert legend is not None
    assert [text for text in axes.get_xticklabels() + legend.get_texts() if text.get_parse_math()] == []
    assert all(label.get_parse_math() for label in axes.get_yticklabels() if label.get_text())
    (tmp_path / "flow.csv").write_text("step,name,steps,horizon\n1,$\\frac$,10,4\n")
    plots.history(tmp_path / "flow.csv", tmp_path / "plot.png")


def test_texts_keep_their_direction_and_their_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert terminal.escaped("\u202egnp.exe \u2067\u2069") == r"\u202egnp.exe \u2067\u2069"
    terminal.note("skipped 'a\nelman: all is well'")
    assert capsys.readouterr().err == "skipped 'a\\nelman: all is well'\n"


@pytest.mark.parametrize("newlines", [True, False])
def test_lines_that_end_in_other_blocks(newlines: bool) -> None:
    blocks = ["one ", "line\r", "\n", "", "two\nthree", "\r", "four", "\n\n", "five", ""]
    expected = ["one line\r", "two", "three\rfour", "", "five"] if newlines else "".join(blocks).split("\n")
    lines = list(files.lines_in(blocks, newlines))
    assert lines == (expected if newlines else ["one line", "two", "three", "four", "", "five"])


@pytest.mark.slow
def test_a_cell_of_many_megabytes(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["text", "x" * (tables.MAX_CELL_SIZE + 1)], ["a", "b"]])
    for read in (tables.column_names, lambda path: list(tables.rows(path, {"--text": "text"}))):
        with pytest.raises(BadInput, match="field larger than field limit"):
            read(path)
    assert list(files.text_lines(path, newlines=True))[1] == "a,b\r"
