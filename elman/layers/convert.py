"""Replaces torch.nn's recurrent layers in a model by elman's."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.utils.parametrize import type_before_parametrizations

from elman.layers.stack import Stack
from elman.layers.torch_like import GRU, LSTM, RNN

OURS: dict[type[nn.Module], type[Stack]] = {nn.RNN: RNN, nn.GRU: GRU, nn.LSTM: LSTM}
CACHES = ("_flat_weights", "_flat_weight_refs", "_flat_weights_names", "_all_weights")  # torch's, for its own kernels


NOTE = (
    "swapped layers are not instances of torch.nn.RNN, GRU or LSTM; tools that look for these by isinstance or type "
    "skip them without a word, such as torch.ao.quantization.quantize_dynamic, thop and torchrl's LSTMModule"
)


@dataclass(frozen=True)
class Found:
    """A recurrent layer of torch.nn, and what became of it.

    Attributes:
        names: its places in the model, as `named_modules` has them; "" is the model itself.
        layer: its class and sizes, as torch prints them.
        reason: why it was left as it is; "" if it was swapped.
    """

    names: tuple[str, ...]
    layer: str
    reason: str = ""


@dataclass(frozen=True)
class Conversion:
    """What `convert` found in a model; `print` shows it as a table."""

    found: tuple[Found, ...]

    @property
    def swapped(self) -> tuple[Found, ...]:
        """The layers that are elman's now."""
        return tuple(found for found in self.found if not found.reason)

    @property
    def left(self) -> tuple[Found, ...]:
        """The layers that are torch's still."""
        return tuple(found for found in self.found if found.reason)

    @property
    def note(self) -> str:
        """What the swapped layers will not do that those of torch did; "" if none was swapped."""
        return NOTE if self.swapped else ""

    def __str__(self) -> str:
        if not self.found:
            return "no recurrent layer of torch.nn in this model"
        names = [", ".join(name or "(the model)" for name in found.names) for found in self.found]
        width = max(map(len, names))
        lines = [
            f"{'left   ' if found.reason else 'swapped'}  {name:{width}}  {found.layer}"
            + (f": {found.reason}" if found.reason else "")
            for name, found in zip(names, self.found, strict=True)
        ]
        return "\n".join([*lines, f"note: {self.note}"] if self.note else lines)


def convert(model: nn.Module, report: Callable[[Conversion], object] | None = None) -> Any:
    """Put elman's layers in the place of every torch.nn.RNN, GRU and LSTM of a model; the numbers stay the same.

    The new layers hold the very parameters of the old ones: an optimizer made before goes on, what was tied or frozen
    stays so, and the state dict does not change. Hooks, buffers, training mode and attributes of your own come along.

    The model is changed in place and returned, as by torch's own `nn.SyncBatchNorm.convert_sync_batchnorm`: a model
    that is itself such a layer has no place to put another into, and `model = elman.convert(model)` does for both.

    The new layers are not instances of torch.nn's classes: `isinstance(layer, nn.LSTM)` is false afterwards. Tools that
    look for layers by class skip them without a word: `torch.ao.quantization.quantize_dynamic`, thop, torchrl's
    `LSTMModule`. The report says so. On a GPU, torch.nn has cuDNN, which is faster than what elman does there.

    Args:
        model: any module. A layer that stands in several places is swapped once, and is one layer in all of them.
        report: is given the `Conversion`: which layers were swapped, and which not and why: `report=print`.

    Returns:
        The model; or the new layer, where the model is itself a layer that is swapped.

    Raises:
        TypeError: for what is no module.

    >>> import elman, torch
    >>> model = torch.nn.Sequential(torch.nn.Embedding(9, 3), torch.nn.GRU(3, 5, num_layers=2), torch.nn.LSTMCell(5, 4))
    >>> model = elman.convert(model, report=print)  # doctest: +ELLIPSIS
    swapped  1  GRU(3, 5, num_layers=2)
    left     2  LSTMCell(5, 4): one step, which elman.Recurrent runs over time
    note: swapped layers are not instances of torch.nn.RNN, GRU or LSTM; tools that look for these by isinstance ...
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"convert: model: expected a torch.nn.Module, got {type(model).__name__}")
    names: dict[nn.Module, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, nn.RNNBase | nn.RNNCellBase):
            names.setdefault(module, []).append(name)
    new: dict[nn.Module, nn.Module] = {}
    found = []
    for layer, places in names.items():
        made = _ours(layer, places)
        if isinstance(made, nn.Module):
            new[layer] = made
        reason = made if isinstance(made, str) else ""
        found.append(Found(tuple(places), f"{type(layer).__name__}({layer.extra_repr()})", reason))
    for parent, name, layer in _places(model):
        if layer in new:
            parent.add_module(name, new[layer])
    if report is not None:
        report(Conversion(tuple(found)))
    return new.get(model, model)


def _places(model: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    """Every module of a model, with who holds it and by what name."""
    for parent in list(model.modules()):
        for name, module in list(parent._modules.items()):
            if module is not None:
                yield parent, name, module


def _ours(layer: nn.Module, places: list[str]) -> Stack | str:
    """What is to stand in the place of a layer; or why nothing can."""
    kind = type_before_parametrizations(layer)
    if isinstance(layer, nn.RNNCellBase):
        return "one step, which elman.Recurrent runs over time"
    if kind not in OURS:
        base = next(base.__name__ for base in kind.__mro__ if base in OURS or base is nn.RNNBase)
        return f"a class of its own, whose steps may not be those of torch.nn.{base}"
    if "forward" in vars(layer):
        return "its forward has been replaced"
    if "_compiled_call_impl" in vars(layer) or any(place.split(".")[-1] == "_orig_mod" for place in places):
        return "compiled by torch.compile already; convert first, then compile"
    names = ["input_size", "hidden_size", "num_layers", "bias", "batch_first", "bidirectional", "proj_size"]
    options = {name: getattr(layer, name) for name in names}
    if kind is nn.RNN:  # by its mode, which is what torch computes by; its attribute `nonlinearity` may be set later
        options["nonlinearity"] = "relu" if layer.mode == "RNN_RELU" else "tanh"
    made = _take_over(OURS[kind](**options, device="meta"), layer)
    if kind is not type(layer):
        _parametrize(made, type(layer))
    return made


def _take_over(made: Stack, layer: nn.Module) -> Stack:
    """Make a layer hold all that another holds."""
    # The same dictionaries, not copies of them: whoever registered a hook can still remove it.
    shared: dict[str, Any] = {name: vars(layer)[name] for name in vars(nn.Module())}
    known = {*vars(made), *CACHES, "nonlinearity"}
    vars(made).update(shared | {name: value for name, value in vars(layer).items() if name not in known})
    # Not among the constructor's arguments, where dropout on a single layer would be warned of a second time.
    made.dropout = vars(layer)["dropout"]
    return made


def _parametrize(made: Stack, parametrized: type[nn.Module]) -> None:
    """Let a layer have the class that torch.nn.utils.parametrize makes: its weights are properties of that."""
    own = {name: value for name, value in vars(parametrized).items() if name not in ("__module__", "__doc__")}
    made.__class__ = type(f"Parametrized{type(made).__name__}", (type(made),), own)
