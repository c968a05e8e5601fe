"""Several processes train one model as one process does with the batch of all of them."""

import csv
import io
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from elman import tasks
from elman.bptt import stream
from elman.data.batches import ByLength, RepeatedEpoch, Unused
from elman.data.streams import streams
from elman.errors import BadInput, Failure, Terminated
from elman.io.run_folder import open_run
from elman.tasks import launch
from elman.tasks.registry import get_task, options_of
from elman.tasks.worker import Seat, WorkerResult
from elman.training import processes
from elman.training.callbacks import CheckpointCallback
from elman.training.options import TrainingOptions
from elman.training.processes import Place, ProcessLost
from tests.small import Command, text
from tests.tasks.test_damaged import DATA
from tests.test_bad_input import refused

BATCH = {"1": ["--batch", "4"], "2": ["--batch", "2"], "4": ["--batch", "1"]}  # by number of processes: 4 in all
SIZES = ["--hidden", "12", "--embed", "8", "--bptt", "10", "--dropout", "0", "--accelerator", "cpu", "--epochs", "2"]
WITHOUT_CHANCE: dict[str, dict[str, Any]] = {
    "classify": {"word_dropout": 0.0},
    "tag": {"word_dropout": 0.0},
    "transcribe": {"time_mask": 0.0, "band_mask": 0.0},
    "music": {"transpose": 0},
}  # random numbers that processes draw in training, besides dropout
TEXT: dict[str, tuple[Any, dict[str, Any]]] = {"text": (io.StringIO(text()), {"embed": 8, "bptt": 10})}


# Parts of batches.


@pytest.mark.sample(4)
@pytest.mark.parametrize("task", DATA | TEXT)
def test_losses_of_the_parts_add_up(task: str) -> None:
    """For every task: the sum of the losses of 3 processes is the loss of their batch together, and so are counts."""
    data, options = (DATA | TEXT)[task]
    if task == "text":
        data = io.StringIO(text())
    declared: Any = get_task(task)
    sizes = {"hidden": 4, "batch": 7, "dropout": 0.0} | options
    prepared = declared.prepare(data, options_of(task).OPTIONS(**sizes), 0)
    model = declared.model(**prepared.model_args).eval()
    for batches in (prepared.train, prepared.validation):
        whole, count, _ = model.loss(batches[0], None)
        parts = [batches.part(rank, 3) for rank in range(3)]
        assert {len(part) for part in parts} == {len(batches)}
        losses = [model.loss(part[0], None)[:2] for part in parts if not isinstance(part[0], Unused)]
        assert sum(count for _, count in losses) == count
        assert sum(loss.item() for loss, _ in losses) == pytest.approx(whole.item(), rel=1e-5)


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_every_example_is_in_one_part_of_its_batch(world_size: int) -> None:
    lengths = np.random.default_rng(0).integers(1, 9, 23)
    batches = ByLength(lengths, 8, lambda numbers, epoch: numbers, seed=1)
    parts = [batches.part(rank, world_size) for rank in range(world_size)]
    for i in range(2 * len(batches)):
        divided = [part[i] for part in parts]
        used = [numbers for numbers in divided if not isinstance(numbers, Unused)]
        assert sorted(chain.from_iterable(used)) == sorted(batches[i])
        assert max(map(len, used)) - min(map(len, used)) <= 1
        assert all(len(numbers.batch) == 1 for numbers in divided if isinstance(numbers, Unused))


def test_a_stream_is_divided_as_it_is_made() -> None:
    ids = torch.arange(101)
    for chunks in (streams(ids.numpy(), 6, 5), stream(ids, 6, 5, rank=0, world_size=1)):
        for rank in range(3):
            part = chunks.part(rank, 3)
            assert (part.rows, len(part)) == (2, len(chunks))
            for whole, divided in zip(chunks, part, strict=True):
                values = [whole.values, divided.values] if isinstance(whole.values, torch.Tensor) else [
                    whole.values[0], divided.values[0]
                ]  # fmt: skip
                assert torch.equal(values[0][:, rank::3], values[1])
                assert torch.equal(whole.fresh[rank::3], divided.fresh)
    with pytest.raises(ValueError, match="expected a rank below 6, the number of rows; got 6"):
        chunks.part(6, 7)
    unused = RepeatedEpoch(chunks).part(6, 7)
    assert isinstance(unused[0], Unused)
    assert all(isinstance(batch, Unused) for batch in unused)


