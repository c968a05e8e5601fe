"""Runs as folders for programs without elman and torch: the parts are the model, and what lies beside is enough."""

import csv
import errno
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from elman import __version__, tasks
from elman.cli.export import Format
from elman.data.examples import Example
from elman.data.words import grams, word_pairs
from elman.errors import Failure, MissingPackage
from elman.export import FORMATS, Runner
from elman.export._c import CRunner
from elman.tasks import Trained
from elman.tasks.export_part import BATCH, STEPS, ExportPart
from elman.tasks.export_run import FORMATS_OF_RUNS
from elman.tasks.forecast.data import read_series
from elman.tasks.forecast.export import DAY
from elman.tasks.forecast.windows import window_at
from elman.tasks.music.chain import link_notes
from elman.tasks.music.model import Frames
from elman.tasks.registry import NAMES, get_task
from elman.tasks.transcribe.export import export as export_transcriber
from tests.small import Command, files
from tests.tasks.test_damaged import DATA, made
from tests.test_bad_input import refused

EXAMPLES = Path(__file__).parents[2] / "examples" / "exported"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trained]:
    """A model of each task, with random weights."""
    trained = {task: tasks.load(made(task, tmp_path_factory.mktemp(task) / "run")) for task in DATA}
    for run in trained.values():
        randomize(run)
    return trained


def close(actual: Any, expected: Any) -> None:
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def randomize(trained: Trained) -> None:
    """Replace weights, among them those of the output of a forecaster, which are zero, by random numbers."""
    for weights in trained.model.parameters():
        torch.nn.init.normal_(weights, std=0.5)


def parts(trained: Trained) -> dict[str, ExportPart]:
    task = get_task(trained.run.config["task"])
    assert task.export is not None
    return {part.name: part for part in task.export(trained._loaded).parts}


