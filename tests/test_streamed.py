"""Training data in Parquet and Arrow files, which are read while a model is trained (`--stream`)."""

import csv
import json
import random
import signal
import subprocess
import sys
from collections import Counter
from itertools import chain
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
import torch

from elman.data.batches import Unused
from elman.data.examples import Example
from elman.data.row_files import RowFiles
from elman.data.row_stream import EpochOrder, RowStream, Survey
from elman.data.streamed_batches import LANES, StreamedExamples, StreamedTokens
from elman.data.streams import streams
from elman.errors import BadInput
from elman.tasks import classify
from elman.tasks.registry import TASKS, get_task, options_of
from elman.tasks.task import PreparedData
from tests.small import NOUNS, VERBS, Command
from tests.test_bad_input import refused
from tests.test_distributed import assert_same, rows
from tests.test_resume import interrupt_at, losses

SMALL = ["--hidden", 6, "--embed", 6, "--batch", 8, "--epochs", 2, "--dropout", 0.2]
GOOD, BAD = ("fine", "lovely", "good"), ("awful", "dull", "poor")


def reviews(count: int, seed: int = 0) -> pa.Table:
    """Texts and labels; each text is another one."""
    draw = random.Random(seed)
    kinds = [draw.random() < 0.5 for _ in range(count)]
    words = [[draw.choice((*NOUNS, *VERBS)) for _ in range(draw.randint(1, 12))] for _ in range(count)]
    texts = [
        f"{' '.join(some)} {draw.choice(GOOD if kind else BAD)} {i}"
        for i, (some, kind) in enumerate(zip(words, kinds, strict=True))
    ]
    return pa.table({"id": range(count), "text": texts, "label": ["pos" if kind else "neg" for kind in kinds]})


def write(folder: Path, table: pa.Table, files: int = 3, row_group_size: int = 50) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    size = -(-len(table) // files)
    for i in range(files):
        pq.write_table(table.slice(i * size, size), folder / f"part-{i}.parquet", row_group_size=row_group_size)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("streamed") / "reviews", reviews(700))


def a_row(text: Any, label: Any, name: str) -> Example:
    return Example(text, label, name=name)


def stream_of(path: Path, parts: tuple[str, ...] = ("validation", "test"), seed: int = 0) -> RowStream:
    files = RowFiles([path], {"--text": "text", "--label": "label"})
    return RowStream(files, a_row, parts, seed, 1 << 25, skip_bad=False)


def labels_of(example: Example) -> list[str]:
    return [example.target]


def batches_of(stream: RowStream, batch: int = 24, window: int = 100, seed: int = 0) -> StreamedExamples:
    sizes = Survey.of(stream, range(len(stream.files.groups)), labels_of).sizes
    return StreamedExamples(
        stream, sizes, batch, window, lambda example: (example.input, len(example.input)), list, seed, "spare"
    )


# Files.


def write_ipc(table: pa.Table, path: Path, is_stream: bool, chunk: int = 64) -> None:
    new = pa.ipc.new_stream if is_stream else pa.ipc.new_file
    with new(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=chunk)


