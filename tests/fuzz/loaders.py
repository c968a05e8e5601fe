"""Everything that reads files, with valid files to begin with. A new loader is an entry of `LOADERS`."""

import atexit
import contextlib
import gzip
import io
import json
import shutil
import struct
import tempfile
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import soundfile
import torch
from PIL import Image as Pillow

from elman.cli import config
from elman.data import audio, images, midi, tables
from elman.data.row_files import RowFiles
from elman.data.splits import load_split
from elman.data.word_vectors import read_vectors
from elman.flow import plots
from elman.io import files
from elman.io.metrics_csv import CsvTable
from elman.io.run_folder import new_run, open_run
from elman.report import as_json, curves, flow
from elman.report import tables as screen
from elman.report.page import training
from elman.report.page.history import history
from elman.report.shown import Missing, Shown
from elman.tasks.classify import data as classify
from elman.tasks.classify.options import ClassifyOptions
from elman.tasks.forecast import data as forecast
from elman.tasks.forecast.options import ForecastOptions
from elman.tasks.image import data as labelled
from elman.tasks.music import data as music
from elman.tasks.music.options import MusicOptions
from elman.tasks.registry import get_task, options_of, task_of_run
from elman.tasks.series import data as series
from elman.tasks.series.options import SeriesOptions
from elman.tasks.tag import data as tag
from elman.tasks.tag.options import TagOptions
from elman.tasks.text.baseline import NgramBaseline
from elman.tasks.text.task import _baseline
from elman.tasks.translate import data as translate
from elman.tasks.translate.options import TranslateOptions
from elman.training.metrics import COLUMNS
from elman.training.options import TrainingOptions
from tests.small import FLOW, text
from tests.tasks.test_damaged import made
from tests.tasks.test_odd_midi import ALIEN, END, FILE, TUNE, header, riff, tempo, track
from tests.tasks.test_tag import conllu, sentences

RUNS = ("text", "image", "classify", "tag", "forecast", "translate", "caption", "transcribe", "music", "series")


@dataclass(frozen=True)
class Seed:
    """A valid file.

    data: its content.
    suffix: of its name.
    folder: the folder around it, for a file of a run.
    """

    data: bytes
    suffix: str = ""
    folder: Path | None = None


@dataclass(frozen=True)
class Loader:
    """A reader of files.

    load: reads the file, or the run in the folder.
    seeds: makes valid files.
    name: of the file in a run; "" for a file without a run.
    unpack, pack: between a file and what is damaged, where damage to the file itself would find little.
    """

    load: Callable[[Path], Any]
    seeds: Callable[[], list[Seed]]
    name: str = ""
    unpack: Callable[[bytes], bytes] = bytes
    pack: Callable[[bytes], bytes] = bytes


def exhausted(items: Iterable[Any]) -> int:
    """Read all items; return their number."""
    return sum(1 for _ in items)


# Texts and tables.

TEXTS = [b"the network sees\r\nthe word\n caf\xc3\xa9 \xe6\x97\xa5\n", b"\xef\xbb\xbfplease\rstay", text(300).encode()]
ROWS = {"text": ["one, two", 'a "b" c', "three\nfour", "five"], "label": ["a", "b", "a", "b"], "n": [1, 2, None, 4]}
STAMPS = [f"2026-01-{day:02} {hour:02}:00" for day in (1, 2) for hour in range(24)]
SERIES = {"time": STAMPS, "value": [float(i % 24) for i in range(48)], "b": [f"{i},5" for i in range(48)]}


def table_files(columns: dict[str, Any]) -> list[Seed]:
    table, seeds = pl.DataFrame(columns), list[Seed]()
    for suffix, separator in ((".csv", ","), (".csv", ";"), (".tsv", "\t")):
        seeds.append(Seed(table.write_csv(separator=separator).encode(), suffix))
    seeds.append(Seed(table.write_ndjson().encode(), ".jsonl"))
    return [*seeds, Seed(json.dumps(table.to_dicts()).encode(), ".json")]


def parquet_files(columns: dict[str, Any]) -> list[Seed]:
    seeds = []
    for compression in ("zstd", "snappy", "uncompressed", "gzip"):
        data = io.BytesIO()
        pl.DataFrame(columns).write_parquet(data, compression=compression, row_group_size=20)
        seeds.append(Seed(data.getvalue(), ".parquet"))
    return seeds


def arrow_files(columns: dict[str, Any]) -> list[Seed]:
    seeds = []
    for write in (pl.DataFrame.write_ipc, pl.DataFrame.write_ipc_stream):
        data = io.BytesIO()
        write(pl.DataFrame(columns), data)
        seeds.append(Seed(data.getvalue(), ".arrow"))
    return seeds