def used(script: Path, *arguments: object, without: Sequence[str] = ("torch", "elman")) -> str:
    """Return the output of a script in a process that does not have these packages."""
    program = (
        f"import runpy, sys; sys.modules.update({', '.join(f'{name}=None' for name in without)}); "
        "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command = [sys.executable, "-W", "ignore", "-c", program, str(script), *map(str, arguments)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd="/", env=environment).stdout


# The parts are the model.


@pytest.mark.sample(4)
@pytest.mark.parametrize("task", DATA)
def test_signatures(runs: dict[str, Trained], task: str) -> None:
    """Shapes and dtypes are as a part says, for any sizes of the free axes, and for a state that is fed back."""
    generator = torch.Generator().manual_seed(1)
    for part in parts(runs[task]).values():
        sizes = {axis: part.size(axis, 9 + i) for i, axis in enumerate(part.axes)}
        inputs = part.random(sizes, generator, ragged=True)
        for specs, values in ((part.inputs, inputs), (part.outputs, part.run(inputs))):
            for spec in specs:
                shape = [sizes[axis] if isinstance(axis, str) else axis for axis in spec.shape]
                assert list(values[spec.name].shape) == shape
                assert values[spec.name].dtype == spec.dtype
        assert set(part.states.values()) <= {spec.name for spec in part.outputs}


def test_images(runs: dict[str, Trained]) -> None:
    images, _ = DATA["image"][0]
    logits = parts(runs["image"])["model"].run({"images": torch.from_numpy(images)})["logits"]
    close(logits.softmax(1), runs["image"].predict_proba(images))


def test_texts(runs: dict[str, Trained]) -> None:
    """Texts of several lengths, with an empty one and with unknown words."""
    sentences, codec = [["good", "th5ng", "and", "qwertz"], ["bad"], [""]], runs["classify"].codec
    spellings = [[grams(word, codec.pieces) for word in words] for words in sentences]
    counts = torch.tensor([[*map(len, words), *[0] * (4 - len(words))] for words in spellings]).T
    numbers = torch.zeros(4, 3, dtype=torch.long)
    all_grams = torch.zeros(4, 3, int(counts.max()), dtype=torch.long)
    for b, words in enumerate(sentences):
        for t, word in enumerate(words):
            numbers[t, b] = codec.number.get(word, 0)
            all_grams[t, b, : counts[t, b]] = torch.from_numpy(spellings[b][t])
    pairs = torch.zeros(4, 3, dtype=torch.long)
    for b, words in enumerate(sentences):
        pairs[: len(words), b] = torch.tensor([codec.pair.get(pair, 0) for pair in word_pairs(words)])
    inputs = {"words": numbers, "grams": all_grams, "gram_counts": counts, "lengths": torch.tensor([4, 1, 1])}
    inputs["pairs"] = pairs
    logits = parts(runs["classify"])["model"].run(inputs)["logits"]
    model, batch = runs["classify"].model, codec.collate([codec.encode(Example(" ".join(s)))[0] for s in sentences])
    with torch.inference_mode():
        close(logits, model(batch))


def test_sentences(runs: dict[str, Trained]) -> None:
    codec, sentences = runs["tag"].codec, [["the", "cow", "sees", "Qwertz"], ["fish"]]
    numbers, counts = torch.zeros(4, 2, dtype=torch.long), torch.ones(4, 2, dtype=torch.long)
    characters = torch.zeros(4, 2, 6, dtype=torch.long)
    for b, words in enumerate(sentences):
        for t, word in enumerate(words):
            numbers[t, b], counts[t, b] = codec.number.get(word.lower(), 0), len(word)
            characters[t, b, : len(word)] = torch.tensor([codec.character.get(letter, 0) for letter in word])
    lengths = torch.tensor([4, 1])
    inputs = {"words": numbers, "characters": characters, "character_counts": counts, "lengths": lengths}
    P = parts(runs["tag"])["model"].run(inputs)["logits"].softmax(2)
    for b, expected in enumerate(runs["tag"].predict_proba(sentences)):
        close(P[: len(expected), b], expected)


@pytest.mark.parametrize(("season", "scale"), [(1, "log"), (5, "linear"), (40, "log")])
def test_windows(tmp_path: Path, season: int, scale: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scaling, gaps, seasons, calendar, holidays and covariates, for pasts of several lengths."""
    random = np.random.default_rng(0)
    hours = np.datetime64("2024-01-01T00", "us") + np.arange(120) * np.timedelta64(3600_000_000, "us")
    values = 1e4 + 300 * np.sin(np.arange(120) / 4) + random.normal(size=120)
    values[[0, 3, 30, 31, 32, 33, 34, 35, 60]] = np.nan
    values[70:74] = values[69]
    table = tmp_path / "data.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["time", "value", "heat", "sun"])
        for moment, value in zip(hours, values, strict=True):
            heat = "" if random.random() < 0.1 else f"{random.normal() + 20}"
            writer.writerow([moment.item().isoformat(), "" if np.isnan(value) else value, heat, random.normal()])
    options = {"season": season, "second_season": 2 * season, "horizon": 7, "context": 30, "scale": scale}
    options |= {"time": "time", "target": "value", "covariates": "heat", "future_covariates": "sun", "holidays": "DE"}
    monkeypatch.setitem(DATA, "forecast", ([table], options))
    trained = tasks.load(made("forecast", tmp_path / "run"))
    randomize(trained)
    [series] = read_series([table], trained._loaded.options)
    sizes = trained.codec.sizes
    windows = [window_at(series, origin, sizes) for origin in (*range(sizes.min_context, 29), 33, 36, 37, 62, 76, 110)]
    expected = trained.codec.predict(trained.model.requires_grad_(False), trained.codec.batch(windows))
    past = torch.full((len(windows), sizes.past), torch.nan, dtype=torch.float64)
    times = torch.zeros(len(windows), 37, dtype=torch.long)
    heats, suns = (torch.full((len(windows), n, k), torch.nan, dtype=torch.float64) for n, k in ((30, 1), (37, 2)))
    for b, window in enumerate(windows):
        past[b, sizes.past - len(window.past) :] = torch.from_numpy(window.past)
        times[b] = torch.from_numpy(series.moments(window.origin - 30, window.origin + 7))
        suns[b, :, 1] = (times[b] // DAY == date(2024, 1, 1).toordinal() - date(1970, 1, 1).toordinal()).double()
        C = min(window.origin, 30)
        heats[b, 30 - C :] = torch.from_numpy(series.covariates[window.origin - C : window.origin])
        suns[b, 30 - C :, :1] = torch.from_numpy(series.future_covariates[window.origin - C : window.origin + 7])
    inputs = {"values": past, "time": times, "covariates": heats, "future_covariates": suns}
    part = parts(trained)["model"]
    assert [spec.name for spec in part.inputs] == list(inputs)
    np.testing.assert_allclose(part.run(inputs)["quantiles"], np.stack(expected), rtol=1e-6)


@pytest.mark.parametrize("task", ["translate", "caption"])
def test_one_step_of_the_decoder_after_another(runs: dict[str, Trained], task: str) -> None:
    codec, model = runs[task].codec, runs[task].model
    data, _ = DATA[task]
    pairs = data[:5] if task == "translate" else list(zip(*data, strict=True))[:5]
    batch = codec.collate([codec.encode(Example(source, target))[0] for source, target in pairs])
    with torch.inference_mode():
        expected, attention = model(batch)
    encoder, step = parts(runs[task]).values()
    memory = encoder.run({"source": batch.source, "lengths": batch.lengths})["memory"]
    state = torch.zeros(1, len(pairs), model.decoder.recurrent.hidden_size)  # type: ignore[union-attr, arg-type]
    logits, token = [], torch.full((len(pairs),), -1)
    for t, targets in enumerate(batch.targets):
        result = step.run({"token": token, "memory": memory, "lengths": batch.lengths, "h": state})
        state, token = result["h_out"], targets
        logits.append(result["logits"][t < batch.target_lengths])
        is_token = (t < batch.target_lengths).nonzero().flatten()
        close(result["attention"][is_token], attention[is_token, t])
    close(torch.cat(logits), expected)


def test_features_by_their_recipe(runs: dict[str, Trained]) -> None:
    """The log-mel energies in NumPy, from the numbers in export.json alone."""
    codec = runs["transcribe"].codec
    wave = np.random.default_rng(0).random(3000, np.float32) - 0.5
    settings: Any = export_transcriber(runs["transcribe"]._loaded).settings
    r = json.loads(json.dumps(settings["features"]))
    x = wave * r["level"] / max(np.sqrt(np.mean(wave**2)), r["min_level"])
    edge, center = r["fft"] // 2, (r["fft"] - r["window"]) // 2
    window = np.zeros(r["fft"])
    window[center : center + r["window"]] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(r["window"]) / r["window"])
    x = np.pad(x, edge)
    begins = range(0, len(x) - r["fft"] + 1, r["hop"])
    power = np.abs(np.fft.rfft(np.stack([x[i : i + r["fft"]] for i in begins]) * window)) ** 2
    mel = 2595 * np.log10(1 + r["rate"] / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, mel, r["bands"] + 2) / 2595) - 1)
    frequency = np.arange(edge + 1)[:, None] * r["rate"] / r["fft"]
    rise = (frequency - edges[:-2]) / np.diff(edges)[:-1]
    fall = (edges[2:] - frequency) / np.diff(edges)[1:]
    energies = np.log(power @ np.minimum(rise, fall).clip(0) + r["floor"])
    frames = (energies - energies.mean() - r["mean"]) / r["std"]
    frames = np.concatenate((frames, np.zeros((-len(frames) % r["stack"], r["bands"]))))
    np.testing.assert_allclose(frames.reshape(-1, r["stack"] * r["bands"]), codec.steps(wave), rtol=1e-3, atol=1e-3)
    assert r["normalize"] == "all_features"
    assert settings["characters"] == codec.characters


@pytest.mark.parametrize("output", ["sigmoid", "chain", "events"])
def test_music(output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The nats of every step, from the logits of the exported parts."""
    own = {"as": "events"} if output == "events" else {"output": output}
    monkeypatch.setitem(DATA, "music", ([[[60 + i, 50], [64 + i], [67]] * 4 for i in range(12)], own))
    trained = tasks.load(made("music", tmp_path / "run"))
    model: Any = trained.model
    batch = trained.batch([[[60, 64, 50], [60], [], [67]], [[62], [65, 62]]])
    x, own_parts = batch.steps, parts(trained)
    before = torch.cat((x.new_zeros(x[:1].shape), x[:-1]))
    results = own_parts["model"].run({own_parts["model"].inputs[0].name: before, "h": torch.zeros(1, 2, 4)})
    with torch.inference_mode():
        expected = model.nats(batch)
    if output == "events":
        nats = cross_entropy(results["logits"].flatten(0, 1), x.flatten(), reduction="none").view(x.shape)
    elif output == "sigmoid":
        nats = binary_cross_entropy_with_logits(results["logits"], x, reduction="none").sum(2)
    else:
        assert isinstance(model, Frames)
        links = link_notes(before.flatten(0, 1), x.flatten(0, 1))
        inputs: dict[str, Tensor] = {"hidden": results["hidden"].flatten(0, 1)[links.frame]}
        inputs |= {"above": links.above, "placed": links.placed, "sounding": links.sounding}
        of_notes = cross_entropy(own_parts["note"].run(inputs)["logits"], links.notes, reduction="none")
        nats = torch.zeros(x[..., 0].numel()).index_add(0, links.frame, of_notes).view(x.shape[:2])
    close(nats * batch.real, expected)


# The folder.


class Copy(Runner):
    """Runs the module itself, with a difference."""

    takes_state = takes_lengths = False

    def __init__(self, module: torch.nn.Module, difference: float) -> None:
        self.module, self.difference = module, difference

    def run(self, inputs: Any, state: Any = None, lengths: Any = None) -> tuple[list[Tensor], list[Tensor]]:
        with torch.inference_mode():
            outputs = self.module(*inputs)
        return [value + self.difference for value in (outputs if isinstance(outputs, tuple) else (outputs,))], []


class CopyFormat:
    """A format whose files are empty."""

    suffix = ".copy"

    def __init__(self, difference: float = 0.0, error: BaseException | None = None) -> None:
        self.difference, self.error = difference, error

    def write(self, module: torch.nn.Module, path: Path, *arguments: Any, **names: Any) -> None:
        path.write_bytes(b"")
        if self.error:
            raise self.error

    def load(self, path: Path, module: torch.nn.Module) -> Runner:
        return Copy(module, self.difference)


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMATS, "onnx", CopyFormat())


def test_the_formats_of_the_command() -> None:
    assert list(get_args(Format)) == list(FORMATS_OF_RUNS)
    assert {form.home for form in FORMATS_OF_RUNS.values()} <= set(FORMATS)
    assert {task for task in NAMES if get_task(task).export is None} == set()


@pytest.mark.usefixtures("copies")
@pytest.mark.parametrize("task", DATA)
def test_what_is_written(runs: dict[str, Trained], task: str, tmp_path: Path) -> None:
    exported = runs[task].export("onnx", tmp_path / "out")
    about = json.loads((exported.path / "export.json").read_text())
    names = {f"{name}.copy" for name in parts(runs[task])}
    assert files(tmp_path / "out") == about["sha256"].keys() | {"export.json"}
    assert about["sha256"].keys() >= names
    for name, expected in about["sha256"].items():
        assert hashlib.sha256((exported.path / name).read_bytes()).hexdigest() == expected
    assert (about["task"], about["format"], about["export"]) == (task, "onnx", 1)
    assert about["elman"] == __version__
    assert list(about["parts"]) == list(exported.checks) == list(parts(runs[task]))
    for name, check in exported.checks.items():
        assert check.largest < 1e-6
        inputs = about["parts"][name]["inputs"]
        assert (check.ragged is not None) == any("lengths_of" in spec for spec in inputs)
        assert (check.chunked is not None) == (any("final" in spec for spec in inputs) and name == "model")
    assert not any(path.name.startswith(".") for path in tmp_path.iterdir())


@pytest.mark.usefixtures("copies")
def test_the_command(elman: Command, copied: Path) -> None:
    result = elman("export", copied)
    assert result.code == 0, result.err
    check, last = result.out.splitlines()
    n = r"\d\.\de[+-]\d\d"
    assert re.fullmatch(rf"model: largest difference from the model {n} \(whole {n}, chunked {n}\)", check)
    assert last == f"export: {copied / 'export-onnx'}"
    expected = {"model.copy", "tokenizer.json", "export.json"}
    assert files(copied / "export-onnx") == expected
    refused(elman("export", copied), f"elman: {copied / 'export-onnx'}: expected a new or empty folder, got a folder ")
    (copied.parent / "empty").mkdir()
    assert elman("export", copied, "--out", copied.parent / "empty").code == 0
    assert files(copied.parent / "empty") == expected
    tasks.load(copied).save(copied.parent / "saved")
    assert not list((copied.parent / "saved").glob("export*"))


def test_bad_input(elman: Command, copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = files(copied)
    (tmp_path / "file").write_text("")
    refused(elman("export", copied, "--out", tmp_path / "file"), "--out ", "expected a new or empty folder, got a file")
    refused(elman("export", copied, "--out", tmp_path / "no" / "out"), "--out ", "does not exist; create it first")
    refused(elman("export", copied, "--format", "onxx"), "--format", "got 'onxx'")
    refused(elman("export", tmp_path), "expected a run folder, got a folder without config.json")
    with pytest.raises(ValueError, match=r"^export: format: expected one of .*; got 'onxx'$"):
        tasks.load(copied).export("onxx")
    monkeypatch.setitem(FORMATS, "onnx", CopyFormat(error=ValueError("gru: expected a step, got a leap")))
    refused(elman("export", copied), f"{copied}: --format onnx: the part model: gru: expected a step, got a leap")
    (copied / "tokenizer.json").write_text("{}")
    refused(elman("export", copied), "tokenizer.json: expected a tokenizer")
    assert files(copied) == before


@pytest.mark.parametrize("damage", ["an interrupted training", "cut weights", "no configuration"])
def test_damaged_runs(damage: str, elman: Command, copied: Path) -> None:
    if damage == "an interrupted training":
        (copied / "model.safetensors").unlink()
    elif damage == "cut weights":
        (copied / "model.safetensors").write_bytes((copied / "model.safetensors").read_bytes()[:-9])
    else:
        (copied / "config.json").write_text("{")
    before = files(copied)
    result = elman("export", copied)
    assert result.err == elman("generate", copied).err
    refused(result, "config.json" if damage == "no configuration" else "model.safetensors")
    assert files(copied) == before


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    ("task", "part", "reason"),
    [
        ("image", "model", "convolutions, the mean and the maximum over all steps"),
        ("classify", "model", "the mean and the maximum over all steps"),
        ("tag", "model", "recurrent layers over the characters of each word"),
        ("forecast", "model", "the scaling of each window"),
        ("translate", "encoder", "lengths of sources"),
        ("caption", "encoder", "lengths of sources"),
        ("music", "note", "several inputs"),
    ],
)
def test_what_c_cannot_hold(
    task: str, part: str, reason: str, elman: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if task == "music":
        monkeypatch.setitem(DATA, task, (DATA[task][0], {"output": "chain"}))
    run = made(task, tmp_path / "run")
    before = files(run)
    expected = f"{run}: --format c: expected layers alone, got a part {part} with {reason}; pass --format onnx"
    refused(elman("export", run, "--format", "c"), expected)
    assert files(run) == before


def test_without_the_packages(elman: Command, copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.delitem(sys.modules, "elman.export._onnx", raising=False)
    refused(elman("export", copied), "elman.export.onnx needs", "pip install 'elman[export]'")


def test_a_folder_that_cannot_be_written(elman: Command, copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mkdir = Path.mkdir

    def read_only(path: Path, *arguments: Any, **options: Any) -> None:
        if path.parent == copied:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        mkdir(path, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", read_only)
    refused(elman("export", copied, "--out", copied / "out"), f"{copied / 'out'}: Permission denied")


@pytest.mark.parametrize(
    ("format", "code", "message"),
    [
        (
            CopyFormat(difference=2e-5),
            1,
            "model.copy: expected the numbers of the model within 1e-05, got a difference",
        ),
        (CopyFormat(error=OSError(errno.ENOSPC, "No space left on device")), 1, "export-onnx: No space left on device"),
        (
            CopyFormat(error=MissingPackage("elman.export.onnx needs onnx: pip install 'elman[export]'")),
            2,
            "needs onnx",
        ),
        (CopyFormat(error=KeyboardInterrupt()), 130, "elman: interrupted"),
    ],
)
def test_what_fails_leaves_nothing(
    format: CopyFormat, code: int, message: str, elman: Command, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FORMATS, "onnx", format)
    before = files(copied)
    result = elman("export", copied)
    assert (result.code, result.out) == (code, "")
    assert message in result.err
    assert len(result.err.splitlines()) == bool(message)
    assert files(copied) == before


@pytest.mark.parametrize("task", ["transcribe", "music"])
def test_in_c(task: str, tmp_path: Path) -> None:
    """Recurrent layers of one direction and of two, with the layers around them."""
    trained = tasks.load(made(task, tmp_path / "run", **({"filters": 0} if task == "transcribe" else {})))
    randomize(trained)
    exported = trained.export("c", tmp_path / "out")
    [(name, check)] = exported.checks.items()
    assert 0 < check.largest < 1e-5
    assert (check.chunked is None) == (task == "transcribe")
    assert files(tmp_path / "out") == {f"{name}.c", f"{name}.h", "export.json"}


def test_a_language_model_in_c(elman: Command, copied: Path) -> None:
    result = elman("export", copied, "--format", "c")
    assert result.code == 0, result.err
    out = copied / "export-c"
    assert files(out) == {"model.c", "model.h", "tokenizer.json", "export.json"}
    about = json.loads((out / "export.json").read_text())["parts"]["model"]
    [x], [y] = about["inputs"], about["outputs"]
    assert (x["dtype"], x["shape"], y["dtype"]) == ("int32", ["steps"], "float32")
    differences = about["differences"]
    assert 0 < differences["whole"] < 1e-5
    assert 0 < differences["chunked"] < 1e-5


@pytest.mark.slow
def test_a_program_of_torch_export(runs: dict[str, Trained], tmp_path: Path) -> None:
    exported = runs["music"].export("torch", tmp_path / "out")
    check = exported.checks["model"]
    assert 0 < check.whole < 1e-5
    assert check.chunked is not None
    assert 0 < check.chunked < 1e-5
    assert files(tmp_path / "out") == {"model.pt2", "export.json"}
    assert "torch.export.load('NAME.pt2')" in json.loads((tmp_path / "out" / "export.json").read_text())["usage"]


def test_a_state_that_is_not_fed_back(
    runs: dict[str, Trained], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks that begin with zeros are an error in C, although the whole is right."""
    run_row = CRunner.run_row

    def forgetful(runner: CRunner, x: Tensor) -> Tensor:
        runner.reset()
        return run_row(runner, x)

    monkeypatch.setattr(CRunner, "run_row", forgetful)
    with pytest.raises(
        Failure, match=r"^model\.c: expected the numbers of the model within 1e-05, got a difference of "
    ):
        runs["music"].export("c", tmp_path / "out")
    assert not list(tmp_path.iterdir())


# As programs of torch.export, and in ONNX Runtime, in processes without elman.


def recorded(part: ExportPart, folder: Path) -> None:
    """Save random inputs of a part, and the outputs of the model."""
    generator = torch.Generator().manual_seed(3)
    sizes = {axis: part.size(axis, 4 if axis == BATCH else 9) for axis in part.axes}
    inputs = part.random(sizes, generator, ragged=True)
    arrays: dict[str, Any] = {f"input {name}": value.numpy() for name, value in inputs.items()}
    arrays |= {f"output {name}": value.numpy() for name, value in part.run(inputs).items()}
    np.savez(folder / f"{part.name}.npz", **arrays)


@pytest.mark.parametrize("format", ["torch", "onnx"])
@pytest.mark.parametrize("task", [*DATA, "text"])
def test_the_folder_alone(runs: dict[str, Trained], copied: Path, task: str, format: str, tmp_path: Path) -> None:
    """Another process, which knows the folder alone, has the numbers of the model, in a whole and step by step."""
    trained = tasks.load(copied) if task == "text" else runs[task]
    exported = trained.export(format, tmp_path / "out")
    assert all(check.largest < 1e-5 for check in exported.checks.values())
    (tmp_path / "numbers").mkdir()
    for part in parts(trained).values():
        recorded(part, tmp_path / "numbers")
    without = ("torch", "elman") if format == "onnx" else ("elman",)
    output = used(Path(__file__).with_name("use_exported.py"), exported.path, tmp_path / "numbers", without=without)
    lines = [line.split() for line in output.splitlines()]
    expected = {name: ["whole", "steps"] if any(STEPS in s.shape for s in part.inputs) and part.states else ["whole"]
                for name, part in parts(trained).items()}  # fmt: skip
    assert {name: kinds.split(",") for name, kinds, _ in lines} == expected
    assert all(float(largest) < 1e-5 for *_, largest in lines)


# The examples, in processes that have neither torch nor elman.


def test_a_language_model_writes(elman: Command, copied: Path, tmp_path: Path) -> None:
    result = elman("export", copied, "--out", tmp_path / "out")
    assert result.code == 0, result.err
    check = json.loads((tmp_path / "out" / "export.json").read_text())["parts"]["model"]["differences"]
    assert 0 < check["whole"] < 1e-5
    assert 0 < check["chunked"] < 1e-5
    written = tasks.load(copied).generate("the ", 30, temperature=0)
    assert used(EXAMPLES / "write_text.py", tmp_path / "out", "the ", 30, 0) == f"{written}\n"
    assert used(EXAMPLES / "write_text.py", tmp_path / "out", "the ", 9).startswith("the ")


def test_texts_are_classified(runs: dict[str, Trained], tmp_path: Path) -> None:
    trained, texts = runs["classify"], ["Good th5ng, and qwertz", "bad"]
    exported = trained.export("onnx", tmp_path / "out")
    rows = [line.split("\t") for line in used(EXAMPLES / "classify_text.py", exported.path, *texts).splitlines()]
    P = trained.predict_proba(texts)
    assert [row[0] for row in rows] == trained.classes_[P.argmax(1)].tolist()
    np.testing.assert_allclose([float(row[1]) for row in rows], P.max(1), atol=1e-4)


def test_a_forecast_of_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table, hours = tmp_path / "data.csv", np.arange(120)
    moments = np.datetime64("2024-01-01T00") + hours * np.timedelta64(1, "h")
    values = 100 + 9 * np.sin(hours / 4) + np.random.default_rng(0).random(120)
    table.write_text(
        "time,value\n" + "".join(f"{m},{v}\n" for m, v in zip(moments.astype("M8[m]"), values, strict=True))
    )
    sizes = {"season": 24, "horizon": 7, "context": 48, "time": "time", "target": "value"}
    monkeypatch.setitem(DATA, "forecast", ([table], sizes))
    trained = tasks.load(made("forecast", tmp_path / "run"))
    randomize(trained)
    trained.export("onnx", tmp_path / "out")
    rows = list(csv.DictReader(used(EXAMPLES / "forecast_csv.py", tmp_path / "out", table).splitlines()))
    for row, expected in zip(rows, trained.predict(table), strict=True):
        assert np.datetime64(row["time"]) == np.datetime64(expected["time"].replace(" ", "T"))
        numbers = [float(row[f"quantile {level}"]) for level in (0.1, 0.5, 0.9)]
        np.testing.assert_allclose(numbers, [expected[name] for name in ("low", "median", "high")], rtol=1e-5)
