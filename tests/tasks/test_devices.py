"""Devices and precision of trainings: `accelerator`, `devices` and `precision`. None of this was run on a GPU."""

import csv
import io
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.plugins import MixedPrecision

from elman import tasks
from elman.engine.cpu.jit import Host
from elman.errors import BadInput
from elman.tasks import Trained, image
from elman.tasks import text as language
from elman.tasks.registry import NAMES, get_task, options_of
from elman.training import devices, trainer
from elman.training.devices import find_device
from elman.training.options import TrainingOptions
from tests.small import SMALL, Command, files, text
from tests.tasks.test_damaged import DATA
from tests.tasks.test_image import bars
from tests.test_bad_input import refused

TINY: dict[str, Any] = {"epochs": 1, "batch": 8, "hidden": 4, "logger": False}


def losses(run: Path, name: str = "val_loss") -> list[float]:
    rows = csv.DictReader((run / "metrics.csv").read_text().splitlines())
    return [float(row[name]) for row in rows if row[name]]


@pytest.fixture
def without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.mark.slow
def test_every_task_on_a_device_that_refuses_tensors_of_the_cpu() -> None:
    """The losses, weights and scores are those of the CPU, and runs can be resumed on the other device."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-W", "ignore", "-m", "tests.other_device"]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout + said.stderr
    tested = {line.split()[0] for line in said.stdout.splitlines() if line.endswith(" ok")}
    assert tested == set(NAMES), "a task was not tested"


@pytest.mark.parametrize(
    ("has_cuda", "has_mps", "found"),
    [
        (False, False, {"auto": "cpu", "cpu": "cpu"}),
        (True, False, {"auto": "cuda", "cpu": "cpu", "gpu": "cuda"}),
        (False, True, {"auto": "cpu", "cpu": "cpu", "gpu": "mps", "mps": "mps"}),
        (True, True, {"auto": "cuda", "cpu": "cpu", "gpu": "cuda", "mps": "mps"}),
    ],
)
def test_the_device_of_an_accelerator(
    has_cuda: bool, has_mps: bool, found: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: has_mps)
    for accelerator in ("auto", "cpu", "gpu", "mps"):
        if accelerator in found:
            assert find_device(accelerator).type == found[accelerator]
        else:
            with pytest.raises(BadInput, match=f"--accelerator {accelerator}: expected .*; pass --accelerator cpu$"):
                find_device(accelerator)


BAD: dict[str, tuple[dict[str, Any], type[Exception], str, str]] = {
    "no GPU": (
        {"accelerator": "gpu"}, BadInput, "accelerator gpu: expected a GPU, got none that",
        "can use; pass {}accelerator cpu",
    ),
    "no MPS": (
        {"accelerator": "mps"}, BadInput, "accelerator mps: expected the GPU of an Apple computer, got none that",
        "can use; pass {}accelerator cpu",
    ),
    "unknown": ({"accelerator": "cdua"}, ValueError, "accelerator", "expected one of auto, cpu, gpu, mps; got 'cdua'"),
    "Lightning's name": ({"accelerator": "cuda"}, ValueError, "accelerator", "got 'cuda'; did you mean gpu?"),
    "no device": ({"devices": 0}, ValueError, "devices", "expected an integer of at least 1, got "),
    "float16": (
        {"precision": "16"}, BadInput, "precision 16: expected a GPU, got the CPU;", "pass {}precision bf16 or 32"
    ),
    "another name": ({"precision": "fp16"}, ValueError, "precision", "got 'fp16'; did you mean 16?"),
    "float64": ({"precision": "64"}, ValueError, "precision", "expected one of 32, bf16, 16; got '64'"),
}  # fmt: skip


@pytest.mark.usefixtures("without_gpu")
@pytest.mark.parametrize(("options", "kind", "begin", "end"), BAD.values(), ids=BAD)
def test_bad_input(
    options: dict[str, Any], kind: type[Exception], begin: str, end: str, elman: Command, tmp_path: Path
) -> None:
    """On the command line, in a file and in Python: one line."""
    ((name, value),) = options.items()
    refused(elman("train", "image", f"--{name}", value, "--out", tmp_path / "run"), begin, end.format("--"))
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(options))
    refused(elman("train", "image", "--config", config, "--out", tmp_path / "run"), begin, end.format("--"))
    with pytest.raises(kind, match=f"{re.escape(begin)}.*{re.escape(end.format(''))}"):
        image.fit(bars(), tmp_path / "run", **TINY | options)
    assert files(tmp_path) == {"config.yaml"}, "the training began"


def test_the_options_are_saved_and_printed(elman: Command, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("precision: 32\naccelerator: CPU\n")
    said = elman("train", "image", "--config", config, "--devices", 1, "--print-config")
    assert yaml.safe_load(said.out).items() >= {"accelerator": "cpu", "devices": 1, "precision": "32"}.items()
    number: Any = 32
    trained = image.fit(bars(), tmp_path / "run", **TINY, precision=number)
    assert trained.run.config["training"].items() >= {"accelerator": "auto", "devices": 1, "precision": "32"}.items()


@pytest.mark.usefixtures("without_gpu")
def test_a_run_is_used_where_the_user_says(elman: Command, trained: Path, file: Path) -> None:
    for command in (["evaluate", trained, file], ["generate", trained, "--length", 3]):
        assert elman(*command, "--accelerator", "cpu").code == 0
        refused(elman(*command, "--accelerator", "gpu"), "--accelerator gpu: expected a GPU, got none that torch ")
    assert devices.device_of(tasks.load(trained, accelerator="cpu").model).type == "cpu"
    with pytest.raises(BadInput, match=r"^accelerator gpu: expected a GPU"):
        language.generate(trained, accelerator="gpu")
    with pytest.raises(ValueError, match=r"^load: accelerator: expected one of auto, .* got 'cuda'"):
        language.evaluate(trained, file, accelerator="cuda")


# Precision.


@pytest.fixture(scope="module")
def in_float32(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trained]:
    return {task: trained_in("32", task, tmp_path_factory.mktemp(task) / "run") for task in ("image", "text")}


def trained_in(precision: str, task: str, path: Path) -> Trained:
    options: dict[str, Any] = {"logger": False, "precision": precision}
    if task == "image":
        return image.fit(bars(), path, epochs=30, batch=8, hidden=8, lr=0.03, **options)
    sizes: dict[str, Any] = {"epochs": 1, "batch": 4, "bptt": 10, "hidden": 12, "embed": 8}
    return language.fit(io.StringIO(text()), path, **sizes, **options)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["image", "text"])
def test_bfloat16_learns_as_float32(task: str, tmp_path: Path, in_float32: dict[str, Trained]) -> None:
    """Final losses are equal to 0.1 % of the first one; for five seeds, they differed by at most 0.012 % of it."""
    expected, found = in_float32[task], trained_in("bf16", task, tmp_path / "run")
    first, last = (losses(expected.run.path, name)[i] for name, i in (("train_loss", 0), ("val_loss", -1)))
    assert last < 0.75 * first, "there is nothing to compare: it has not learned"
    assert losses(found.run.path)[-1] == pytest.approx(last, abs=0.001 * first)
    assert losses(found.run.path) != losses(expected.run.path), "it was trained in float32"
    assert next(found.model.parameters()).dtype == torch.float32


@pytest.mark.sample(2)
@pytest.mark.parametrize("task", DATA)
def test_losses_of_every_task_in_bfloat16(task: str) -> None:
    data, options = DATA[task]
    declared: Any = get_task(task)
    prepared = declared.prepare(data, options_of(task).OPTIONS(hidden=4, batch=8, dropout=0, **options), 0)
    model, batch = declared.model(**prepared.model_args).eval(), prepared.train[0]
    expected, _, _ = model.loss(batch, None)
    with torch.autocast("cpu", torch.bfloat16):
        found, _, _ = model.loss(batch, None)
    found.backward()
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(expected.item(), rel=0.01)
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in model.parameters())


def with_float16(scale: float, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Train in float16 on the CPU, which Lightning does on GPUs alone; return a list that the loss scales go to."""
    scales = list[float]()

    class Scaler(torch.amp.GradScaler):
        def update(self, new_scale: Any = None) -> None:
            super().update(new_scale)
            scales.append(self.get_scale())

    def trainer_of(**arguments: Any) -> Trainer:
        assert arguments.pop("precision") == "16-mixed"
        arguments["plugins"].append(MixedPrecision("16-mixed", "cpu", Scaler("cpu", init_scale=scale)))
        return Trainer(**arguments)

    monkeypatch.setattr(trainer, "Trainer", trainer_of)
    monkeypatch.setattr("elman.tasks.run.check_device", lambda options: None)
    return scales