def read_stream(path: Path) -> int:
    rows = RowFiles([path], {"--text": "text", "--label": "label"})
    return sum(exhausted(block) for group in range(len(rows.groups)) for block in rows.read(group))


def read_rows(path: Path) -> int:
    tables.column_names(path)
    return exhausted(tables.rows(path, {"--text": "text", "--label": "label", "--group": ""}))


def read_series(path: Path) -> Any:
    return forecast.read_series([path], ForecastOptions(time="time", target="value"))


def read_texts(path: Path) -> int:
    return exhausted(files.text_lines(path)) + exhausted(classify.read([path], ClassifyOptions()))


def configurations() -> list[Seed]:
    values = {"task": "text", "data": ["a.txt"], "hidden": 12, "optimizer": "adam", "lr": 1e-3, "tokens": "word"}
    yaml = "".join(f"{key}: {json.dumps(value)}\n" for key, value in values.items()).encode()
    toml = "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items()).encode()
    return [Seed(yaml, ".yaml"), Seed(toml, ".toml"), Seed(json.dumps(values).encode(), ".json")]


TEXT_VECTORS = b"4 3\nthe 0.5 -1.25 2e-3\nState 1 2 3\na b 0 0 1\nqu\xc3\xa9 -0.5 .5 7\n"
BINARY_VECTORS = b"3 4\n" + b"\n".join(
    word + b" " + np.arange(4, dtype="<f4").tobytes() for word in (b"the", b"Gate", b"qu\xc3\xa9")
)


# Images, recordings, music.


def idx(values: Any, kind: int = 8) -> bytes:
    return struct.pack(f">4B{values.ndim}I", 0, 0, kind, values.ndim, *values.shape) + bytes(values.tobytes())


PIXELS = np.arange(24 * 6, dtype=np.uint8).reshape(24, 2, 3)
IDX = [idx(PIXELS), idx(PIXELS.astype(">f4"), 0x0D), idx(PIXELS.astype(">i2"), 0x0B)]


def read_idx(path: Path) -> int:
    labels = path.with_name("labels.idx")
    labels.write_bytes(idx(np.arange(24, dtype=np.uint8) % 2))
    return exhausted(labelled.read([path, labels], skip_bad=False))


def image_files() -> list[Seed]:
    seeds, draw = [], np.random.default_rng(0)
    for suffix, mode in (
        *((".png", "L"), (".png", "RGBA"), (".png", "I;16"), (".png", "P"), (".jpg", "RGB"), (".gif", "P")),
        *((".bmp", "RGB"), (".tiff", "L"), (".tiff", "RGB"), (".webp", "RGB"), (".ppm", "RGB"), (".tga", "RGB")),
        *((".ico", "RGBA"), (".jp2", "L"), (".dds", "RGB"), (".sgi", "L"), (".pcx", "L"), (".im", "L")),
        (".avif", "RGB"),
    ):
        data, values = io.BytesIO(), draw.integers(0, 255, (16, 20), np.uint8)
        image = Pillow.fromarray(values.astype(np.uint16) if mode == "I;16" else values)
        with warnings.catch_warnings(), contextlib.suppress(KeyError, OSError, ValueError):  # formats that Pillow lacks
            warnings.simplefilter("ignore", DeprecationWarning)
            (image if mode == "I;16" else image.convert(mode)).save(data, Pillow.registered_extensions()[suffix])
            seeds.append(Seed(data.getvalue(), suffix))
    return seeds


def recordings() -> list[Seed]:
    wave, seeds = (np.sin(np.arange(800) / 5) / 3).astype(np.float32), []
    for suffix, form, subtype, channels in (
        *((".wav", "WAV", "PCM_16", 1), (".wav", "WAV", "FLOAT", 2), (".wav", "WAV", "IMA_ADPCM", 1)),
        *((".flac", "FLAC", "PCM_16", 1), (".ogg", "OGG", "VORBIS", 1), (".mp3", "MP3", "MPEG_LAYER_III", 1)),
        *((".au", "AU", "ULAW", 1), (".aiff", "AIFF", "PCM_24", 1), (".wav", "RF64", "PCM_16", 1)),
        *((".sph", "NIST", "PCM_16", 1), (".caf", "CAF", "PCM_16", 2), (".w64", "W64", "PCM_16", 1)),
    ):
        data = io.BytesIO()
        soundfile.write(data, np.stack([wave] * channels, 1), 8000, format=form, subtype=subtype)
        seeds.append(Seed(data.getvalue(), suffix))
    return seeds


def midi_files() -> list[Seed]:
    two = header(1, 2) + track(tempo(0, 500_000) + tempo(480, 250_000) + END) + track(TUNE + END)
    return [Seed(data, ".mid") for data in (FILE, two, riff(FILE), header() + ALIEN + track(TUNE + END))]


