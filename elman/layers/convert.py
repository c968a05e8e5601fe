"""Replaces the recurrent layers of torch.nn in a model with those of elman."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.utils.parametrize import type_before_parametrizations

from elman.layers.stack import Stack
from elman.layers.torch_like import GRU, LSTM, RNN

REPLACEMENTS: dict[type[nn.Module], type[Stack]] = {nn.RNN: RNN, nn.GRU: GRU, nn.LSTM: LSTM}
CUDNN_ATTRIBUTES = ("_flat_weights", "_flat_weight_refs", "_flat_weights_names", "_all_weights")  # of nn.RNNBase
NOTE = (
    "swapped layers are not instances of torch.nn.RNN, GRU or LSTM; tools that look for these by isinstance or type "
    "silently skip them, such as torch.ao.quantization.quantize_dynamic, thop and torchrl's LSTMModule"
)


@dataclass(frozen=True)
class LayerConversion:
    """A recurrent layer of torch.nn, and whether it was swapped.

    Attributes:
        names: all names of the layer in the model, as in `named_modules`; "" is the model itself.
        layer: class and sizes of the layer, as torch prints them.
        reason: why the layer was left as it is; "" if it was swapped.
    """

    names: tuple[str, ...]
    layer: str
    reason: str = ""


@dataclass(frozen=True)
class Conversion:
    """The recurrent layers of torch.nn in a model that was converted; `print` shows them as a table.

    Attributes:
        found: the layers, in the order of `named_modules`.
    """

    found: tuple[LayerConversion, ...]

    @property
    def swapped(self) -> tuple[LayerConversion, ...]:
        """The layers that were replaced with elman's."""
        return tuple(layer for layer in self.found if not layer.reason)

    @property
    def left(self) -> tuple[LayerConversion, ...]:
        """The layers that were left as they are."""
        return tuple(layer for layer in self.found if layer.reason)

    @property
    def note(self) -> str:
        """Limitation of the swapped layers compared with those of torch; "" if none was swapped."""
        return NOTE if self.swapped else ""

    def __str__(self) -> str:
        if not self.found:
            return "no recurrent layer of torch.nn in this model"
        names = [", ".join(name or "(the model)" for name in layer.names) for layer in self.found]
        width = max(map(len, names))
        lines = [
            f"{'left   ' if layer.reason else 'swapped'}  {name:{width}}  {layer.layer}"
            + (f": {layer.reason}" if layer.reason else "")
            for name, layer in zip(names, self.found, strict=True)
        ]
        return "\n".join([*lines, f"note: {self.note}"] if self.note else lines)