@pytest.mark.parametrize(("feature", "warns"), [("avx2", True), ("avx512bf16", False), ("amx-bf16", False)])
def test_bfloat16_warns_on_cpus_without_instructions(
    feature: str, warns: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "this_machine", lambda: Host("x86_64", "cpu", f"+sse2,+{feature}", 32))
    assert bool(trainer.precision_warning(TrainingOptions(precision="bf16", accelerator="cpu"))) == warns
    assert not trainer.precision_warning(TrainingOptions(precision="32", accelerator="cpu"))


@pytest.mark.slow
def test_float16_clips_gradients_that_are_unscaled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Dropout draws other masks in float16, and convolutions round so much that losses show it.
    options = {**TINY, "epochs": 2, "clip": 0.1, "flow_every": 4, "optimizer": "sgd", "dropout": 0, "filters": 0}
    expected = image.fit(bars(), tmp_path / "32", **options)
    scales = with_float16(2.0**16, monkeypatch)
    found = image.fit(bars(), tmp_path / "16", **options, precision="16")
    assert set(scales) == {2.0**16}
    assert losses(found.run.path) == pytest.approx(losses(expected.run.path), rel=2e-3)
    rows, others = (
        list(csv.DictReader((one.run.path / "flow.csv").read_text().splitlines())) for one in (found, expected)
    )
    for name in ("first", "last", "norm", "clipped"):
        assert [float(row[name]) for row in rows] == pytest.approx([float(row[name]) for row in others], rel=0.02)


