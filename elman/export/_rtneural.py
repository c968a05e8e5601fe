"""`rtneural`: stacks of recurrent, linear and activation layers as the JSON that RTNeural's `parseJson` reads."""

import json
from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from elman import cells
from elman.export._formats import Runner
from elman.export._modules import evaluating, is_layer
from elman.io.files import write_whole
from elman.layers import Stack
from elman.weights import from_keras, to_keras

WHERE = "elman.export.rtneural"
RECURRENT: dict[str, Any] = {"lstm": cells.LSTM, "gru": cells.GRU}
TORCH_RECURRENT = {nn.LSTM: "lstm", nn.GRU: "gru"}
ACTIVATIONS: dict[type[nn.Module], str] = {nn.Tanh: "tanh", nn.ReLU: "relu", nn.Sigmoid: "sigmoid", nn.ELU: "elu"}
IGNORED = (nn.Dropout, nn.Identity)  # do nothing in evaluation
KNOWN = "elman.LSTM, elman.GRU, those of torch.nn, Linear, Tanh, ReLU, Sigmoid, ELU, Softmax"
STEPS, BATCH, TOLERANCE = 5, 2, 1e-5


def write(module: nn.Module | Sequence[nn.Module], path: str | PathLike[str], inputs: Any = None) -> None:
    """Write a stack of layers as JSON for RTNeural (github.com/jatinchowdhury18/RTNeural).

    RTNeural runs one stream in real time, sample by sample, from a state of zeros.

    Args:
        module: LSTM and GRU layers in one direction (of elman or torch.nn, with several layers too), `nn.Linear` and
            activations: one of them, a list in the order in which they are applied, or a model whose children are
            applied in their order.
        path: of the file, which ends with ".json".
        inputs: of a model with a forward of its own, (B, T, D) or (T, B, D): the model is compared with its children
            applied in order. None: random numbers.

    Raises:
        TypeError: for a layer that RTNeural does not have.
        ValueError: for a path with another suffix, an option that RTNeural does not have, or a model that does not
            apply its children in order.

    >>> import elman, tempfile
    >>> path = Path(tempfile.mkdtemp()) / "amplifier.json"
    >>> elman.export.rtneural([elman.LSTM(1, 16), nn.Linear(16, 1)], path)
    >>> [layer["type"] for layer in json.loads(path.read_text())["layers"]]
    ['lstm', 'dense']
    """
    path = Path(path)
    if path.suffix != ".json":
        raise ValueError(f"{WHERE}: path: expected a file name that ends with .json, got {path.name!r}")
    parts = list(_parts(module))
    layers, width = list[dict[str, Any]](), None
    for part in parts:
        entries = list(_entries(part, width))
        for entry in entries:
            D, width = entry.pop("in", width), entry["shape"][-1]
            layers.append(entry)
            if len(layers) == 1:
                first = D
    if not layers or layers[0]["type"] == "activation":
        raise ValueError(f"{WHERE}: expected a first layer with weights, got {type(module).__name__} without one")
    model = {"in_shape": [None, None, first], "layers": layers}
    if isinstance(module, nn.Module) and len(parts) > 1:
        _check_order(module, parts, first, inputs)
    write_whole(path, json.dumps(model).encode())


def _parts(module: nn.Module | Sequence[nn.Module]) -> Iterator[nn.Module]:
    """The layers in the order in which they are applied."""
    if isinstance(module, Stack | nn.RNNBase) or (isinstance(module, nn.Module) and not list(module.children())):
        if not isinstance(module, IGNORED):
            yield module
        return
    for part in module.children() if isinstance(module, nn.Module) else module:
        yield from _parts(part)