def convert(model: nn.Module, report: Callable[[Conversion], object] | None = None) -> Any:
    """Replace every torch.nn.RNN, GRU and LSTM of a model with elman's; the model computes the same numbers.

    The new layers hold the same parameter objects as the old ones: existing optimizers stay valid, tied and frozen
    parameters stay so, and the state dict does not change. Hooks, buffers, mode and custom attributes are kept.

    The model is changed in place and returned, as by `nn.SyncBatchNorm.convert_sync_batchnorm`. A model that is itself
    such a layer cannot be changed in place: `model = elman.convert(model)` covers both cases.

    The new layers are not instances of torch.nn's classes: `isinstance(layer, nn.LSTM)` is false afterwards. Tools that
    look for layers by class silently skip them: `torch.ao.quantization.quantize_dynamic`, thop, torchrl's `LSTMModule`.
    The report says so. On a GPU, the new layers call the same functions (cuDNN) as those of torch.nn.

    Args:
        model: any module. A layer that occurs in several places is swapped once and stays shared.
        report: called with the `Conversion`: which layers were swapped, which were not, and why. Try `report=print`.

    Returns:
        The model; or the new layer, if the model is itself a layer that is swapped.

    Raises:
        TypeError: if `model` is not a module.

    >>> import elman, torch
    >>> model = torch.nn.Sequential(torch.nn.Embedding(9, 3), torch.nn.GRU(3, 5, num_layers=2), torch.nn.LSTMCell(5, 4))
    >>> model = elman.convert(model, report=print)  # doctest: +ELLIPSIS
    swapped  1  GRU(3, 5, num_layers=2)
    left     2  LSTMCell(5, 4): a single-step cell; elman.Recurrent runs it over time
    note: swapped layers are not instances of torch.nn.RNN, GRU or LSTM; tools that look for these by isinstance ...
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"convert: model: expected a torch.nn.Module, got {type(model).__name__}")
    names_of: dict[nn.Module, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, nn.RNNBase | nn.RNNCellBase):
            names_of.setdefault(module, []).append(name)
    replacements: dict[nn.Module, nn.Module] = {}
    conversions = []
    for layer, names in names_of.items():
        reason = _reason_to_keep(layer, names)
        if not reason:
            replacements[layer] = _replacement_for(layer)
        conversions.append(LayerConversion(tuple(names), f"{type(layer).__name__}({layer.extra_repr()})", reason))
    for parent, name, layer in _named_children(model):
        if layer in replacements:
            parent.add_module(name, replacements[layer])
    if report is not None:
        report(Conversion(tuple(conversions)))
    return replacements.get(model, model)


def _named_children(model: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    """Yield every (parent, name, child) of the module tree, a shared child once for each of its places."""
    for parent in list(model.modules()):
        for name, module in list(parent._modules.items()):
            if module is not None:
                yield parent, name, module


def _reason_to_keep(layer: nn.Module, names: list[str]) -> str:
    """Say why a layer cannot be swapped; "" if it can."""
    kind = type_before_parametrizations(layer)
    if isinstance(layer, nn.RNNCellBase):
        return "a single-step cell; elman.Recurrent runs it over time"
    if kind not in REPLACEMENTS:
        base = next(base.__name__ for base in kind.__mro__ if base in REPLACEMENTS or base is nn.RNNBase)
        return f"a subclass of torch.nn.{base}, which may compute something else"
    if "forward" in vars(layer):
        return "its forward has been replaced"
    if "_compiled_call_impl" in vars(layer) or any(name.split(".")[-1] == "_orig_mod" for name in names):
        return "compiled by torch.compile already; convert first, then compile"
    return ""


def _replacement_for(layer: nn.Module) -> Stack:
    kind = type_before_parametrizations(layer)
    names = ["input_size", "hidden_size", "num_layers", "bias", "batch_first", "bidirectional", "proj_size"]
    options = {name: getattr(layer, name) for name in names}
    if kind is nn.RNN:  # torch computes by `mode`; the attribute `nonlinearity` may have been set later without effect
        options["nonlinearity"] = "relu" if layer.mode == "RNN_RELU" else "tanh"
    replacement = REPLACEMENTS[kind](**options, device="meta")
    _share_attributes(replacement, layer)
    if kind is not type(layer):
        _parametrize(replacement, type(layer))
    return replacement


def _share_attributes(replacement: Stack, layer: nn.Module) -> None:
    """Give the replacement the parameters, buffers, hooks, mode and custom attributes of `layer`."""
    # Share the dictionaries instead of copying them: a hook's handle, which removes the hook, refers to its dictionary.
    shared: dict[str, Any] = {name: vars(layer)[name] for name in vars(nn.Module())}
    known = {*vars(replacement), *CUDNN_ATTRIBUTES, "nonlinearity"}
    vars(replacement).update(shared | {name: value for name, value in vars(layer).items() if name not in known})
    # Set here and not in the constructor, which would warn a second time of dropout on a single layer.
    replacement.dropout = vars(layer)["dropout"]


def _parametrize(replacement: Stack, parametrized: type[nn.Module]) -> None:
    """Give the replacement the properties by which torch.nn.utils.parametrize computes the weights of a layer."""
    properties = {name: value for name, value in vars(parametrized).items() if name not in ("__module__", "__doc__")}
    class_name = f"Parametrized{type(replacement).__name__}"
    replacement.__class__ = type(class_name, (type(replacement),), properties)
