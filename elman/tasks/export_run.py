"""Export a trained model as a folder that a program needs no elman to use."""

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import elman
from elman.errors import BadInput, Failure
from elman.export import FORMATS, CheckResult, Runner
from elman.export._check import TOLERANCE, difference, random_sizes
from elman.io.files import new_folder
from elman.tasks.export_part import BATCH, STEPS, Exportable, ExportPart
from elman.tasks.task import Loaded, Task
from elman.training.devices import device_of

RunPart = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]  # from inputs to outputs, by name

LOADED_BY_ONNX = "onnxruntime.InferenceSession('NAME.onnx').run(outputs, inputs), with arrays by name"
LOADED_BY_C = (
    "NAME.h declares the functions: NAME_reset(&state) begins a sequence, NAME_step(&state, x, y) runs one step, and "
    "NAME_run(&state, x, steps, y) several, for one stream; its state is in a NAME_state"
)
LOADED_BY_TORCH = (
    "torch.export.load('NAME.pt2').module() is called with tensors in the order of inputs, and returns a tuple in the "
    "order of outputs, or a tensor if there is one"
)
FORMAT = 1  # of export.json; higher for changes that older readers would misread
CHECKED_SIZES = {BATCH: 3, STEPS: 13}
OTHER_SIZE = 7  # of other free axes in the check


@dataclass(frozen=True)
class RunFormat:
    """A format in which runs can be written.

    Attributes:
        home: its name in `elman.export.FORMATS`.
        usage: how a program loads a part of it, for export.json.
        of_layers: it holds layers alone, without the operations around them.
        has_names: it has the names of inputs and outputs.
    """

    home: str
    usage: str
    of_layers: bool = False
    has_names: bool = False


#: every format of `elman export` by its name
FORMATS_OF_RUNS = {
    "onnx": RunFormat("onnx", LOADED_BY_ONNX, has_names=True),
    "c": RunFormat("c", LOADED_BY_C, of_layers=True),
    "torch": RunFormat("torch_export", LOADED_BY_TORCH),
}


class Exported(NamedTuple):
    """A folder that was written.

    Attributes:
        path: the folder.
        checks: the largest differences from the model, by the name of the part.
    """

    path: Path
    checks: dict[str, CheckResult]


def export_run(task: Task, loaded: Loaded, format: str, out: Path | None = None) -> Exported:
    """Write the parts of a trained model, and all that is needed to use them, and check them in their own runtime.

    Args:
        task: the task.
        loaded: its model, on the CPU.
        format: a name in `FORMATS_OF_RUNS`.
        out: the folder, new or empty; None: export-FORMAT in the run folder.

    Raises:
        BadInput: for a task or a part that this format cannot hold; if `out` exists and is not an empty folder.
        Failure: if the numbers of a written part differ from those of the model.
        MissingPackage: without the packages of the format.
    """
    if task.export is None:
        raise BadInput(f"{loaded.run.path}: export: the task {task.name} has no parts to export")
    path = loaded.run.path / f"export-{format}" if out is None else out
    exportable = task.export(_on_cpu(loaded))
    with new_folder(path, "--out " if out else "") as folder:
        checks = {part.name: _write(part, format, folder, loaded.run.path) for part in exportable.parts}
        for name, text in exportable.files.items():
            (folder / name).write_text(text, encoding="utf-8")
        description = _description(task, loaded, exportable, format, checks, folder)
        (folder / "export.json").write_text(json.dumps(description, indent=2, ensure_ascii=False) + "\n", "utf-8")
    return Exported(path, checks)


def _on_cpu(loaded: Loaded) -> Loaded:
    """Return a model on the CPU: a copy, if it is on another device."""
    return loaded if device_of(loaded.model).type == "cpu" else replace(loaded, model=deepcopy(loaded.model).cpu())


def _write(part: ExportPart, format: str, folder: Path, run: Path) -> CheckResult:
    """Write a part, and compare it with the model."""
    form = FORMATS_OF_RUNS[format]
    home, layers = FORMATS[form.home], part.layers if form.of_layers else None
    path, module = folder / f"{part.name}{home.suffix}", layers if form.of_layers else part.module
    if module is None:
        raise BadInput(
            f"{run}: --format {format}: expected layers alone, got a part {part.name} with {part.not_layers}; pass "
            "--format onnx"
        )
    try:
        if layers:
            home.write(layers, path)
        else:
            home.write(module, path, tuple(part.example().values()), **_signature(part, form.has_names))
    except ValueError as error:
        raise BadInput(f"{run}: --format {format}: the part {part.name}: {error}") from None
    return _check(part, home.load(path, module), layers, path)