def _entries(part: nn.Module, width: int | None) -> Iterator[dict[str, Any]]:
    """The entries of a layer; "in" is the width of its input."""
    name = type(part).__name__
    if kind := _recurrent_kind(part):
        if part.bidirectional or part.proj_size:
            raise ValueError(f"{WHERE}: {name}: expected one direction without a projection, got {part}")
        D = part.input_size
        for arrays in to_keras(part):  # type: ignore[arg-type]
            kernel, recurrent, *bias = (array.tolist() for array in arrays)
            G = len(kernel[0])
            zeros = [0.0] * G if kind == "lstm" else [[0.0] * G] * 2
            weights = [kernel, recurrent, bias[0] if bias else zeros]
            yield {"type": kind, "activation": "", "shape": [None, None, part.hidden_size], "weights": weights, "in": D}
            D = part.hidden_size
    elif isinstance(part, nn.Linear):
        bias = part.bias.tolist() if part.bias is not None else [0.0] * part.out_features
        shape = [None, None, part.out_features]
        weights = [part.weight.t().tolist(), bias]
        yield {"type": "dense", "activation": "", "shape": shape, "weights": weights, "in": part.in_features}
    else:
        activation = ACTIVATIONS.get(type(part), "softmax" if isinstance(part, nn.Softmax) else "")
        if not activation:
            raise TypeError(f"{WHERE}: expected {KNOWN}, got {name}")
        if getattr(part, "alpha", 1.0) != 1.0 or getattr(part, "dim", -1) not in (-1, 2):
            raise ValueError(f"{WHERE}: {name}: expected its default options over the last axis, got {part}")
        yield {"type": "activation", "activation": activation, "shape": [None, None, width], "weights": []}


def _recurrent_kind(part: nn.Module) -> str:
    """The name in RTNeural of a recurrent layer; "" for others."""
    if isinstance(part, Stack):
        kinds = [kind for kind, cell in RECURRENT.items() if part.cell_type is cell and is_layer(part)]
        if not kinds:
            raise TypeError(f"{WHERE}: expected {KNOWN}, got {type(part).__name__} of {part.cell_type.__name__} cells")
        return kinds[0]
    return TORCH_RECURRENT.get(type(part), "")


def _apply(parts: Sequence[nn.Module], x: Tensor) -> Tensor:
    for part in parts:
        x = part(x)[0] if isinstance(part, Stack | nn.RNNBase) else part(x)
    return x


def _check_order(module: nn.Module, parts: Sequence[nn.Module], width: int, inputs: Any) -> None:
    """Check that a model applies its parts one after another."""
    x = inputs[0] if isinstance(inputs, tuple | list) else inputs
    if x is None:
        x = torch.randn(STEPS, BATCH, width, generator=torch.Generator().manual_seed(0))
    if isinstance(module, nn.Sequential):
        return  # by definition
    with torch.no_grad(), evaluating(module):
        result = module(x)
        actual = result[0] if isinstance(result, tuple | list) else result
        expected = _apply(parts, x)
    if actual.shape != expected.shape or not torch.allclose(actual, expected, atol=TOLERANCE):
        raise ValueError(
            f"{WHERE}: {type(module).__name__}: expected a model that applies {', '.join(map(_name, parts))} one after "
            "another and does nothing else, got other outputs; pass the layers as a list"
        )


def _name(part: nn.Module) -> str:
    return type(part).__name__


def load(path: Path, module: nn.Module) -> Runner:
    """Read a file back into layers of elman, which run in place of RTNeural."""
    return _LayersRunner(path, module)


class _LayersRunner(Runner):
    takes_state = takes_lengths = False

    def __init__(self, path: Path, module: nn.Module) -> None:
        model = json.loads(path.read_text())
        self._parts, width = list[nn.Module](), model["in_shape"][-1]
        batch_first = any(getattr(part, "batch_first", False) for part in module.modules())
        for entry in model["layers"]:
            H, weights = entry["shape"][-1], entry["weights"]
            if entry["type"] in RECURRENT:
                layer: Any = Stack(width, H, cell_type=RECURRENT[entry["type"]], batch_first=batch_first)
                from_keras(layer, [[torch.tensor(array).numpy() for array in weights]])
            elif entry["type"] == "dense":
                layer = nn.Linear(width, H)
                layer.load_state_dict({"weight": torch.tensor(weights[0]).t(), "bias": torch.tensor(weights[1])})
            else:
                names = {name: kind for kind, name in ACTIVATIONS.items()}
                layer = names[entry["activation"]]() if entry["activation"] in names else nn.Softmax(-1)
            self._parts.append(layer)
            width = H

    def run(
        self, inputs: Sequence[Tensor], state: Sequence[Tensor] | None = None, lengths: Tensor | None = None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Run the layers."""
        return [_apply(self._parts, inputs[0])], []