@pytest.mark.parametrize(
    "kind", ["parquet", "one group", "arrow", "datasets", "feather", "large", "dictionary", "uri", "no statistics"]
)
def test_rows_are_read_from_every_kind_of_file(tmp_path: Path, kind: str) -> None:
    """From the beginning of a row group, and from any of its blocks."""
    table, path = reviews(2500), tmp_path / "rows.parquet"
    if kind == "one group":
        pq.write_table(table, path)
    elif kind in ("arrow", "datasets"):
        path = tmp_path / "rows.arrow"
        write_ipc(table, path, is_stream=kind == "datasets")
    elif kind == "feather":
        path = tmp_path / "rows.feather"
        pa.feather.write_feather(table, path, compression="zstd")
    elif kind == "large":
        pq.write_table(table.set_column(1, "text", table["text"].cast(pa.large_string())), path, row_group_size=1000)
    elif kind == "dictionary":
        path = tmp_path / "rows.arrow"
        write_ipc(table.set_column(2, "label", table["label"].dictionary_encode()), path, is_stream=True)
    elif kind == "no statistics":
        pq.write_table(table, path, write_statistics=False, data_page_version="2.0", compression="gzip")
    else:
        pq.write_table(table, path, row_group_size=700)
    files = RowFiles([Path(f"file://{path}") if kind == "uri" else path], {"--label": "label", "--text": "text"})
    expected = list(zip(table["label"].to_pylist(), table["text"].to_pylist(), strict=True))
    blocks = [list(files.read(group)) for group in range(len(files.groups))]
    assert list(chain.from_iterable(chain.from_iterable(blocks))) == expected
    assert [len(group) for group in blocks] == files.blocks_of_groups().tolist()
    for group, all_blocks in enumerate(blocks):
        for first in range(len(all_blocks)):
            assert list(files.read(group, first)) == all_blocks[first:]
    assert files.rows == 2500


def test_long_rows_are_in_small_blocks(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"text": [f"{i} " * 20_000 for i in range(40)]}), tmp_path / "a.parquet", use_dictionary=False
    )
    files = RowFiles([tmp_path], {"--text": "text"})
    assert files.block_rows < 10
    assert sum(len(block) for block in files.read(0)) == 40