def read_midi(path: Path) -> Any:
    return midi.is_midi(path), midi.read(path, 4)


FRAMES = {"train": [[[60], [62, 64], []]] * 3, "valid": [[[60], [67]]], "test": [[[61], [], [62]]]}


# Runs.


def text_run(path: Path) -> Path:
    """A run of a language model that was not trained."""
    task: Any = get_task("text")
    options = options_of("text").OPTIONS(hidden=4, embed=4, batch=2, bptt=4, tokens="word")
    prepared = task.prepare(io.StringIO(text(2000)), options, 0)
    config = {
        "task": "text", "data": {"name": "data"} | prepared.facts, "model": prepared.model_args,
        "options": task.options_to_dict(prepared.options), "training": TrainingOptions().model_dump(),
    }  # fmt: skip
    with new_run(path, config) as run:
        for name, content in prepared.files.items():
            (path / name).write_text(content)
        run.save_tensors("model", task.model(**prepared.model_args).state_dict())
        corpus, _ = prepared.details
        baseline = NgramBaseline.fit(corpus.train, corpus.validation.ids, corpus.tokenizer.get_vocab_size(), 2)
        run.save_tensors("baseline", {name: torch.from_numpy(array) for name, array in baseline.tensors().items()})
    return path


@cache
def run_of(task: str) -> Path:
    """A run of a task that was not trained, with the files of one that has ended."""
    path = folder_of_runs() / task
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's, of baselines that have not converged
        run = text_run(path) if task == "text" else made(task, path)
    (run / "metrics.csv").write_text(METRICS)
    (run / "flow.csv").write_text(FLOW)
    scores = {title: {"accuracy": 0.5, "loss": 1.0} for title in ("model", "baseline")}
    ended = {"steps": 5, "seconds": 1.5, "limit": None}
    open_run(run).update(scores=scores, baselines={"baseline": 1.0}, ended=ended)
    (run / "checksums.json").unlink(missing_ok=True)  # by which every change would be noticed
    return run


