"""Layers as text: a description of a layer of registered cells, without its weights, and the layer built from it."""

import json
from collections.abc import Mapping
from inspect import signature
from typing import TYPE_CHECKING, Any

from torch import nn

from elman import cells
from elman.engine.module_state import ModuleState, has_hooks
from elman.engine.torch_private import disable_torch_function, without_modes

if TYPE_CHECKING:
    from elman.layers._layer import Layer

FORMAT = 1  # raised when older versions cannot read what a newer one writes
TORCH_CELLS = {cell.__name__: cell for cell in (nn.RNNCell, nn.GRUCell, nn.LSTMCell)}
NOT_OPTIONS = {"self", "input_size", "hidden_size", "device", "dtype", "options", "args", "kwargs"}
WHERE = "elman: description of an exported layer"


def describe_layer(layer: "Layer") -> str:
    """Describe a layer, as JSON without its weights.

    Raises:
        ValueError: for a layer that the text cannot describe in full: of another cell, with hooks, or changed.
    """
    from elman.layers.recurrent import Recurrent
    from elman.layers.stack import Stack

    problem, fields, steps = "", dict[str, Any](), tuple[nn.Module, ...]()
    compute = getattr(type(layer), "_compute", None)
    if isinstance(layer, Stack) and compute is Stack._compute:
        fields, steps = _stack_fields(layer), layer._steps
    elif isinstance(layer, Recurrent) and compute is Recurrent._compute:
        fields, steps = _recurrent_fields(layer), (layer.cell,)
    if not fields.get("cell"):
        cell = getattr(layer, "cell", None) or getattr(layer, "_cells", [layer])[0]
        problem = f"got {cell._get_name()}"
    elif any(map(has_hooks, steps)):
        problem = "got a cell with hooks"
    else:
        text = json.dumps({"format": FORMAT} | fields)
        rebuilt: Any = build_layer(text)
        new_steps = rebuilt._steps if isinstance(rebuilt, Stack) else (rebuilt.cell,)
        if [ModuleState.of(step) for step in steps] == [ModuleState.of(step) for step in new_steps]:
            return text
        problem = "got one with attributes of its own"
    raise ValueError(
        f"{type(layer).__name__}: torch.export as an operator of elman: expected a cell of elman.cells or torch.nn, "
        f"{problem}; export it as a scan"
    )


def build_layer(text: str) -> "Layer":
    """Build a layer from its description, on the meta device: weights belong to the call.

    Raises:
        ValueError: for a text that is not such a description, or that a newer version of elman has written.
    """
    from elman.layers.recurrent import Recurrent
    from elman.layers.stack import Stack

    try:
        fields = json.loads(text)
        version = fields.pop("format")
    except (ValueError, TypeError, AttributeError, KeyError):
        raise ValueError(f"{WHERE}: expected JSON with a format, got {text!r:.60}") from None
    if version != FORMAT:
        raise ValueError(f"{WHERE}: expected format {FORMAT}, got {version!r:.20}; install a newer version of elman")
    try:
        layer, cell, training = fields.pop("layer"), fields.pop("cell"), fields.pop("training")
        with without_modes(), disable_torch_function():  # those of torch.export
            if layer == "stack":
                built: Layer = Stack(**fields, cell_type=cells.by_name(cell), device="meta")
            else:
                cell_class = TORCH_CELLS[cell] if cell in TORCH_CELLS else cells.by_name(cell)
                options = fields.pop("options")
                built = Recurrent(cell_class(**options, device="meta"), **fields)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise ValueError(f"{WHERE}: expected the options of a layer, got {text!r:.200}: {error}") from None
    return built.train(training)


def _registered_name(cell: type) -> str:
    """The name of a class of elman.cells; "" for another class."""
    return next((name for name in cells.REGISTRY if cells.by_name(name) is cell), "")


def _stack_fields(layer: Any) -> dict[str, Any]:
    names = (
        "input_size", "hidden_size", "num_layers", "batch_first", "bidirectional", "dropout", "zoneout", "weight_drop",
        "recurrent_dropout", "locked_dropout", "training",
    )  # fmt: skip
    fields: dict[str, Any] = {name: getattr(layer, name) for name in names}
    # dropout has no effect in a stack of one layer, which would warn
    fields["dropout"] *= layer.num_layers > 1
    options: dict[str, Any] = layer._options
    return {"layer": "stack", "cell": _registered_name(layer.cell_type)} | fields | options


def _recurrent_fields(layer: Any) -> dict[str, Any]:
    cell = layer.cell
    name = type(cell).__name__ if type(cell) in TORCH_CELLS.values() else _registered_name(type(cell))
    options = _cell_options(cell) if name else {}
    return {
        "layer": "recurrent", "cell": name, "options": options, "batch_first": layer.batch_first,
        "learn_state": layer.initial_state is not None, "training": layer.training,
    }  # fmt: skip


def _cell_options(cell: nn.Module) -> Mapping[str, Any]:
    """The arguments that make a cell of this kind; cells have them as attributes."""
    names = set(signature(type(cell)).parameters) - NOT_OPTIONS
    options = {name: getattr(cell, name) for name in sorted(names)}
    return {"input_size": cell.input_size, "hidden_size": cell.hidden_size} | options | {"bias": bool(cell.bias)}