@pytest.mark.slow
def test_float16_skips_steps_whose_gradients_overflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scales = with_float16(2.0**30, monkeypatch)
    found = image.fit(bars(), tmp_path / "run", **TINY | {"epochs": 4}, flow_every=1, precision="16")
    assert scales[:2] == [2.0**29, 2.0**28]
    assert scales[-1] == scales[-2] > 1, "it found a scale"
    rows = list(csv.DictReader((found.run.path / "flow.csv").read_text().splitlines()))
    assert len(rows) > 0
    assert int(rows[0]["step"]) > 2, "a step that was skipped is in flow.csv"


# Moving between devices.


def test_checkpoints_of_a_gpu_are_loaded_to_the_cpu(
    elman: Command, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = ["--dropout", "0.2", "--schedule", "constant", *SMALL]
    assert elman("train", "text", file, "--out", tmp_path / "whole", "--epochs", 0.3, *train).code == 0
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        assert elman("train", "text", file, "--out", tmp_path / "run", "--epochs", 0.1, *train).code == 0
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="CUDA"):
            torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    resume = ["train", "text", "--resume", tmp_path / "run", "--epochs", 0.3]
    assert elman(*resume, "--accelerator", "cpu").code == 0
    assert losses(tmp_path / "run")[-1] == losses(tmp_path / "whole")[-1]


@pytest.mark.slow
def test_a_training_goes_on_in_another_precision(elman: Command, copied: Path) -> None:
    said = elman("train", "text", "--resume", copied, "--epochs", 4, "--precision", "bf16", "--accelerator", "cpu")
    assert said.code == 0, said.err
    training = tasks.load(copied).run.config["training"]
    assert (training["precision"], training["accelerator"]) == ("bf16", "cpu")
    said = elman("train", "text", "--resume", copied, "--epochs", 5, "--seed", 1)
    allowed = "--epochs, --minutes, --patience, --accelerator, --devices, --nodes, --strategy, --precision and --on-nan"
    refused(said, "--seed: cannot be changed", f"only {allowed} can")


@pytest.mark.slow
def test_a_carried_state_goes_on_in_another_precision(elman: Command, file: Path, tmp_path: Path) -> None:
    """An LSTM under autocast returns states in bfloat16."""
    run = tmp_path / "run"
    arguments = ["--epochs", 1, "--cell", "lstm", "--precision", "bf16", "--accelerator", "cpu", "--out", run, *SMALL]
    assert elman("train", "text", file, *arguments).code == 0
    assert elman("train", "text", "--resume", run, "--epochs", 2, "--precision", "32").code == 0


def test_random_numbers_of_a_device_go_on_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its states are saved beside those of the CPU, and left out on other devices."""
    from elman.training.module import TaskModule

    states = {"cpu": torch.get_rng_state(), "cuda": torch.zeros(16, dtype=torch.uint8)}
    torch.rand(3)

    class Cuda:
        state = torch.ones(16, dtype=torch.uint8)

        @classmethod
        def get_rng_state(cls) -> torch.Tensor:
            return cls.state

        @classmethod
        def set_rng_state(cls, state: torch.Tensor) -> None:
            cls.state = state

    monkeypatch.setattr(torch, "get_device_module", lambda device: Cuda)
    module = TaskModule.__new__(TaskModule)
    monkeypatch.setattr(TaskModule, "device", torch.device("cpu"))
    module._set_rng_states(states)
    assert torch.equal(torch.get_rng_state(), states["cpu"])
    assert Cuda.state.all()
    assert module._get_rng_states().keys() == {"cpu"}
    monkeypatch.setattr(TaskModule, "device", torch.device("cuda"))
    assert torch.equal(module._get_rng_states()["cuda"], torch.ones(16, dtype=torch.uint8))
    module._set_rng_states(states)
    assert not Cuda.state.any()
    module._set_rng_states({"cpu": states["cpu"]})  # of a run that was trained on a CPU


def test_batches_move_with_everything_in_them() -> None:
    batch = devices.to_device((torch.ones(2), [None, {"a": torch.ones(1)}], "text"), torch.device("meta"))
    assert batch[0].device.type == batch[1][1]["a"].device.type == "meta"
    assert (batch[1][0], batch[2]) == (None, "text")