@cache
def folder_of_runs() -> Path:
    """A folder that disappears with the process."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def run_files(name: str, tasks: Iterable[str]) -> list[Seed]:
    """The file of this name in a run of each task."""
    return [Seed((run_of(task) / name).read_bytes(), folder=run_of(task)) for task in tasks]


METRICS = "step,epoch,train_loss,val_loss,lr,seconds\n1,0.5,2.5,,0.01,0.1\n2,1,,2.25,,\n3,1.5,2.1,,0.005,0.3\n"
INPUTS: dict[str, Any] = {
    "image": [np.zeros((5, 6), np.float32)],
    "classify": ["a good text"],
    "tag": ["The cat sees"],
    "translate": ["one two"],
    "caption": [np.zeros((5, 6), np.float32)],
    "transcribe": [np.zeros(3000, np.float32)],
    "series": [np.zeros((9, 2), np.float32)],
}


def use_run(path: Path) -> None:
    """Describe a run, load its model, and predict."""
    run = open_run(path)
    screen.describe(run, screen.console(file=io.StringIO(), width=100))
    as_json.text(as_json.describe(run))
    task = task_of_run(run)
    loaded = task.load(run)
    if task.name == "text":
        task.generate(loaded, "the", 3, None, io.StringIO(), temperature=1.0, top_k=0, top_p=1.0, seed=0)
    elif task.name in INPUTS or task.name == "forecast":
        exhausted(task.predict(loaded, task.parse_inputs(loaded, INPUTS.get(task.name))))


def use_baseline(path: Path) -> None:
    run = open_run(path)
    task: Any = task_of_run(run)
    if task.name == "text":
        _baseline(run)
    else:
        task.saved_baselines(task.load_codec(run), run)


def report_curves(path: Path) -> None:
    """Read metrics.csv and flow.csv as the report does, and as a resumed training does."""
    run, missing = open_run(path), Missing("")
    training.losses(run, Shown("model", 1, "loss", missing, missing))
    history(run)
    flow.clipped(path / "flow.csv")
    CsvTable(path / "metrics.csv", COLUMNS, keep=2)


def plot_metrics(path: Path) -> None:
    curves.draw(path / "metrics.csv", path / "curves.png", "loss")


def plot_history(path: Path) -> None:
    plots.history(path / "flow.csv", path / "history.png")


def read_split(path: Path) -> Any:
    return load_split(path / "split.csv", range(20), ["train", "validation", "test"])  # type: ignore[arg-type]


def configure(path: Path) -> Any:
    return config.read(path, "text", options_of("text"))


LOADERS: dict[str, Loader] = {
    "text": Loader(read_texts, lambda: [Seed(data, ".txt") for data in TEXTS]),
    "table": Loader(read_rows, partial(table_files, ROWS)),
    "table-whole": Loader(read_series, partial(table_files, SERIES)),
    "parquet": Loader(read_rows, partial(parquet_files, ROWS)),
    "parquet-whole": Loader(read_series, partial(parquet_files, SERIES)),
    "stream": Loader(read_stream, lambda: [*parquet_files(ROWS), *arrow_files(ROWS)]),
    "pixels": Loader(
        lambda path: exhausted(labelled.read([path], skip_bad=False)),
        lambda: [Seed(b"label,p0,p1,p2,p3\na,0,1,2,255\nb,1,0.5,0,3\n", ".csv")],
    ),
    "conll": Loader(
        lambda path: exhausted(tag.read([path], TagOptions())),
        lambda: [
            Seed(b"# newdoc\na\tX\nb\tY\n\n# newdoc\na\tX\n\n", ".conll"),
            Seed(b"-DOCSTART- O\n\nthe D\ncat N\n\n", ".txt"),
            Seed(conllu(sentences()[:4], 2).encode(), ".conllu"),
        ],
    ),
    "pairs": Loader(
        lambda path: exhausted(translate.read([path], TranslateOptions())),
        lambda: [Seed(b"one\teins\ntwo\tzwei\n", ".tsv")],
    ),
    "series": Loader(
        lambda path: exhausted(series.read_path(path, SeriesOptions())),
        lambda: [
            Seed(b"@classLabel true a b\n@data\n1,2,?:3,4,5:a\n6:7:b\n", ".ts"),
            Seed(b"@targetLabel true\n@timeStamps true\n@data\n(0,1),(1,2):3.5\n", ".ts"),
            Seed(b"@relation\n@attribute a real\n@attribute b real\n@attribute c {a,b}\n@data\n1,2,a\n?,3,b", ".arff"),
            Seed(
                b"@relation x\n@attribute x relational\n @attribute a numeric\n@end x\n@attribute class {a,b}\n@data\n"
                b"'1,2\\n3,4',a\n", ".arff",
            ),
        ],
    ),
    "vectors": Loader(
        lambda path: read_vectors(path, ["the", "state", "gate", "a"]),
        lambda: [Seed(data, ".vec") for data in (TEXT_VECTORS, TEXT_VECTORS.partition(b"\n")[2], BINARY_VECTORS)],
    ),
    "configuration": Loader(configure, configurations),
    "idx": Loader(read_idx, lambda: [Seed(data, ".idx") for data in IDX]),
    "idx-gzip": Loader(
        read_idx, lambda: [Seed(gzip.compress(data), ".gz") for data in IDX],
        unpack=gzip.decompress, pack=gzip.compress,
    ),
    "gzip": Loader(read_idx, lambda: [Seed(gzip.compress(data), ".gz") for data in IDX]),
    "image": Loader(images.picture, image_files),
    "recording": Loader(lambda path: audio.read_audio(path, 8000), recordings),
    "midi": Loader(read_midi, midi_files),
    "music-json": Loader(
        lambda path: exhausted(music.read([path], MusicOptions(grid=1))),
        lambda: [Seed(json.dumps(FRAMES).encode(), ".json"), Seed(json.dumps(FRAMES["train"]).encode(), ".json")],
    ),
    "config.json": Loader(use_run, partial(run_files, "config.json", RUNS), "config.json"),
    "codec.json": Loader(use_run, partial(run_files, "codec.json", RUNS[1:]), "codec.json"),
    "tokenizer.json": Loader(use_run, partial(run_files, "tokenizer.json", RUNS[:1]), "tokenizer.json"),
    "model.safetensors": Loader(use_run, partial(run_files, "model.safetensors", RUNS[:4]), "model.safetensors"),
    "baseline.safetensors": Loader(
        use_baseline, partial(run_files, "baseline.safetensors", RUNS), "baseline.safetensors",
    ),
    "metrics.csv": Loader(report_curves, partial(run_files, "metrics.csv", RUNS[:1]), "metrics.csv"),
    "flow.csv": Loader(report_curves, partial(run_files, "flow.csv", RUNS[:1]), "flow.csv"),
    "metrics.csv-plot": Loader(plot_metrics, partial(run_files, "metrics.csv", RUNS[:1]), "metrics.csv"),
    "flow.csv-plot": Loader(plot_history, partial(run_files, "flow.csv", RUNS[:1]), "flow.csv"),
    "split.csv": Loader(read_split, partial(run_files, "split.csv", RUNS[1:2]), "split.csv"),
    "ends.csv": Loader(use_run, partial(run_files, "ends.csv", ["forecast"]), "ends.csv"),
}  # fmt: skip