def test_states_are_joined_and_divided_by_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the number of processes: a row of the batch keeps its state."""
    state = (torch.randn(1, 6, 3), (torch.randn(2, 6, 4), None))
    parts = list[Any]()
    for rank in range(3):
        monkeypatch.setattr(processes, "_place", Place(rank, 3))
        parts.append(processes.divided_rows(state))
    assert parts[1][0].shape == (1, 2, 3)
    monkeypatch.setattr(processes, "_place", Place(0, 3))
    monkeypatch.setattr(processes, "gathered", lambda value: parts)
    joined: Any = processes.joined_rows(parts[0])
    assert torch.equal(joined[0], state[0])
    assert torch.equal(joined[1][0], state[1][0])
    assert joined[1][1] is None


# Places, and what is refused.


def test_a_place_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert processes.place_from_environment() is None
    variables = {"RANK": "5", "WORLD_SIZE": "8", "MASTER_ADDR": "node0", "MASTER_PORT": "29500"}
    for name, value in (variables | {"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}).items():
        monkeypatch.setenv(name, value)
    place = processes.place_from_environment()
    assert place == Place(5, 8, 1, 4)
    assert place.nodes == 2
    assert launch._devices_of(TrainingOptions(), place) == {"devices": 4, "nodes": 2}
    with pytest.raises(BadInput, match="--devices 3: expected 4, as torchrun or another launcher has started"):
        launch._devices_of(TrainingOptions(devices=3), place)
    monkeypatch.setenv("MASTER_PORT", "http")
    with pytest.raises(BadInput, match="beside RANK and WORLD_SIZE, got MASTER_PORT='http'; unset RANK"):
        processes.place_from_environment()
    monkeypatch.delenv("MASTER_PORT")
    with pytest.raises(BadInput, match="beside RANK and WORLD_SIZE, got no MASTER_PORT; unset RANK"):
        processes.place_from_environment()
    monkeypatch.setenv("MASTER_PORT", "29500")
    monkeypatch.setenv("RANK", "8")
    with pytest.raises(BadInput, match=r"environment: expected RANK, .* got '8', '8', '1', '4'; unset RANK"):
        processes.place_from_environment()


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--devices", 2, "-"], ["--devices: expected data in files, got standard input"]),
        (["--devices", 10**6], ["--devices 1000000: expected at most", "processes on the CPU, got 1000000"]),
        (["--nodes", 2], ["--nodes 2: expected an environment with NODE_RANK", "without NODE_RANK and MASTER_ADDR"]),
    ],
)
def test_what_cannot_be_is_refused(
    elman: Command, file: Path, tmp_path: Path, arguments: list[Any], parts: list[str]
) -> None:
    data = [] if "-" in arguments else [file]
    refused(elman("train", "text", *data, *arguments, "--accelerator", "cpu", "--out", tmp_path / "run"), *parts)
    assert not (tmp_path / "run").exists()


def test_batches_that_cannot_be_divided_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Whole(list[int]):
        pass

    batches: Any = Whole()
    assert processes.part_of(batches) is batches
    monkeypatch.setattr(processes, "_place", Place(0, 2))
    with pytest.raises(BadInput, match="whose batches can be divided among processes, got Whole without a method"):
        processes.part_of(batches)


@pytest.mark.slow
def test_a_run_is_resumed_on_a_divisor_of_its_batch(elman: Command, trained: Path, tmp_path: Path) -> None:
    said = elman("train", "text", "--resume", trained, "--epochs", 9, "--devices", 3, "--accelerator", "cpu")
    batch = open_run(trained).config["options"]["batch"]
    refused(said, f"expected a number of processes that divides {batch},", "got 3; pass other --devices or --nodes")


# How the error of a training is found.


class Ended:
    def __init__(self, code: int) -> None:
        self.returncode = code


@pytest.mark.parametrize(
    ("results", "codes", "stopped", "forwarded", "kind", "message"),
    [
        ([ProcessLost("lost"), BadInput("bad")], [1, 1], set(), [], BadInput, "bad"),
        ([ProcessLost("lost"), None], [1, -9], set(), [], Failure, "process 1 of 2 was killed by SIGKILL; the others"),
        ([None, ProcessLost("lost")], [3, 1], set(), [], Failure, "process 0 of 2 ended with exit code 3; the others"),
        ([None, None], [-9, -11], {0}, [], Failure, "process 1 of 2 was killed by SIGSEGV; the others were stopped$"),
        ([ProcessLost("lost"), None], [1, -9], {1}, [], ProcessLost, "lost"),
        ([None, None], [-15, -9], {1}, [signal.SIGTERM], Terminated, None),
        ([None, None], [-2, -9], {1}, [signal.SIGINT], KeyboardInterrupt, None),
    ],
)
def test_the_first_error_is_told(
    tmp_path: Path, results: list[Any], codes: list[int], stopped: set[int], forwarded: list[int],
    kind: type[BaseException], message: str | None,
) -> None:  # fmt: skip
    seats = [Seat(Place(rank, 2, rank, 2), "", tmp_path) for rank in range(2)]
    for seat, error in zip(seats, results, strict=True):
        if error:
            seat.result.write_bytes(WorkerResult(error=error).pickled())
    workers: Any = [Ended(code) for code in codes]
    with pytest.raises(kind, match=message):
        launch._result(seats, workers, stopped, forwarded)


def test_an_error_that_pickle_cannot_read_arrives_as_text(tmp_path: Path) -> None:
    class Local(Exception):
        pass

    seat = Seat(Place(0, 1), "", tmp_path)
    seat.result.write_bytes(WorkerResult(error=Local("of this test")).pickled())
    result = WorkerResult.of(seat)
    assert result is not None
    assert "of this test" in str(result.error)


# Processes.


def rows(run: Path, name: str) -> list[float]:
    table = csv.DictReader((run / "metrics.csv").read_text().splitlines())
    return [float(row[name]) for row in table if row[name]]


def assert_same(run: Path, whole: Path) -> None:
    """The losses and the weights are equal to rounding: a batch is summed in other parts."""
    for name in ("train_loss", "val_loss"):
        assert rows(run, name) == pytest.approx(rows(whole, name), rel=1e-3)
        assert len(rows(run, name)) > 1
    weights, expected = (load_file(path / "model.safetensors") for path in (run, whole))
    for name, tensor in expected.items():
        torch.testing.assert_close(weights[name], tensor, rtol=0, atol=5e-3)


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "elman", "train", "text", *map(str, arguments)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, file: Path) -> Path:
    """The run of one process."""
    from elman.cli import run

    path = tmp_path_factory.mktemp("whole") / "run"
    assert run(["train", "text", str(file), "--out", str(path), *SIZES, *BATCH["1"]]) == 0
    return path


@pytest.mark.slow
def test_two_processes_train_as_one_with_their_batches(file: Path, tmp_path: Path, whole: Path) -> None:
    run = tmp_path / "run"
    said = subprocess.run(
        command(file, "--out", run, "--devices", 2, *SIZES, *BATCH["2"]), capture_output=True, text=True, check=True
    )
    assert_same(run, whole)
    config = open_run(run).config
    assert (config["options"]["batch"], config["training"]["devices"]) == (2, 2)
    assert config["scores"]["LSTM 12"] == pytest.approx(open_run(whole).config["scores"]["LSTM 12"], rel=1e-3)
    assert {path.name for path in run.iterdir()} == {path.name for path in whole.iterdir()}
    assert said.stdout.count("run: ") == said.stderr.count("2 processes, run folder") == 1
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["lesson"]["carried"]
    expected = torch.load(whole / "checkpoints" / "last.ckpt", weights_only=True)["lesson"]["carried"]
    for part, of_whole in zip(state, expected, strict=True):
        torch.testing.assert_close(part, of_whole, rtol=0, atol=5e-3)


@pytest.mark.parametrize("task", DATA)
def test_every_task_trains_on_two_processes(task: str, tmp_path: Path) -> None:
    """From Python, with data that are sent to the processes; the last batch of an epoch is smaller."""
    data, options = DATA[task]
    common = {"hidden": 4, "dropout": 0.0, "epochs": 2, "accelerator": "cpu", "logger": False} | options
    common |= WITHOUT_CHANCE.get(task, {})
    module = __import__(f"elman.tasks.{task}", fromlist=["fit"])
    expected = module.fit(data, tmp_path / "whole", batch=6, **common)
    found = module.fit(data, tmp_path / "run", batch=3, devices=2, **common)
    assert_same(found.run.path, expected.run.path)
    scores, others = (next(iter(trained.scores.values())) for trained in (found, expected))
    assert scores.keys() == others.keys()


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_statistics_of_a_batch_are_those_of_all_processes(strategy: Any, tmp_path: Path) -> None:
    """Of series of different lengths, though a process, or a member of the ensemble, has none in some batches."""
    from elman.tasks import series

    random = np.random.default_rng(0)
    data = (
        [random.normal(size=(int(random.integers(3, 30)), 2)) for _ in range(36)],
        [*"abcdef"] * 6,
    )  # 64 in an epoch, of 3 in a batch
    common: dict[str, Any] = {"hidden": 4, "filters": 4, "dropout": 0.0, "epochs": 2, "logger": False}
    expected = series.fit(data, tmp_path / "whole", batch=3, accelerator="cpu", **common)
    trained = series.fit(data, tmp_path / "run", batch=1, devices=3, accelerator="cpu", strategy=strategy, **common)
    assert_same(trained.run.path, expected.run.path)
    with pytest.raises(Failure, match=r"the loss is nan at step .* with lr 1e"):  # diagnosed by one process alone
        series.fit(data, tmp_path / "nan", batch=2, devices=2, accelerator="cpu", lr=1e37, optimizer="sgd", **common)


def children(process: subprocess.Popen[str]) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


@pytest.fixture
def training(file: Path, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a long training of two processes, and waits for its first checkpoint."""
    started = list[subprocess.Popen[str]]()

    def start(*arguments: object) -> subprocess.Popen[str]:
        run = tmp_path / "run"
        sizes = [*SIZES[:-1], "2000", "--devices", 2, *BATCH["2"]]
        process = subprocess.Popen(
            command(file, "--out", run, *sizes, *arguments), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        while not (run / "checkpoints" / "last.ckpt").exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        return process

    yield start
    for process in started:
        with process:  # closes its pipes
            process.kill()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc")
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_ends_all(
    training: Callable[..., subprocess.Popen[str]], elman: Command, tmp_path: Path, rank: int
) -> None:
    process = training()
    workers = children(process)
    os.kill(workers[rank], signal.SIGKILL)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 1
    lines = err.splitlines()
    assert lines[-1].startswith(f"elman: process {rank} of 2 was killed by SIGKILL; the others were stopped")
    assert sum(f"to resume: elman train text --resume {tmp_path / 'run'}" in line.replace(
        "to resume from the last checkpoint", "to resume") for line in lines) == 1  # fmt: skip
    assert not any("Traceback" in line for line in lines)
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
    assert elman("train", "text", "--resume", tmp_path / "run", "--epochs", 3, "--devices", 1).code == 0


@pytest.mark.parametrize(("signal_name", "devices"), [("SIGTERM", "1"), ("SIGTERM", "2"), ("SIGINT", "4")])
def test_a_signal_saves_and_resuming_changes_nothing(
    file: Path, tmp_path: Path, signal_name: str, devices: str
) -> None:
    """On one process, on as many as before, and on more."""
    run, number = tmp_path / "run", signal.Signals[signal_name]
    arguments = [*SIZES[:-1], "2000", "--schedule", "constant", "--devices", "2", *BATCH["2"]]
    with subprocess.Popen(command(file, "--out", run, *arguments), stderr=subprocess.PIPE, text=True) as process:
        while not (run / "checkpoints" / "last.ckpt").exists():
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
        _, err = process.communicate(timeout=300)
    assert process.returncode == 128 + number
    assert f"Everything is saved; to resume: elman train text --resume {run}" in err
    steps = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    epochs = steps // 89 + 2
    resumed = command("--resume", run, "--epochs", epochs, "--devices", devices)
    subprocess.run(resumed, check=True, capture_output=True)
    config = open_run(run).config
    assert config["options"]["batch"] * config["training"]["devices"] == 4
    other = tmp_path / "whole"
    alone = [*SIZES[:-1], str(epochs), "--schedule", "constant", *BATCH["1"]]
    subprocess.run(command(file, "--out", other, *alone), check=True, capture_output=True)
    assert_same(run, other)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc")
def test_processes_end_with_the_one_that_started_them(
    training: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = training()
    workers = children(process)
    saved = (tmp_path / "run" / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    process.kill()
    process.wait()
    deadline = time.monotonic() + 300
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").stat().st_mtime_ns > saved


def test_torchrun(file: Path, tmp_path: Path, whole: Path) -> None:
    run = tmp_path / "run"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    arguments = ["-m", "elman", "train", "text", str(file), "--out", str(run), *SIZES, *BATCH["2"]]
    said = subprocess.run([*launcher, *arguments], capture_output=True, text=True, check=True)
    assert_same(run, whole)
    assert said.stdout.count("run: ") == 1
    assert open_run(run).config["training"]["devices"] == 2


def test_sharded_weights_train_as_whole_ones(file: Path, tmp_path: Path, whole: Path) -> None:
    """And a training goes on in another strategy, from the same checkpoint."""
    run = tmp_path / "run"
    arguments = ["--devices", 2, "--strategy", "fsdp", *SIZES, *BATCH["2"]]
    subprocess.run(command(file, "--out", run, *arguments), capture_output=True, check=True)
    assert_same(run, whole)
    for strategy, devices, epochs in (("fsdp", 2, 3), ("ddp", 2, 4), ("ddp", 1, 5), ("fsdp", 4, 6)):
        resumed = command("--resume", run, "--epochs", epochs, "--strategy", strategy, "--devices", devices)
        subprocess.run(resumed, capture_output=True, check=True)
    assert rows(run, "val_loss")[-1] < rows(whole, "val_loss")[-1]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_average_weights_as_one(file: Path, tmp_path: Path, strategy: str) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    subprocess.run(command(file, "--out", one, "--average", 0.5, *SIZES, *BATCH["1"]), capture_output=True, check=True)
    arguments = ["--devices", 2, "--strategy", strategy, "--average", 0.5, *SIZES, *BATCH["2"]]
    subprocess.run(command(file, "--out", two, *arguments), capture_output=True, check=True)
    assert_same(two, one)
    resumed = command("--resume", two, "--epochs", 3, "--devices", 1)
    subprocess.run(resumed, capture_output=True, check=True)


SHARDED_GRADIENT = """
import sys
import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor
from elman.training.processes import Place, joined
from elman.training.sharding import are_finite

with joined(Place(int(sys.argv[1]), 2), "cpu", f"file://{sys.argv[2]}"):
    mesh = init_device_mesh("cpu", (2,))
    whole = torch.ones(4, 3)
    fine = are_finite([distribute_tensor(whole, mesh, [Shard(0)])])
    whole[3, 1] = torch.nan  # of the second process
    print(fine, are_finite([distribute_tensor(whole, mesh, [Shard(0)])]))
"""


@pytest.mark.slow
def test_processes_agree_on_gradients_that_are_not_finite(tmp_path: Path) -> None:
    commands = [[sys.executable, "-c", SHARDED_GRADIENT, str(rank), str(tmp_path / "store")] for rank in range(2)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    assert [process.communicate(timeout=300)[0] for process in started] == ["True False\n"] * 2


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port: int = server.getsockname()[1]
        return port


def test_two_machines(file: Path, tmp_path: Path, whole: Path) -> None:
    """Two commands on one machine, which see the run folder of the first only by its name."""
    run = tmp_path / "run"
    master = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    arguments = command(file, "--out", run, "--nodes", 2, *SIZES, *BATCH["2"])
    nodes = [
        subprocess.Popen(
            arguments,
            env=os.environ | master | {"NODE_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [node.communicate(timeout=300) for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], outputs
    assert_same(run, whole)
    assert "run: " in outputs[0][0]
    assert outputs[1][0] == ""
    waiting = "machine 1 of 2: connecting to machine 0 at 127.0.0.1"
    assert outputs[1][1].startswith(waiting)
    assert outputs[1][1].count("\n") == 1


def test_a_port_in_use_is_refused(file: Path, tmp_path: Path) -> None:
    with socket.create_server(("", 0)) as server:
        port = str(server.getsockname()[1])
        place = {"NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        arguments = command(file, "--out", tmp_path / "run", "--nodes", 2, *SIZES)
        said = subprocess.run(arguments, env=os.environ | place, capture_output=True, text=True, check=False)
    assert said.stderr.splitlines()[-1] == (
        f"elman: MASTER_PORT: expected a free port on this machine, got {port}, which is in use"
    )
    assert said.returncode == 2


@pytest.mark.parametrize(
    ("variables", "part"),
    [
        ({"MASTER_PORT": "http"}, "got one with MASTER_PORT='http'"),
        ({"NODE_RANK": "2"}, "got one with NODE_RANK='2'"),
    ],
)
def test_a_place_of_a_machine_is_checked(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], part: str) -> None:
    place = {"NODE_RANK": "0", "MASTER_ADDR": "no.such.host", "MASTER_PORT": "29500"}
    for name, value in (place | variables).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BadInput, match=part):
        launch._check_node(2)


def test_a_machine_without_an_address_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"NODE_RANK": "1", "MASTER_ADDR": "no.such.host", "MASTER_PORT": "29500"}.items():
        monkeypatch.setenv(name, value)
    launch._check_node(2)
    assert "at no.such.host:29500, which has no address yet; the others are waited for, 30 m" in capsys.readouterr().err


def test_a_training_that_diverges_says_so_once(file: Path, tmp_path: Path) -> None:
    arguments = command(file, "--out", tmp_path / "run", "--devices", 2, "--lr", 1e30, "--clip", 0, *SIZES)
    said = subprocess.run([*arguments, *BATCH["2"]], capture_output=True, text=True, check=False)
    assert said.returncode == 1
    assert sum("not finite" in line or "is nan" in line for line in said.stderr.splitlines()) == 1, said.stderr
    assert "Traceback" not in said.stderr


def test_checkpoints_by_the_clock_are_those_of_the_first_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A decision by a clock must be the same on all processes, or they wait for each other for ever."""
    from elman.training.agreement import Agreement

    agreement = Agreement()
    rows = iter([[[2.0, 3.0, 7.0, 1.0, 0.0], [4.0, 1.0, 9.0, 0.0, 15.0]], [[0.0, 0.0, 8.0, 0.0, 0.0]] * 2])
    monkeypatch.setattr("elman.training.agreement.exchanged", lambda numbers: next(rows))
    checkpoints: Any = CheckpointCallback(tasks, None, 10, agreement)  # type: ignore[arg-type]
    assert not checkpoints._is_save_due()
    assert checkpoints._is_checkpoint_old(), "none has been saved"
    assert agreement.exchange(2.0, 3) == ([2.0, 4.0], 4)
    assert (agreement.seconds, agreement.is_save_due, agreement.signal) == (7.0, True, 15)
    assert checkpoints.signal == signal.SIGTERM
    agreement.exchange()
    assert (agreement.seconds, agreement.signal) == (8.0, 15)
