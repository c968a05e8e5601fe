"""What is not as it was in a run is told in a line that names the file, whatever the task."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from elman import tasks
from elman.errors import BadInput
from elman.io.run_folder import new_run
from elman.tasks.registry import get_task, options_of
from elman.training.options import TrainingOptions
from tests.small import Command, unchecked
from tests.tasks.test_classify import texts
from tests.tasks.test_image import bars
from tests.tasks.test_series import waves
from tests.tasks.test_tag import sentences
from tests.tasks.test_translate import PAIRS
from tests.test_bad_input import put, refused

Damage = Callable[[Path], object]
TAGGED = tuple([[pair[side] for pair in sentence] for sentence in sentences()] for side in (0, 1))
DATA: dict[str, tuple[Any, dict[str, Any]]] = {
    "image": (bars(20), {}),
    "classify": (texts(), {"embed": 4, "pieces": 100, "pairs": 100}),
    "tag": (TAGGED, {"embed": 4, "characters": 4}),
    "forecast": (np.sin(np.arange(200) / 3) + 2, {"season": 4, "horizon": 4}),
    "translate": (PAIRS, {"embed": 4}),
    "caption": (bars(20), {"embed": 4}),
    "transcribe": ((np.random.default_rng(0).random((8, 3000), np.float32), ["yes", "no"] * 4), {"layers": 1}),
    "music": ([[[60 + i], [64 + i], [67]] * 4 for i in range(12)], {"output": "sigmoid"}),
    "series": (waves(20), {"filters": 4, "members": 2}),
}


def made(task: str, path: Path, **options: Any) -> Path:
    """The run of a model that was not trained."""
    data, own = DATA[task]
    declared: Any = get_task(task)
    prepared = declared.prepare(data, options_of(task).OPTIONS(**{"hidden": 4, **own, **options}), 0)
    config = {
        "task": task, "data": {"name": "data"} | prepared.facts, "model": prepared.model_args,
        "options": declared.options_to_dict(prepared.options), "training": TrainingOptions().model_dump(),
    }  # fmt: skip
    with new_run(path, config) as run:
        for name, text in prepared.files.items():
            (path / name).write_text(text)
        run.save_tensors("model", declared.model(**prepared.model_args).state_dict())
        codec, parts, *_ = prepared.details
        found = declared.fit_baselines(codec, parts.train, prepared.options, 0)
        run.save_tensors("baseline", {name: t for one in found for name, t in one.tensors().items()})
    return unchecked(path)


def within(name: str, part: str, **changes: Any) -> Damage:
    """An object in a JSON file gets other values."""

    def damage(run: Path) -> None:
        put(run / name, **{part: json.loads((run / name).read_text())[part] | changes})

    return damage


def codec(**changes: Any) -> Damage:
    return lambda run: put(run / "codec.json", **changes)


def weights(make: Callable[[torch.Tensor], torch.Tensor]) -> Damage:
    def damage(run: Path) -> None:
        path = run / "model.safetensors"
        save_file({name: make(tensor) for name, tensor in load_file(path).items()}, path)

    return damage


DAMAGED: list[tuple[str, Damage, list[str]]] = [
    ("tag", lambda run: put(run / "config.json", task="music"), ["config.json", "a music model", "'output'"]),
    ("image", lambda run: put(run / "config.json", task="tag"), ["config.json", "a tagger"]),
    ("image", within("config.json", "model", cell=["gru"]), ["config.json", "a cell of rnn", "['gru']"]),
    ("image", within("config.json", "model", cell=None), ["config.json", "a cell of rnn", "None"]),
    ("image", within("config.json", "model", bptt=7), ["config.json", "model.bptt and options.bptt", "7 and 0"]),
    ("image", within("config.json", "options", batch=0), ["config.json", "batch", "of at least 1", "got 0"]),
    ("image", within("config.json", "options", batch=2.5), ["config.json", "batch", "an integer", "2.5"]),
    ("image", within("config.json", "options", cell=["gru"]), ["config.json", "cell", "one of rnn", "['gru']"]),
    ("image", within("config.json", "options", speed=9), ["config.json", "speed"]),
    ("tag", within("config.json", "options", encoding=None), ["config.json", "encoding", "a text", "None"]),
    ("classify", within("config.json", "model", hidden=9), ["model.safetensors", "shape", "according to config.json"]),
    ("forecast", within("config.json", "model", hidden=9), ["model.safetensors", "shape", "according to config.json"]),
    ("classify", codec(labels=["neg"]), ["codec.json", "labels 2; got 1"]),
    ("classify", codec(labels=[1, 2]), ["codec.json", "labels[0]: expected a text, got 1"]),
    ("forecast", codec(season=None), ["codec.json", "season", "an integer", "None"]),
    ("forecast", codec(season=0), ["codec.json", "season", "of at least 1", "0"]),
    ("forecast", codec(scales={"value": None}), ["codec.json", "scales.value: expected a number greater than 0, "
        "got None"]),
    ("forecast", codec(scales={"value": 0.0}), ["codec.json", "scales.value: expected a number greater than 0, "
        "got 0.0"]),
    ("forecast", codec(means=[math.nan], spreads=[1.0]), ["codec.json", "means[0]: expected a number, got nan"]),
    ("forecast", codec(pace=1), ["codec.json", "pace: unknown name, expected one of season, second_season"]),
    ("forecast", codec(means=[1.0], cycles=[]), ["codec.json", "as many means as spreads, got 1 and 0"]),
    ("forecast", within("config.json", "options", season=None), ["codec.json", "[4, 0, 4, 12], where", "[None, 0,"]),
    ("translate", codec(longest=None), ["codec.json", "longest", "None"]),
    ("caption", codec(longest=2**63), ["codec.json", "longest", "at most 10,000"]),
    ("translate", codec(beam="4"), ["codec.json", "beam", "'4'"]),
    ("translate", within("codec.json", "target", before=None), ["codec.json", "before", "a text", "None"]),
    ("translate", within("codec.json", "target", tokenizer=None), ["codec.json", "expected the codec of `elman train"]),
    ("caption", codec(rows=None), ["codec.json", "rows", "None"]),
    ("caption", codec(beam=True), ["codec.json", "beam", "True"]),
    ("caption", codec(target=3), ["codec.json", "expected the codec of `elman train"]),
    ("transcribe", codec(rate=None), ["codec.json", "rate", "None"]),
    ("transcribe", codec(std=[1.0] * 39 + [None]), ["codec.json", "std[39]: expected a number greater than 0, "
        "got None"]),
    ("transcribe", codec(std=[1.0]), ["codec.json", "as many means as deviations, got 40 and 1"]),
    ("transcribe", codec(language={"keys": 3}), ["codec.json", "expected the codec of `elman train"]),
    ("music", codec(grid=None), ["codec.json", "grid", "None"]),
    ("music", codec(grid=[1]), ["codec.json", "grid", "[1]"]),
    ("music", lambda run: (run / "codec.json").write_text("[" * 100_000), ["codec.json", "recursion limit exceeded"]),
    ("series", codec(std=[1.0, 0.0]), ["codec.json", "std[1]: expected a number greater than 0, got 0.0"]),
    ("series", codec(mean=[1.0]), ["codec.json", "as many means as deviations, got 1 and 2"]),
    ("series", codec(labels=[]), ["codec.json", "labels 2; got 0"]),
    ("series", codec(every=0), ["codec.json", "every", "of at least 1", "0"]),
    ("image", weights(torch.Tensor.double), ["model.safetensors", "in float32", "in float64"]),
    ("image", weights(torch.Tensor.int), ["model.safetensors", "in float32", "in int32"]),
    ("image", weights(lambda tensor: tensor * torch.nan), ["model.safetensors", "expected finite weights"]),
]  # fmt: skip


@pytest.fixture(scope="module", params=DATA)
def of_task(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    return request.param, made(request.param, tmp_path_factory.mktemp("runs") / "run")


@pytest.mark.sample(3)
def test_a_damaged_run(elman: Command, of_task: tuple[str, Path]) -> None:
    task, run = of_task
    whole = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for damage, parts in [case[1:] for case in DAMAGED if case[0] == task]:
        damage(run)
        damaged = {path: path.read_bytes() for path in whole}
        refused(elman("predict", run, "data"), str(run), *parts)
        refused(elman("generate", run), str(run), *parts)
        assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == damaged
        for path, data in whole.items():
            path.write_bytes(data)


def test_terms_that_a_baseline_does_not_have(tmp_path: Path) -> None:
    run = made("classify", tmp_path / "run")
    put(run / "codec.json", terms={"one": 1.0})
    with pytest.raises(BadInput, match=r"baseline\.safetensors: .* but the codec has 1"):
        tasks.load(run).evaluate(DATA["classify"][0])


@pytest.mark.sample(4)
def test_a_baseline_that_is_none(of_task: tuple[str, Path]) -> None:
    task, run = of_task
    path = run / "baseline.safetensors"
    whole = path.read_bytes()
    path.write_bytes((run / "model.safetensors").read_bytes())
    with pytest.raises(BadInput, match=f"baseline.safetensors: expected the baselines of `elman train {task}`"):
        tasks.load(run).evaluate(DATA[task][0])
    path.write_bytes(whole)
    assert len(tasks.load(run).evaluate(DATA[task][0])) > 1
