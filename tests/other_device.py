"""A device on which CPUs are simulated: trains every task on it, and on the CPU, and compares.

A tensor of this device is a wrapper around a tensor of the CPU. Operations that mix both kinds raise an error, as on a
GPU, and so do conversions to NumPy. `python -m tests.other_device CASE ...` prints a line for each case. It is a
process of its own, since torch can be told of such a device, but not be untold.
"""

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import lightning.pytorch
import numpy as np
import torch
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.strategies import SingleDeviceStrategy
from matplotlib.figure import Figure
from torch.overrides import TorchFunctionMode
from torch.utils import backend_registration

from elman.engine.torch_private import DispatchMode, tree_leaves, tree_map_only

os.environ["ELMAN_NATIVE"] = "0"  # the same executor on both devices

from elman.training import devices


class Backend(backend_registration._DummyBackendModule):
    """What torch asks of the module of a device. Its random numbers are those of the CPU."""

    @staticmethod
    def get_rng_state(device: Any = None) -> torch.Tensor:
        return torch.get_rng_state()

    @staticmethod
    def set_rng_state(state: torch.Tensor, device: Any = None) -> None:
        torch.set_rng_state(state)

    @staticmethod
    def get_amp_supported_dtype() -> list[torch.dtype]:
        return [torch.bfloat16]


backend_registration._setup_privateuseone_for_python_backend("elsewhere", Backend())
ELSEWHERE = torch.device("elsewhere", 0)
TRANSFERS = ("aten::_to_copy", "aten::copy_")


class Elsewhere(torch.Tensor):
    """A tensor of the device."""

    def __new__(cls, on_cpu: torch.Tensor) -> "Elsewhere":
        return torch.Tensor._make_wrapper_subclass(
            cls, on_cpu.size(), on_cpu.stride(), on_cpu.storage_offset(), dtype=on_cpu.dtype, device=ELSEWHERE
        )

    def __init__(self, on_cpu: torch.Tensor) -> None:
        self.on_cpu = on_cpu

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Save the numbers as those of the CPU."""
        return self.on_cpu.__reduce_ex__(protocol)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        return run_on_cpu(func, args, kwargs or {})


class WithElsewhere(DispatchMode):
    """Makes the tensors of the device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run_on_cpu(func, args, kwargs or {})


