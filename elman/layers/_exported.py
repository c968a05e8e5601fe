"""Layers under torch.export as one operator, `elman::exported_layer`, and as a scan with strict=True.

The operator has a string that names the layer: a description, from which any process with elman builds the layer, so
that a program can be saved and loaded; or a reference to a layer of this process, for exporters that translate the
operator, as that to ONNX does. Weights are arguments of the operator, so a program owns them.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

import torch
from torch import Tensor

from elman.engine.outputs import output_tensors
from elman.engine.precision import autocast_by_name, autocast_name
from elman.engine.torch_private import (
    assume_constant_result,
    below_autograd,
    disable_torch_function,
    in_dispatch_mode,
    specialized,
    tree_leaves,
    without_modes,
)
from elman.layers._export_form import export_form, exporting_as
from elman.layers._layer_description import build_layer, describe_layer
from elman.layers._layer_ids import find_layer
from elman.layers._state_structure import structure_of, unflatten_state

if TYPE_CHECKING:
    from elman.layers._layer import Layer, Lengths

PROCESS = uuid4().hex  # references are valid in the process that made them
REFERENCE = "layer of process "

_library = torch.library.Library("elman", "FRAGMENT")
# x, the outputs and the final states are as a layer without batch_first takes and returns them; states are a list.
# nondeterministic_seeded: two calls of a layer that draws random numbers are not merged.
_library.define(
    "exported_layer(str layer, Tensor x, Tensor? lengths, Tensor[] states, Tensor[] weights, str[] names, bool single, "
    "str? autocast) -> Tensor[]",
    tags=(torch.Tag.nondeterministic_seeded,),
)
exported_layer = torch.ops.elman.exported_layer.default


class ResultForm(NamedTuple):
    """The names of the outputs, empty if there is a single one without a name, and whether the state is one tensor."""

    names: tuple[str, ...]
    single: bool


def call_exported(layer: "Layer", input: Any, state: Any, lengths: "Lengths | None") -> tuple[Any, Any]:
    """Call a layer as an operator, or by a function that becomes a scan. torch.export traces this function."""
    layout = layer._layout(input, None, None)
    x = layout.to_rows(input) if layout.batched else input
    values = None if lengths is None else layer._lengths_as_tensor(lengths, layout.B, input.device)
    structure = structure_of(getattr(layer, "state_size", None) if state is None else state)
    states = [] if state is None else tree_leaves(state)
    single, weights = isinstance(state, Tensor), layer._weights()
    autocast = autocast_name(x.device.type)
    width, *widths = (specialized(value.shape[-1]) for value in (x, *states))
    form = _result_form(layer._layer_number, width, x.dtype, tuple(widths), single, autocast)
    text = _layer_text(layer._layer_number)
    arguments = text, x, values, states, list(weights.values()), list(weights), single, autocast
    if export_form() == "scan":
        from elman.layers._exported_scan import scan_layer

        results = scan_layer(*arguments)
    else:
        results = exported_layer(*arguments)
    count = len(form.names) or 1
    outputs = [layout.from_rows(rows) if layout.batched else rows for rows in results[:count]]
    output = dict(zip(form.names, outputs, strict=True)) if form.names else outputs[0]
    finals = tuple(results[count:])
    if structure is not None:
        return output, unflatten_state(structure, finals)
    return output, finals[0] if form.single else finals


def layer_of(text: str) -> "Layer":
    """Return the layer that an operator's string names; its weights are those of the operator.

    Raises:
        ValueError: for a reference to a layer of another process, and for a text that no description is.
    """
    if not text.startswith(REFERENCE):
        return _built_layer(text)
    process, _, number = text.removeprefix(REFERENCE).partition(":")
    if process != PROCESS:
        raise ValueError(
            "elman::exported_layer: expected a layer of this process, got one of another; export with "
            "elman.export.torch_export, whose files can be loaded"
        )
    return find_layer(int(number))


_built_layer = lru_cache(maxsize=256)(build_layer)


def _layer_text(number: int) -> str:
    """The string that names a layer, in the present form."""
    if export_form() != "operator":
        return f"{REFERENCE}{PROCESS}:{number}"
    return describe_layer(find_layer(number))


def _result_form(
    number: int, width: int, dtype: torch.dtype, widths: Sequence[int], single: bool, autocast: str | None
) -> ResultForm:
    """Find out what a layer returns by running one step on zeros, without side effects."""
    layer = find_layer(number)
    with without_modes(), disable_torch_function(), torch.inference_mode(False):
        # Under torch.export, weights are fake tensors.
        weights = {
            name: torch.zeros(value.shape, dtype=value.dtype, device=value.device)
            for name, value in layer._weights().items()
        }
        device = next(iter(weights.values()), torch.empty(0)).device
        lead = layer._state_lead()
        x = torch.zeros(1, 2, width, dtype=dtype, device=device)
        states = [torch.zeros(*lead, 2, size, dtype=dtype, device=device) for size in widths]
        outputs, final = _compute(layer, x, None, states, weights, single, autocast)
    return ResultForm(tuple(outputs) if isinstance(outputs, dict) else (), isinstance(final, Tensor))


# torch.compile, which traces with strict=True, calls the functions and takes the results as constants.
assume_constant_result(_layer_text)
assume_constant_result(_result_form)


def _compute(
    layer: "Layer", x: Tensor, lengths: Tensor | None, states: Sequence[Tensor], weights: dict[str, Tensor],
    single: bool, autocast: str | None,
) -> tuple[Any, Any]:  # fmt: skip
    """Run one step or several of a layer that is being exported, without side effects and in plain torch."""
    from elman.layers._compiled import without_side_effects

    with torch.no_grad(), without_side_effects(layer), exporting_as("probe"):
        return _call(layer, x, lengths, states, weights, single, autocast)


def _call(
    layer: "Layer", x: Tensor, lengths: Tensor | None, states: Sequence[Tensor], weights: dict[str, Tensor],
    single: bool, autocast: str | None,
) -> tuple[Any, Any]:  # fmt: skip
    transposed = layer.batch_first and x.dim() == 3
    structure = structure_of(getattr(layer, "state_size", None))
    state: Any = None if not states else states[0] if single else tuple(states)
    if structure is not None and states:
        state = unflatten_state(structure, states)
    with autocast_by_name(x.device.type, autocast):
        outputs, final = layer._compute(weights, x.transpose(0, 1) if transposed else x, state, lengths, None)
    if not transposed:
        return outputs, final
    if isinstance(outputs, dict):
        return {name: rows.transpose(0, 1) for name, rows in outputs.items()}, final
    return outputs.transpose(0, 1), final


def _results(result: tuple[Any, Any]) -> list[Tensor]:
    outputs, final = result
    return [value.contiguous() for value in (*output_tensors(outputs), *tree_leaves(final))]


def run_layer(
    layer: str, x: Tensor, lengths: Tensor | None, states: Sequence[Tensor], weights: Sequence[Tensor],
    names: Sequence[str], single: bool, autocast: str | None,
) -> list[Tensor]:  # fmt: skip
    """Run the operator: the outputs, then the final states."""
    named = dict(zip(names, weights, strict=True))
    return _results(_call(layer_of(layer), x, lengths, states, named, single, autocast))


def fake_results(
    layer: str, x: Tensor, lengths: Tensor | None, states: Sequence[Tensor], weights: Sequence[Tensor],
    names: Sequence[str], single: bool, autocast: str | None,
) -> list[Tensor]:  # fmt: skip
    """Return tensors like the results of the operator, for compilers."""
    named = dict(zip(names, weights, strict=True))
    outputs, final = _compute(layer_of(layer), x[:1], lengths, states, named, single, autocast)
    rows = [value.new_empty((x.shape[0], *value.shape[1:])) for value in output_tensors(outputs)]
    return [*rows, *(value.new_empty(value.shape) for value in tree_leaves(final))]


def _autograd(*arguments: Any) -> list[Tensor]:
    if not in_dispatch_mode():  # nothing is being traced: the layer as in eager mode
        return run_layer(*arguments)
    with below_autograd():
        return exported_layer(*arguments)  # type: ignore[no-any-return]


_library.impl("exported_layer", run_layer, "CompositeExplicitAutograd")
_library.impl("exported_layer", _autograd, "Autograd")
torch.library.register_fake("elman::exported_layer", fake_results, lib=_library)
