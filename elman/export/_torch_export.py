"""`torch_export`: layers and models as programs of torch.export, saved as .pt2 files."""

import io
import json
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from elman import __version__
from elman.engine.torch_private import tree_leaves, tree_map, tree_structure, tree_unflatten
from elman.export._formats import Runner
from elman.export._modules import as_module, evaluating, example_input, flat_outputs, is_layer
from elman.io.files import write_whole
from elman.layers import _exported  # noqa: F401 (the operator of the files)
from elman.layers._export_form import exporting_as

WHERE = "elman.export.torch_export"
FORMAT = 1  # raised when older versions cannot read what a newer one writes
METADATA = "elman.json"
STEPS, BATCH = 3, 2  # of the example input; torch.export takes sizes of 0 and 1 as constants


def write(
    module: nn.Module | Sequence[nn.Module],
    path: str | PathLike[str],
    inputs: Any = None,
    *,
    loop: Literal["scan", "operator"] = "scan",
    lengths: bool = False,
    state: bool = True,
    strict: bool = False,
    dynamic_shapes: Any = None,
) -> ExportedProgram:
    """Export a layer or a model by torch.export with free axes, and save it.

    A layer is called as before, `program.module()(input, state, lengths=lengths)`, and its axes of time and batch are
    free. The module is exported as it computes in evaluation mode; its own mode does not change.

    Args:
        module: a layer of elman, or a model that contains some; a list or an `nn.Sequential` of modules, in which
            layers pass their outputs on.
        path: of the file, which ends with ".pt2".
        inputs: of a model, its example inputs, a tensor or a tuple of tensors, with sizes of at least 2 in free axes.
            Of a layer, an example input, needed only if the layer does not know the size of its input.
        loop: "scan": every layer is torch's operator for loops, `torch.ops.higher_order.scan`, over one step in plain
            PyTorch, which runs without elman. "operator": every layer is one operator, `elman::exported_layer`, at the
            speed of elman; a process that loads the file has to `import elman.export` first. Cells other than those of
            `elman.cells` and torch.nn need "scan".
        lengths: the program of a layer takes the number of steps of each sequence, `lengths=` (B,).
        state: the program of a layer takes an initial state. If False, it begins with zeros, or the learned one.
        strict: as of `torch.export.export`.
        dynamic_shapes: of a model, as of `torch.export.export`. None: every axis is free that the model allows.

    Returns:
        The program.

    Raises:
        ValueError: for an unknown `loop`, a path with another suffix, a model without example inputs, what
            torch.export refuses, or with `loop="operator"` a cell that another process cannot build.

    >>> import elman, tempfile
    >>> layer = elman.LSTM(3, 5)
    >>> path = Path(tempfile.mkdtemp()) / "lstm.pt2"
    >>> program = elman.export.torch_export(layer, path, state=False)
    >>> outputs, (h, c) = torch.export.load(path).module()(torch.randn(7, 4, 3))
    >>> outputs.shape
    torch.Size([7, 4, 5])
    """
    path = Path(path)
    if path.suffix != ".pt2":
        raise ValueError(f"{WHERE}: path: expected a file name that ends with .pt2, got {path.name!r}")
    if loop not in ("scan", "operator"):
        raise ValueError(f"{WHERE}: loop: expected 'scan' or 'operator', got {loop!r}")
    name, module = type(module).__name__, as_module(module, WHERE)
    with torch.no_grad(), evaluating(module):
        options: dict[str, Any] = {}
        if is_layer(module):
            examples, options, shapes = _layer_arguments(module, inputs, lengths, state)
        elif inputs is None:
            raise ValueError(f"{WHERE}: {name}: expected example inputs; pass inputs=")
        else:
            examples = tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)
            shapes = tree_map(_free_axes, examples) if dynamic_shapes is None else dynamic_shapes
        with exporting_as(loop):
            try:
                program = torch.export.export(module, examples, options, dynamic_shapes=shapes, strict=strict)
            except RuntimeError as error:  # of torch.export, whose messages are pages long
                reason = next(filter(None, map(str.strip, str(error).splitlines())), type(error).__name__)
                raise ValueError(f"{WHERE}: {name} cannot be exported: {reason}") from error
    metadata = {"format": FORMAT, "elman": __version__, "torch": str(torch.__version__), "loop": loop}
    metadata |= {"lengths": lengths, "state": state} if is_layer(module) else {}
    file = io.BytesIO()
    torch.export.save(program, file, extra_files={METADATA: json.dumps(metadata)})
    write_whole(path, file.getvalue())
    return program


def _layer_arguments(
    layer: Any, inputs: Any, lengths: bool, state: bool
) -> tuple[tuple[Any, ...], dict[str, Any], dict[str, Any]]:
    """The example arguments of a layer by position and by name, and their free axes."""
    x = inputs[0] if isinstance(inputs, tuple | list) else inputs
    if x is None:
        x = example_input(layer, STEPS, BATCH, torch.Generator().manual_seed(0))
    B, T = Dim("batch"), Dim("time")
    arguments: tuple[Any, ...] = (x,)
    shapes: dict[str, Any] = {"input": {0: B, 1: T} if layer.batch_first else {0: T, 1: B}}
    final = layer(x)[1]
    if state:
        arguments += (tree_map(torch.zeros_like, final),)
        shapes["hx" if hasattr(layer, "num_layers") else "state"] = tree_map(lambda value: {value.dim() - 2: B}, final)
    if not lengths:
        return arguments, {}, shapes
    rows = x.shape[0 if layer.batch_first else 1]
    return arguments, {"lengths": torch.ones(rows, dtype=torch.int64)}, shapes | {"lengths": {0: B}}


def _free_axes(value: Any) -> Any:
    return dict.fromkeys(range(value.dim()), Dim.AUTO) if isinstance(value, Tensor) else None


def load(path: Path, module: nn.Module) -> Runner:
    """Load a file by torch.export."""
    return _ProgramRunner(path, module)


class _ProgramRunner(Runner):
    def __init__(self, path: Path, module: nn.Module) -> None:
        files = {METADATA: ""}
        self._program = torch.export.load(path, extra_files=files).module()
        metadata = json.loads(files[METADATA] or "{}")
        if metadata.get("format") != FORMAT:
            got = metadata.get("format", "none")
            raise ValueError(
                f"{path}: expected a file of elman.export.torch_export in format {FORMAT}, got {got}; install a newer "
                "version of elman, or export the module again"
            )
        self._module, self._is_layer = module, is_layer(module)
        self.time = int(getattr(module, "batch_first", False)) if self._is_layer else 0
        self.takes_state, self.takes_lengths = metadata.get("state", False), metadata.get("lengths", False)

    def run(
        self, inputs: Sequence[Tensor], state: Sequence[Tensor] | None = None, lengths: Tensor | None = None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Run the program."""
        if not self._is_layer:
            return tree_leaves(self._program(*inputs)), []
        (x,), arguments, options = inputs, list[Any](), dict[str, Tensor]()
        if self.takes_state:
            final = self._module(x)[1]
            start = tree_map(torch.zeros_like, final) if state is None else tree_unflatten(state, tree_structure(final))
            arguments.append(start)
        if self.takes_lengths:
            steps = torch.full((x.shape[1 - self.time],), x.shape[self.time])
            options["lengths"] = steps if lengths is None else lengths
        outputs, final = self._program(x, *arguments, **options)
        return flat_outputs(outputs), tree_leaves(final) if self.takes_state else []