class Conversions(TorchFunctionMode):
    """Converts tensors from and to Python's numbers, which torch does below dispatch modes."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.Tensor.new_tensor:
            func, args, kwargs = torch.tensor, args[1:], {"dtype": args[0].dtype, "device": args[0].device} | kwargs
        if func in (torch.tensor, torch.as_tensor) and is_elsewhere(kwargs.get("device")):
            del kwargs["device"]
            return func(*args, **kwargs).to(ELSEWHERE)
        if func is torch.Tensor.tolist and isinstance(args[0], Elsewhere):
            return args[0].cpu().tolist()
        return func(*args, **kwargs)


def is_elsewhere(device: Any) -> bool:
    return device is not None and torch.device(device).type == ELSEWHERE.type


def run_on_cpu(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name, target = func._schema.name, kwargs.get("device")
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    wrapped = [tensor for tensor in tensors if isinstance(tensor, Elsewhere)]
    # Numbers, tensors without axes, may be on the CPU, as torch allows for GPUs.
    if wrapped and name not in TRANSFERS and any(t.dim() and not isinstance(t, Elsewhere) for t in tensors):
        raise RuntimeError(f"{name}: expected tensors of one device, got some of the CPU and some elsewhere")
    goes_there = bool(wrapped) if target is None else is_elsewhere(target)
    if name == "aten::copy_":
        goes_there = isinstance(args[0], Elsewhere)
    inner_args, inner_kwargs = tree_map_only(Elsewhere, lambda tensor: tensor.on_cpu, (args, dict(kwargs)))
    if is_elsewhere(target):
        inner_kwargs["device"] = torch.device("cpu")
    outputs = func(*inner_args, **inner_kwargs)
    if not goes_there:
        return outputs
    known = {id(tensor.on_cpu): tensor for tensor in wrapped}  # operations in place return their argument
    return tree_map_only(torch.Tensor, lambda t: known[id(t)] if id(t) in known else Elsewhere(t), outputs)


def without_gradients(mode: bool = True) -> AbstractContextManager[Any]:
    """Inference mode without inference tensors, of which torch makes no views if they wrap others."""
    return torch.no_grad() if mode else nullcontext()


@contextmanager
def elsewhere() -> Iterator[None]:
    """A context that has the device."""
    with WithElsewhere(), Conversions(), patch.object(torch, "inference_mode", without_gradients):
        yield


def trainer_of(**arguments: Any) -> lightning.pytorch.Trainer:
    """A Trainer on the accelerator asked for: Lightning knows no "elsewhere"."""
    if arguments["accelerator"] == ELSEWHERE.type:
        accelerator = CPUAccelerator()
        accelerator.setup_device = lambda device: None  # type: ignore[method-assign]
        arguments |= {"accelerator": "auto", "strategy": SingleDeviceStrategy(ELSEWHERE, accelerator)}
    return lightning.pytorch.Trainer(**arguments)


def find_device(accelerator: str) -> torch.device:
    return ELSEWHERE if accelerator == "gpu" else torch.device("cpu")


devices.find_device = find_device  # before others import it

from elman import tasks  # noqa: E402
from elman.cli import run  # noqa: E402
from elman.tasks.music import codec  # noqa: E402
from elman.training import trainer  # noqa: E402
from tests.small import text  # noqa: E402
from tests.tasks.test_damaged import DATA  # noqa: E402
from tests.tasks.test_music import chords  # noqa: E402
from tests.tasks.test_transcribe import WORDS, sound  # noqa: E402

trainer.Trainer = trainer_of  # type: ignore[assignment, attr-defined]
codec.LENGTH_QUARTERS = codec.LENGTH_EVENTS = 4  # of the piece in a plot
Figure.savefig = lambda figure, *args, **kwargs: None  # type: ignore[method-assign]  # half of the time


def text_file(folder: Path) -> Path:
    path = folder / "text.txt"
    path.write_text(text(1500))
    return path


RECORDINGS = [sound(WORDS[i % 6], 8000, i).astype(np.float32) for i in range(12)], [WORDS[i % 6] for i in range(12)]
CASES: dict[str, tuple[str, Any, dict[str, Any]]] = {
    **{name: (name, *DATA[name]) for name in ("tag", "classify", "forecast", "translate", "caption", "series")},
    "image": ("image", DATA["image"][0], {"flow_every": 1}),
    "text": ("text", None, {"batch": 4, "bptt": 10, "embed": 4}),
    "transcribe": ("transcribe", RECORDINGS, {"layers": 1, "time_mask": 0.2, "band_mask": 0.2, "beam": 2}),
    "music chain": ("music", chords(12), {"transpose": 2}),
    "music sigmoid": ("music", chords(12), {"transpose": 2, "output": "sigmoid"}),
    "music events": ("music", chords(12), {"transpose": 2, "as_": "events"}),
}


def compare(name: str, folder: Path) -> None:
    task, data, options = CASES[name]
    data = text_file(folder) if data is None else data
    options = {"hidden": 4, "epochs": 0.1, "batch": 4, "logger": False, "dropout": 0.0} | options
    fit = getattr(tasks, task).fit
    here = fit(data, folder / "here", accelerator="cpu", **options)
    with elsewhere():
        there = fit(data, folder / "there", accelerator="gpu", **options)
    assert there.run.config["training"]["accelerator"] == "gpu"
    assert_same(here, there)
    if name == "text":
        with elsewhere():
            written = [tasks.load(folder / "there", accelerator=a).generate("the ", 9, seed=1) for a in ("cpu", "gpu")]
        assert written[0] == written[1]
        move(folder)


def move(folder: Path) -> None:
    """Resume the run of a GPU on the CPU, and again on the GPU."""
    for epochs, accelerator in ((0.2, "cpu"), (0.3, "gpu")):
        resume = ["train", "text", "--epochs", str(epochs), "--resume"]
        assert run([*resume, str(folder / "here"), "--accelerator", "cpu", "--quiet"]) == 0
        with elsewhere():
            assert run([*resume, str(folder / "there"), "--accelerator", accelerator, "--quiet"]) == 0
        assert_same(tasks.load(folder / "here"), tasks.load(folder / "there"))


def assert_same(here: tasks.Trained, there: tasks.Trained) -> None:
    for (title, scores), others in zip(here.scores.items(), there.scores.values(), strict=True):
        assert scores.keys() == others.keys()
        np.testing.assert_allclose(list(scores.values()), list(others.values()), rtol=1e-3, err_msg=title)
    parameters = dict(there.model.named_parameters())
    for parameter_name, parameter in here.model.named_parameters():
        torch.testing.assert_close(parameter, parameters[parameter_name], rtol=1e-3, atol=1e-4)


def main(names: Sequence[str]) -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            (Path(folder) / name).mkdir()
            compare(name, Path(folder) / name)
            print(name, "ok", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or list(CASES))