def _signature(part: ExportPart, has_names: bool) -> dict[str, Any]:
    """Return the free axes as torch.export takes them, and the names of inputs and outputs for formats with names."""
    axes = {name: torch.export.Dim(name) for name in part.axes}
    free = [{i: axes[size] for i, size in enumerate(spec.shape) if isinstance(size, str)} for spec in part.inputs]
    names = {
        "input_names": [spec.name for spec in part.inputs],
        "output_names": [spec.name for spec in part.outputs],
    }
    shapes = {"dynamic_shapes": inspect.signature(part.module.forward).bind(*free).arguments}
    return shapes | names if has_names else shapes


def _description(
    task: Task, loaded: Loaded, exportable: Exportable, format: str, checks: Mapping[str, CheckResult], folder: Path
) -> dict[str, Any]:
    form = FORMATS_OF_RUNS[format]
    parts = {
        part.name: part.to_dict(form.of_layers) | {"differences": checks[part.name]._asdict()}
        for part in exportable.parts
    }
    files = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}
    return {
        "export": FORMAT,
        "elman": elman.__version__,
        "task": task.name,
        "model": str(loaded.model.title),
        "format": format,
        "usage": form.usage,
        "parts": parts,
        "settings": exportable.settings,
        "sha256": files,
    }


def _check(part: ExportPart, runner: Runner, layers: nn.Module | None, path: Path) -> CheckResult:
    """Compare a written part with the model on whole, chunked and ragged input.

    Raises:
        Failure: for a difference above `TOLERANCE`.
    """

    def run(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        outputs, _ = runner.run(list(inputs.values())[: 1 if layers else None])
        return {spec.name: value for spec, value in zip(part.outputs, outputs, strict=layers is None)}

    def compare(inputs: Mapping[str, Tensor]) -> float:
        with torch.inference_mode():
            expected = [layers(inputs[part.inputs[0].name])] if layers else list(part.run(inputs).values())
        return difference(list(run(inputs).values()), expected)

    generator = torch.Generator().manual_seed(0)
    sizes = {axis: part.size(axis, CHECKED_SIZES.get(axis, OTHER_SIZE)) for axis in part.axes}
    smallest = {axis: part.size(axis, 1) for axis in part.axes}
    whole = max(compare(part.random(size, generator)) for size in (sizes, smallest))
    chunked = ragged = None
    if layers and runner.can_stream:
        x, counts = part.random(sizes, generator)[part.inputs[0].name], random_sizes(CHECKED_SIZES[STEPS], generator)
        with torch.inference_mode():
            chunked = difference(runner.run_chunks([x], counts)[0], [layers(x)])
    elif part.states and STEPS in part.axes and not layers:
        chunked = _chunked(part, run, part.random(sizes, generator), generator)
    if any(spec.lengths_of for spec in part.inputs) and not layers:
        ragged = compare(part.random(sizes, generator, ragged=True))
    result = CheckResult(whole, chunked, ragged)
    if not result.largest <= TOLERANCE:
        raise Failure(
            f"{path.name}: expected the numbers of the model within {TOLERANCE:g}, got a difference of "
            f"{result.largest:.3g}; please report it, with the output of elman env"
        )
    return result


def _chunked(part: ExportPart, run: RunPart, inputs: Mapping[str, Tensor], generator: torch.Generator) -> float:
    """Return the largest difference where the file runs random chunks of the steps, one after another."""
    counts, current, pieces = random_sizes(CHECKED_SIZES[STEPS], generator), dict(inputs), list[dict[str, Tensor]]()
    by_step = [spec for spec in part.inputs if STEPS in spec.shape]
    for begin, count in zip(accumulate(counts, initial=0), counts, strict=False):
        chunk = {spec.name: inputs[spec.name].narrow(spec.shape.index(STEPS), begin, count) for spec in by_step}
        pieces.append(run(current | chunk))
        current |= {name: pieces[-1][final] for name, final in part.states.items()}
    joined = {
        spec.name: torch.cat([piece[spec.name] for piece in pieces], spec.shape.index(STEPS))
        for spec in part.outputs
        if STEPS in spec.shape
    }
    return difference(list((pieces[-1] | joined).values()), list(part.run(inputs).values()))