def test_files_are_those_of_folders_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = reviews(10)
    for name in ("b.parquet", "a/2.parquet", "a/10.PARQUET", ".hidden/x.parquet", "_delta.parquet", "state.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        if name.endswith("json"):
            (tmp_path / name).write_text("{}")
        else:
            pq.write_table(table, tmp_path / name)
    files = RowFiles([tmp_path], {"--text": "text"})
    assert [Path(file.path).name for file in files.files] == ["10.PARQUET", "2.parquet", "b.parquet"]
    assert "skipped 1 file that are not Parquet or Arrow: .json (1)" in capsys.readouterr().err


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def zeroed(path: Path) -> None:
    """The pages of a file are gone, but not its footer."""
    data = path.read_bytes()
    path.write_bytes(data[:4] + bytes(len(data) // 2) + data[4 + len(data) // 2 :])


def replaced(**columns: Any) -> Any:
    def replace(path: Path) -> None:
        table = pq.read_table(path)
        for name, values in columns.items():
            index = table.schema.names.index(name)
            change = table.remove_column(index) if values is None else None
            table = change if change is not None else table.set_column(index, name, pa.array(values(len(table))))
        pq.write_table(table, path)

    return replace


@pytest.mark.parametrize(
    ("damage", "parts"),
    [
        (cut, ["part-1.parquet: expected Parquet, got a file that cannot be read"]),
        (lambda path: path.write_bytes(b""), ["part-1.parquet: expected Parquet, got a file that cannot be read"]),
        (lambda path: path.write_text("text,label\n"), ["part-1.parquet: expected Parquet, got a file that cannot"]),
        (zeroed, ["part-1.parquet: expected Parquet, got a file that cannot be read"]),
        (replaced(label=None), ["part-1.parquet: --label: expected one of the columns id, text; got 'label'"]),
        (
            replaced(label=lambda n: list(range(n))),
            ["part-1.parquet: --label: expected texts in the column 'label', as in", "part-0.parquet, got integers"],
        ),
        (
            replaced(text=lambda n: [None if i == 7 else "a" for i in range(n)]),
            ["part-1.parquet: row 8: expected a text, got none; pass --skip-bad to skip it"],
        ),
        (
            replaced(label=lambda n: ["" if i == 60 else "pos" for i in range(n)]),
            ["part-1.parquet: row 61: expected a label, got ''; pass --skip-bad to skip it"],
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_named(elman: Command, tmp_path: Path, damage: Any, parts: list[str]) -> None:
    path = write(tmp_path / "data", reviews(300))
    damage(path / "part-1.parquet")
    refused(elman("train", "classify", path, "--stream", "--out", tmp_path / "run", *SMALL), *parts)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("empty", ["empty: --stream: expected Parquet or Arrow files (.parquet,", "got a folder without any"]),
        ("none", ["none: expected a Parquet or Arrow file, or a folder of them, but it does not exist"]),
        ("a.csv", ["a.csv: --stream: expected Parquet or Arrow files", "got another file"]),
        ("no rows", ["no rows: expected at least one row, got 1 empty file"]),
        ("few", ["classify: --stream: expected more rows, got none for", "add data"]),
        ("one label", ["classify: expected at least two different labels in the training part, got one, 'pos'"]),
        ("nosuch://bucket/a", ["nosuch://bucket/a: --stream: expected a place that pyarrow reads"]),
    ],
)
def test_what_is_no_data_is_refused(elman: Command, tmp_path: Path, name: str, parts: list[str]) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.csv").write_text("text,label\na,b\n")
    write(tmp_path / "no rows", reviews(10).slice(0, 0), 1)
    write(tmp_path / "few", reviews(3), 1)
    write(tmp_path / "one label", reviews(300).set_column(2, "label", pa.array(["pos"] * 300)), 1)
    data = name if ":" in name else tmp_path / name
    refused(elman("train", "classify", data, "--stream", "--out", tmp_path / "run", *SMALL), *parts)


def test_without_files_there_is_no_stream(elman: Command) -> None:
    refused(
        elman("train", "text", "--stream"), "text: --stream: expected Parquet or Arrow files, or folders of them, got"
    )
    with pytest.raises(BadInput, match=r"classify: stream: expected Parquet or Arrow files, .* got a tuple of 2"):
        classify.fit((["a"], ["b"]), stream=True)


def test_tasks_that_cannot_stream_say_so(elman: Command) -> None:
    streaming = {"text", "classify", "tag", "translate"}
    for task in TASKS:
        assert ("stream" in options_of(task).OPTIONS.model_fields) == (task in streaming)
    for task in sorted(set(TASKS) - streaming):
        refused(
            elman("train", task, "x", "--stream"), "--stream: expected a task that can stream (", f"got {task}, which"
        )


def prepared(task: str, path: Path, **options: Any) -> PreparedData:
    values = {"stream": True, "hidden": 6, "embed": 6, "batch": 8} | options
    return get_task(task).prepare([path], options_of(task).OPTIONS(**values), 0)


def test_unusable_rows_are_skipped_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "data", reviews(300))
    replaced(text=lambda n: ["" if i < 20 else f"a good {i}" for i in range(n)])(path / "part-1.parquet")
    pq.write_table(reviews(5).slice(0, 0), path / "part-9.parquet")
    data = prepared("classify", path, skip_bad=True)
    notes = capsys.readouterr().err
    assert "part-1.parquet: row 1: expected a text, got an empty one; skipped" in notes
    assert notes.count("; skipped") == 8
    assert "skipped 20 unusable rows" in notes
    assert "part-9.parquet: has no rows" in notes
    assert (data.facts["rows"], data.facts["skipped"]) == (300, 20)
    assert sum(data.facts[part] for part in ("train", "validation", "test")) == 280
    assert sum(len(batch.labels) for batch in data.train) == data.facts["train"]


# Parts.


def test_a_hash_of_the_content_holds_out_a_tenth(tmp_path: Path) -> None:
    """Copies of a text are in one part, wherever they are; the parts depend on the seed."""
    table = pa.concat_tables([reviews(2000), reviews(2000), reviews(2000, seed=1)])
    stream = stream_of(write(tmp_path / "data", table, 4))
    survey = Survey.of(stream, range(len(stream.files.groups)), labels_of)
    held_out = {name: {example.input for example in survey.part(name)} for name in stream.parts}
    training = [example.input for _, block in stream.training(range(len(stream.files.groups))) for example in block]
    assert not (held_out["validation"] | held_out["test"]) & set(training)
    assert not held_out["validation"] & held_out["test"]
    assert len(set(table["text"].to_pylist())) == len(set(training)) + sum(map(len, held_out.values()))
    assert survey.examples == len(training) == survey.sizes.sum()
    for texts in held_out.values():
        assert 0.08 < len(texts) / 4000 < 0.12
    assert {example.target for example in survey.sample()} == {"pos", "neg"}
    other = stream_of(tmp_path / "data", seed=1)
    assert {e.input for e in Survey.of(other, range(len(other.files.groups)), labels_of).part("test")} != held_out[
        "test"
    ]


@pytest.mark.parametrize("world_size", [2, 3, 7, 40])
def test_processes_share_the_survey(tmp_path: Path, world_size: int) -> None:
    """Of copies of a text that several processes meet, the first in the files counts."""
    table = reviews(300)
    stream = stream_of(write(tmp_path, pa.concat_tables([table.slice(230), table])))
    whole = Survey.of(stream, range(len(stream.files.groups)), labels_of)
    surveys = [Survey.of(stream, stream.groups_of(rank, world_size), labels_of) for rank in range(world_size)]
    merged = Survey.merged(surveys)
    assert merged.sha256 == whole.sha256 != surveys[0].sha256
    assert merged.sizes.tolist() == whole.sizes.tolist()
    assert merged.sample() == whole.sample()
    assert [merged.part(name) for name in stream.parts] == [whole.part(name) for name in stream.parts]
    assert (merged.examples, merged.skipped, list(merged.labels)) == (whole.examples, 0, list(merged.labels))


def test_a_sample_has_every_label(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("elman.data.row_stream.MAX_SAMPLE", 20)
    table = reviews(700).set_column(2, "label", pa.array([str(i // 20) for i in range(700)]))
    stream = stream_of(write(tmp_path / "data", table))
    survey = Survey.of(stream, range(len(stream.files.groups)), labels_of)
    sample = survey.sample()
    assert 35 <= len(sample) < 80
    assert {example.target for example in sample} == {str(i) for i in range(35)}


def test_what_are_no_labels_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("elman.data.row_stream.MAX_LABELS", 50)
    stream = stream_of(folder)
    with pytest.raises(
        BadInput, match=r"part-0\.parquet: expected at most 50 different labels, got more; is the column"
    ):
        Survey.of(stream, range(len(stream.files.groups)), lambda example: [example.input])


def test_a_label_of_no_training_row_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = reviews(300)
    path = write(tmp_path / "data", table)
    stream = stream_of(path)
    survey = Survey.of(stream, range(len(stream.files.groups)), labels_of)
    rare = survey.part("test")[0].input
    labels = ["rare" if row["text"] == rare else row["label"] for row in table.to_pylist()]
    write(tmp_path / "data", table.set_column(2, "label", pa.array(labels)))
    data = prepared("classify", path)
    assert "left out of test: 1 row with a label that no row for training has" in capsys.readouterr().err
    assert data.facts["test"] == len(survey.part("test")) - 1


# Batches of examples.


@pytest.mark.sample(4)
@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 6, 8, 12, 24])
def test_every_row_is_seen_once_in_an_epoch(folder: Path, world_size: int) -> None:
    """By one process of all; and what all see together does not depend on their number."""
    stream = stream_of(folder)
    whole = batches_of(stream)
    parts = [whole.part(rank, world_size) for rank in range(world_size)]
    training = Counter(e.input for _, block in stream.training(range(len(stream.files.groups))) for e in block)
    for epoch in range(2):
        seen = Counter[str]()
        for i in range(epoch * len(whole), (epoch + 1) * len(whole)):
            divided = [part[i] for part in parts]
            used = list(chain.from_iterable(texts for texts in divided if not isinstance(texts, Unused)))
            assert sorted(used) == sorted(whole[i])
            seen.update(used)
        assert seen == training
    for rank, part in enumerate(parts):
        divisor = gcd(world_size, LANES)
        assert sorted(part._lanes) == list(range(rank % divisor, LANES, divisor))  # and reads no others


def test_a_process_without_an_example_has_an_unused_batch(folder: Path) -> None:
    whole = batches_of(stream_of(folder))
    used, last = sum(map(len, whole)), [batch for batch in whole if len(batch) < 24]
    assert used % 24 == len(last[0])
    parts = [whole.part(rank, 24) for rank in range(24)]
    unused = [part[i] for part in parts for i in range(len(whole)) if isinstance(part[i], Unused)]
    assert len(unused) == 24 - len(last[0])
    assert unused[0].batch == ["spare"]


def test_the_order_is_that_of_the_seed(folder: Path) -> None:
    stream = stream_of(folder)
    batches = batches_of(stream)
    first, second = list(batches), [batches[len(batches) + i] for i in range(len(batches))]
    assert first == list(batches_of(stream))
    assert first != second
    assert first != list(batches_of(stream, seed=1))
    in_order = [example.input for _, block in stream.training(range(len(stream.files.groups))) for example in block]
    assert in_order != list(chain.from_iterable(first))


@pytest.mark.slow
def test_any_batch_can_be_asked_for(folder: Path) -> None:
    """As a resumed training does: the same batch as in order."""
    stream = stream_of(folder)
    batches = batches_of(stream)
    in_order = [batches[i] for i in range(3 * len(batches))]
    numbers = list(range(3 * len(batches)))
    random.Random(0).shuffle(numbers)
    for number in numbers[:30]:
        assert batches[number] == in_order[number]
        assert batches_of(stream).part(0, 1)[number] == in_order[number]


def test_examples_of_a_batch_are_about_equally_long(folder: Path) -> None:
    batches = batches_of(stream_of(folder), batch=16, window=300)
    spread = np.mean([np.ptp([len(text) for text in batch]) for batch in batches])
    shuffled = list(chain.from_iterable(batches))
    random.Random(0).shuffle(shuffled)
    by_chance = np.mean([np.ptp([len(text) for text in shuffled[i : i + 16]]) for i in range(0, len(shuffled), 16)])
    assert spread < by_chance / 2


def test_a_file_that_changes_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path / "data", reviews(300), 1)
    batches = batches_of(stream_of(path))
    write(path, reviews(300, seed=5), 1)
    with pytest.raises(BadInput, match=r"part-0\.parquet: expected the same rows as before, got others: the file has"):
        list(batches)
    write(path, reviews(100), 1)
    with pytest.raises(BadInput, match=r"part-0\.parquet"):
        list(batches)


# Streams of tokens.


def codes(examples: list[Example]) -> Any:
    return np.frombuffer("".join(f"{example.input}\n" for example in examples).encode("utf-32-le"), np.int32)


def tokens_of(stream: RowStream, batch: int, bptt: int, seed: int = 0) -> StreamedTokens:
    groups = range(len(stream.files.groups))
    sizes = Survey.of(stream, groups, labels_of, lambda example: len(example.input) + 1).sizes
    return StreamedTokens(stream, sizes, batch, bptt, codes, seed)


def test_tokens_are_those_of_the_text_in_memory(tmp_path: Path) -> None:
    """Of one row group, whose order is that of the file: chunks equal those of the whole text."""
    stream = stream_of(write(tmp_path / "data", reviews(2300), 1, 10_000), parts=("validation",))
    ids = codes([example for _, block in stream.training([0]) for example in block])
    for batch, bptt in ((6, 10), (4, 333), (1, 64)):
        expected, streamed = streams(ids, batch, bptt), tokens_of(stream, batch, bptt)
        assert len(streamed) == len(expected)
        for chunk, of_memory in zip(streamed, expected, strict=True):
            for values, others in zip(chunk.values, of_memory.values, strict=True):
                assert torch.equal(values, others)
            assert torch.equal(chunk.lengths, of_memory.lengths)
            assert torch.equal(chunk.fresh, of_memory.fresh)
    assert len(stream.files.blocks_of_groups()) == 1
    assert stream.blocks > 2


def test_streams_are_divided_by_rows_and_found_again(folder: Path) -> None:
    stream = stream_of(folder, parts=("validation",))
    whole = tokens_of(stream, 6, 20)
    in_order = [whole[i] for i in range(2 * len(whole))]
    assert not torch.equal(in_order[0].values[0], in_order[len(whole)].values[0])  # row groups in another order
    assert [bool(chunk.fresh.all()) for chunk in in_order] == [i % len(whole) == 0 for i in range(2 * len(whole))]
    for rank in range(3):
        part = whole.part(rank, 3)
        for i in (*range(5), len(whole) - 1, len(whole), len(whole) + 7, 3):
            assert torch.equal(part[i].values[0], in_order[i].values[0][:, rank::3])
            assert torch.equal(part[i].values[1], in_order[i].values[1][:, rank::3])


def test_every_token_is_read_once(folder: Path) -> None:
    """But those at the end of each stream that fill no chunk."""
    stream = stream_of(folder, parts=("validation",))
    whole = tokens_of(stream, 6, 20)
    order = EpochOrder(stream, whole._sizes, 0, 0)
    ids = np.concatenate([codes(examples) for _, examples, _ in order.examples_from(0)])
    assert len(ids) == whole._sizes.sum()
    read = np.stack([chunk.values[0].numpy() for chunk in whole]).transpose(2, 0, 1).reshape(6, -1)
    width = (len(ids) - 1) // 6
    for row in range(6):
        assert np.array_equal(read[row], ids[row * width :][: width // 20 * 20])


# Trainings.


@pytest.mark.slow
def test_classify(elman: Command, folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    said = elman("train", "classify", folder, "--stream", "--out", run, *SMALL)
    assert said.code == 0, said.err
    line = next(line for line in said.err.splitlines() if line.startswith(str(folder)))
    data = json.loads((run / "config.json").read_text())["data"]
    assert f"700 rows in 3 files, streamed: {data['train']} texts for training, {data['validation']} for" in line
    assert f"a sample of {data['train']} texts" in line
    assert data["train"] + data["validation"] + data["test"] == data["rows"] == 700
    assert data["files"] == [str(folder)]
    assert "TF-IDF and logistic regression" in said.out
    assert elman("predict", run, "a lovely word").code == 0


@pytest.mark.parametrize("task", ["classify", "text"])
def test_other_commands_read_what_they_need(elman: Command, some: Path, tmp_path: Path, task: str) -> None:
    run = tmp_path / "run"
    assert elman("train", task, some, "--stream", "--out", run, *TRAIN[task]).code == 0
    assert elman("info", run).code == 0
    assert elman("flow", run, "--steps", 20).code == 0
    assert elman("report", run).code == 0
    assert "cannot be read" not in (run / "report.html").read_text()
    if task == "classify":
        assert elman("evaluate", run, some / "part-1.parquet").code == 0


@pytest.mark.parametrize("tokens", ["char", "word", "bpe"])
def test_text(elman: Command, folder: Path, tmp_path: Path, tokens: str) -> None:
    run = tmp_path / "run"
    arguments = ["--tokens", tokens, "--vocabulary", 0 if tokens == "char" else 300, "--bptt", 10, "--epochs", 1]
    said = elman("train", "text", folder, "--stream", "--out", run, *SMALL[:6], *arguments)
    assert said.code == 0, said.err
    assert "700 rows in 3 files, streamed: " in said.err
    assert elman("generate", run, "--length", 5).code == 0
    config = json.loads((run / "config.json").read_text())
    assert "(Kneser-Ney), of a sample of " in list(config["scores"])[1]
    texts = pq.read_table(folder)["text"].to_pylist()
    assert config["data"]["characters"] == sum(len(text) + 1 for text in texts)


def test_empty_rows_are_empty_lines(tmp_path: Path) -> None:
    texts = [None if i % 5 == 3 else "" if i % 5 == 4 else f"the gate {i} sees\n" for i in range(400)]
    write(tmp_path / "data", pa.table({"page": texts}), 2)
    data = prepared("text", tmp_path / "data", text_column="page", bptt=5)
    assert data.facts["characters"] == sum(len(text or "\n") for text in texts if text is not None)
    write(tmp_path / "data", pa.table({"page": list(range(400))}), 2)
    with pytest.raises(BadInput, match=r"part-0\.parquet: row 1: expected a text, got 0$"):
        prepared("text", tmp_path / "data", text_column="page")


def loss_of(task: str, data: PreparedData) -> float:
    """The mean loss of the first batch, of a model that was not trained."""
    model: Any = get_task(task).model(**data.model_args)
    loss, count, _ = model.loss(data.train[0], None)
    return float(loss.item() / count)


def test_tag_and_translate(tmp_path: Path) -> None:
    draw = random.Random(0)
    words = [[draw.choice(NOUNS if i % 2 else VERBS) for i in range(draw.randint(1, 6))] for _ in range(200)]
    labels = [[int(word in NOUNS) for word in sentence] for sentence in words]
    write(tmp_path / "tag", pa.table({"tokens": words, "tags": labels}), 2)
    data = prepared("tag", tmp_path / "tag", words="tokens", column="tags", characters=6)
    assert loss_of("tag", data) == pytest.approx(np.log(2), abs=0.5)
    assert data.model_args["labels"] == 2
    texts = [f"{' '.join(sentence)} {i}" for i, sentence in enumerate(words)]
    table = pa.table({"en": texts, "de": [text[::-1] for text in texts]})
    write(tmp_path / "pairs", table, 2)
    data = prepared("translate", tmp_path / "pairs", source_column="en", target_column="de", tokens="char")
    assert loss_of("translate", data) == pytest.approx(np.log(data.model_args["vocabulary"]), abs=0.5)
    with pytest.raises(BadInput, match=r"--source-column: expected one of the columns en, de; got 'source'"):
        prepared("translate", tmp_path / "pairs")


def test_losses_are_those_in_memory_where_the_order_does_not_matter(elman: Command, tmp_path: Path) -> None:
    """One batch in an epoch, and files of their own for validation and test: the training part is the same."""
    table, ends = reviews(200), {"validation": reviews(40, seed=1), "test": reviews(40, seed=2)}
    write(tmp_path / "data", table, 2)
    pq.write_table(table, tmp_path / "whole.parquet")
    options = ["--hidden", 6, "--embed", 6, "--dropout", 0, "--word-dropout", 0, "--batch", 200, "--epochs", 4]
    for part, rows_of_part in ends.items():
        pq.write_table(rows_of_part, tmp_path / f"{part}.parquet")
        options += [f"--{part}", tmp_path / f"{part}.parquet"]
    for name, data in (("streamed", [tmp_path / "data", "--stream"]), ("memory", [tmp_path / "whole.parquet"])):
        said = elman("train", "classify", *data, "--out", tmp_path / name, *options)
        assert said.code == 0, said.err
    assert (tmp_path / "streamed" / "codec.json").read_bytes() == (tmp_path / "memory" / "codec.json").read_bytes()
    for name in ("train_loss", "val_loss"):
        assert rows(tmp_path / "streamed", name) == pytest.approx(rows(tmp_path / "memory", name), rel=1e-4)
    assert len(rows(tmp_path / "streamed", "val_loss")) == 4


@pytest.fixture(scope="module")
def some(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("some") / "reviews", reviews(200), 3, 20)


TRAIN = {
    "classify": ["--hidden", 6, "--embed", 6, "--batch", 8, "--epochs", 2, "--shuffle-rows", 64],
    "text": ["--hidden", 6, "--embed", 6, "--batch", 4, "--bptt", 40, "--epochs", 2, "--dropout", 0.2],
}


@pytest.mark.sample(1)
@pytest.mark.parametrize(("task", "step"), [("classify", 11), ("classify", 29), ("text", 9), ("text", 50)])
def test_resumed_as_if_never_interrupted(
    elman: Command, some: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str, step: int
) -> None:
    whole, run = tmp_path / "whole", tmp_path / "run"
    command = ["train", task, some, "--stream", *TRAIN[task]]
    assert elman(*command, "--out", whole).code == 0
    with monkeypatch.context() as patch:
        interrupt_at(patch, step, lambda: signal.raise_signal(signal.SIGINT))
        assert elman(*command, "--out", run).code == 130
    assert len(losses(run)) < len(losses(whole))
    said = elman("train", task, "--resume", run)
    assert said.code == 0, said.err
    assert losses(run) == losses(whole)
    assert (run / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_other_data_are_not_resumed_on(elman: Command, tmp_path: Path) -> None:
    path, run = write(tmp_path / "data", reviews(200)), tmp_path / "run"
    assert elman("train", "classify", path, "--stream", *SMALL, "--out", run).code == 0
    write(path, reviews(200, seed=1))
    refused(
        elman("train", "classify", "--resume", run, "--epochs", 3),
        "expected the data that", "was trained on, got other or changed data",
    )  # fmt: skip


@pytest.mark.parametrize("task", TRAIN)
def test_two_processes_train_as_one_with_their_batches(folder: Path, tmp_path: Path, task: str) -> None:
    """And a run of two is resumed by one."""
    options = dict(zip(TRAIN[task][::2], TRAIN[task][1::2], strict=True)) | {"--dropout": 0}
    options |= {"--word-dropout": 0} if task == "classify" else {}

    def train(*arguments: object) -> None:
        command = [sys.executable, "-m", "elman", "train", task, *arguments, "--accelerator", "cpu"]
        subprocess.run(list(map(str, command)), capture_output=True, check=True)

    def as_arguments(values: dict[Any, Any]) -> list[Any]:
        return list(chain.from_iterable(values.items()))

    half = options | {"--batch": {"classify": 4, "text": 2}[task]}
    train(folder, "--stream", *as_arguments(options), "--out", tmp_path / "one")
    train(folder, "--stream", *as_arguments(half), "--devices", 2, "--out", tmp_path / "two")
    assert_same(tmp_path / "two", tmp_path / "one")
    train(folder, "--stream", *as_arguments(half | {"--epochs": 1}), "--devices", 2, "--out", tmp_path / "half")
    train("--resume", tmp_path / "half", "--devices", 1, "--epochs", 2)
    with (tmp_path / "half" / "metrics.csv").open() as file:
        assert len(list(csv.reader(file))) == len((tmp_path / "one" / "metrics.csv").read_text().splitlines())


PEAK = """
import resource, sys
from elman.cli import run
from elman.data import row_stream
from elman.tasks import streamed
from elman.tasks.text import streamed as texts
row_stream.HELD_OUT_BYTES = streamed.SAMPLE_BYTES = texts.SAMPLE_BYTES = 1 << 18
assert run(sys.argv[1:]) == 0
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.parametrize("task", TRAIN)
def test_memory_does_not_depend_on_the_size_of_the_data(tmp_path: Path, task: str) -> None:
    """The peak of a process: 160 MB of texts take as much as a hundredth of them."""
    draw = random.Random(0)
    words = [f"w{draw.randrange(2000)}" for _ in range(100_000)]

    def table(rows: int) -> pa.Table:
        texts = [" ".join(words[begin : begin + 150]) for begin in (draw.randrange(99_000) for _ in range(rows))]
        return pa.table({"text": texts, "label": [f"l{i % 3}" for i in range(rows)]})

    write(tmp_path / "small", table(2000), 1, 1000)
    for i in range(20):
        write(tmp_path / "large" / str(i), table(10_000), 1, 2000)
    assert sum(path.stat().st_size for path in (tmp_path / "large").rglob("*.parquet")) > 20_000_000
    peaks = {}
    for name, epochs in (("small", 0.1), ("large", 0.001)):
        options = [*map(str, TRAIN[task]), "--epochs", str(epochs), "--out", str(tmp_path / f"{name} run")]
        command = [sys.executable, "-c", PEAK, "train", task, str(tmp_path / name), "--stream", *options]
        said = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks[name] = int(said.stdout.rpartition("peak")[2]) * 1024
    assert peaks["large"] - peaks["small"] < 60_000_000, peaks
