"""The base class of layers: input layouts, lengths, initial states, checks."""

from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from typing import Any, NoReturn

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.rnn import PackedSequence

from elman.bptt import Full, Mode
from elman.bptt._influence import carry_influence
from elman.engine import CellSpec, Inputs, Output, State, eager, scan_export
from elman.engine.observe.events import CallLabel, labeled
from elman.engine.precision import autocast_dtype
from elman.engine.torch_private import has_global_forward_hooks, is_exporting, is_tracing
from elman.layers._cell_runs import CellRun
from elman.layers._export_form import export_form
from elman.layers._layer_call import CallNames, LayerCall
from elman.layers._layer_ids import register_layer
from elman.layers._precision import with_loop_dtypes
from elman.layers._prepared_calls import Cells, LayerInputs, PreparedCalls
from elman.layers._sequence_layout import MaskedLayout, PackedLayout, RaggedLayout, SequenceLayout, check_lengths
from elman.layers._trajectory import Trajectory, probed_runs, probing, trajectory

Lengths = Tensor | Sequence[int]
FULL = Full()
CALL = nn.Module.__call__
NO_TORCHSCRIPT = "expected torch.export.export(model, (input,)), got TorchScript, which elman does not support"


class Layer(nn.Module):
    """The base class of layers: layouts, lengths, unbatched input, states of zeros, checks of arguments."""

    batch_first: bool
    bptt: Mode
    executor: str

    def __init__(self) -> None:
        super().__init__()
        self._layer_number, self._layer_id = register_layer(self)
        self._prepared_calls = PreparedCalls()

    def __getstate__(self) -> dict[str, Any]:
        of_this_one = ("_layer_number", "_layer_id", "_prepared_calls")
        return {name: value for name, value in vars(self).items() if name not in of_this_one}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._layer_number, self._layer_id = register_layer(self)  # a copy is a layer of its own
        self._prepared_calls = PreparedCalls()

    def _call(self, input: Any, state: Any, lengths: Lengths | None, bptt: Mode | None) -> tuple[Any, Any]:
        """Run `forward`: eagerly, as an operator under torch.compile, or as a node of torch.fx."""
        may_be_prepared = bptt is None and not (torch.compiler.is_compiling() or is_tracing())
        if may_be_prepared and isinstance(input, Tensor) and input.dim() == 3 and probed_runs(self) is None:
            result = self._prepared_calls(self, input, state, lengths)
            if result is not None:
                return result
        if torch.compiler.is_compiling() and not is_exporting():
            from elman.layers._compiled import call_compiled

            return call_compiled(self, input, state, lengths, bptt)
        form = export_form()
        # Of the scan, torch.compile (strict=True) sees a function that torch.export traces later.
        is_traced = form in ("operator", "reference") or (form == "scan" and torch.compiler.is_dynamo_compiling())
        if is_traced and probed_runs(self) is None:
            from elman.layers._exported import call_exported

            return call_exported(self, input, state, lengths)
        if isinstance(input, fx.Proxy):
            return self._as_leaf(input, state, lengths, bptt)  # type: ignore[no-any-return]
        if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
            raise RuntimeError(f"{type(self).__name__}: torch.jit.trace: {NO_TORCHSCRIPT}")
        return self._compute(self._weights(), input, state, lengths, bptt)

    def __prepare_scriptable__(self) -> NoReturn:
        raise RuntimeError(f"{type(self).__name__}: torch.jit.script: {NO_TORCHSCRIPT}")

    def _as_leaf(self, input: fx.Proxy, *options: Any) -> Any:
        """Make the node of torch.fx for a call of this layer, as torch.fx does for the layers of torch.nn."""
        path = input.tracer.path_of_module(self)  # type: ignore[attr-defined]
        forward = type(self).forward
        if not path or "forward" in vars(self) or not forward.__module__.startswith("elman."):
            expected = (
                "expected a model that contains the layer, got the layer itself or a subclass with its own forward"
            )
            raise RuntimeError(f"{type(self).__name__}: torch.fx.symbolic_trace: {expected}; use torch.export.export")
        names = list(signature(forward).parameters)[2:]
        arguments = {name: value for name, value in zip(names, options, strict=True) if value is not None}
        return input.tracer.create_proxy("call_module", path, (input,), arguments)

    def _weights(self) -> dict[str, Tensor]:
        """Return all parameters and buffers that a call reads, by name."""
        raise NotImplementedError

    def _reads_outside_tensors(self) -> bool:
        """Whether gradients go to tensors outside the layer, which a cell reads from a closure, say."""
        return False

    def _weights_decide_outputs(self) -> bool:
        """Whether layers of this class with weights of the same shapes return tensors of the same shapes."""
        return True

    def _state_lead(self) -> tuple[int, ...]:
        """The sizes of a state before the batch size."""
        return ()

    def _compute(
        self, weights: Mapping[str, Tensor], input: Any, state: Any, lengths: Lengths | None, bptt: Mode | None
    ) -> tuple[Any, Any]:
        """Compute what `forward` returns, with these weights in place of the layer's own."""
        raise NotImplementedError

    def _layer_inputs(self, x: Tensor, state: Any) -> LayerInputs | None:
        """Return what a call reads beside its input, for `PreparedCalls`; None if it has to run without preparation.

        Args:
            x: (T, B, D), or (B, D) for one step.
            state: of the call.
        """
        raise NotImplementedError

    def _cell_specs(self, cells: Cells, parameters: Sequence[Tensor]) -> list[CellSpec]:
        """Return the cells and their sizes; the arguments are of `_layer_inputs`."""
        raise NotImplementedError

    def _cell_runs(self, input_size: int | None = None) -> list[CellRun]:
        """Return the cells that a call in evaluation runs, in their order; `input_size` for a cell that has none."""
        raise NotImplementedError

    def _names_of(self, key: Any) -> CallNames:
        """Return the names of what belongs to a call of the engine; `key` is that of its `LayerCall`."""
        raise NotImplementedError

    def _mode(self, bptt: object) -> Mode:
        """The gradient mode: that of the call, or else of the layer."""
        mode: object = self.bptt if bptt is None else bptt
        if not isinstance(mode, Mode):
            expected = "a mode of elman.bptt, such as Truncated(20)"
            raise TypeError(f"{type(self).__name__}: bptt: expected {expected}, got {mode!r:.60}")
        # An exported program runs over time in plain torch, with the full gradient.
        return FULL if export_form() else mode

    def _engine(
        self, mode: Mode, step: nn.Module, values: Mapping[str, Tensor], x: Tensor, state: State,
        layout: SequenceLayout, label: Callable[[], LayerCall],
    ) -> tuple[Output, State]:  # fmt: skip
        """Run a cell over time; `label` makes the label of this call."""
        form = export_form()
        if form == "scan":
            return scan_export.run(step, values, x, state, layout.lengths)
        inputs = Inputs(step, values, x, state, layout.sizes)
        if form:
            return eager.run(inputs)
        # Only backward passes are observed.
        with labeled(CallLabel(label()) if torch.is_grad_enabled() else None):
            result = mode.run(inputs, self.executor)
        return with_loop_dtypes(inputs, self.executor, result)

    def _offline(self, mode: Mode) -> Mode:
        """The mode for a trajectory, whose loss is known at its end: `Full` has the gradients of an online mode."""
        return Full() if mode.online else mode

    def _carry_in(self, state: object, states: Sequence[Tensor], layout: SequenceLayout) -> None:
        """Carry the influence of the initial state over to the states in the engine's layout."""
        carry_influence(_as_states(state), states, layout.to_engine_state)

    def _carry_out(
        self, state: object, finals: Sequence[Tensor], last: Sequence[Tensor], layout: SequenceLayout
    ) -> None:
        """Carry the influence of the engine's final states over to those that the layer returns."""
        if layout.is_empty:
            carry_influence(_as_states(state), last, lambda rows: rows)
        else:
            carry_influence(finals, last, lambda rows: layout.from_engine_state(rows, rows))

    def _prepare_inputs(
        self,
        input: Tensor | PackedSequence,
        lengths: Lengths | None,
        input_size: int | None,
        like: Tensor | None,
        state: object,
        widths: Sequence[int],
        lead: tuple[int, ...] = (),
    ) -> tuple[Tensor, tuple[Tensor, ...], SequenceLayout]:
        """Check the arguments of a call, and bring them into the engine's layout.

        Args:
            input: of the call.
            lengths: of the call.
            input_size: expected width of the input; None: any.
            like: a parameter whose dtype and device input and states must have; None: any.
            state: of the call; None: zeros.
            widths: of the states.
            lead: sizes of the states before the batch.

        Returns:
            The input, the states (*lead, B, width), and the layout of the input.
        """
        layout = self._layout(input, lengths, input_size)
        x = layout.to_rows(input)  # type: ignore[arg-type]
        if like is not None:
            self._check_like("input", x, like)
        batch = (layout.B,) if layout.batched else ()
        shapes = [(*lead, *batch, width) for width in widths]
        if state is None:
            zeros = {width: x.new_zeros((*lead, *batch, width)) for width in dict.fromkeys(widths)}
            states = tuple(zeros[width] for width in widths)
        else:
            states = _as_states(state)
            actual = [_shape(tensor) for tensor in states]
            if actual != shapes:
                expected, got = (" and ".join(map(str, values)) or "no tensor" for values in (shapes, actual))
                where = f"{type(self).__name__}: state"
                raise ValueError(f"{where}: expected shape {expected}, got {got}{lengths_hint(state)}")
            if like is not None:
                for tensor in states:
                    self._check_like("state", tensor, like)
        return x, tuple(layout.to_engine_state(tensor) for tensor in states), layout

    def _check_like(self, name: str, tensor: Tensor, like: Tensor) -> None:
        if tensor.dtype == like.dtype and tensor.device == like.device:
            return
        where, device = f"{type(self).__name__}: {name}", like.device.type
        if tensor.device != like.device:
            hint = f"; move it: {name}.to({str(like.device)!r})"
            raise ValueError(
                f"{where}: expected the device of the parameters, {like.device}, got {tensor.device}{hint}"
            )
        if autocast_dtype(device) is None or not tensor.is_floating_point():
            raise ValueError(
                f"{where}: RNN {name} dtype ({tensor.dtype}) does not match weight dtype ({like.dtype}). Convert "
                f"{name}: {_conversion(name, tensor, like.dtype)}"
            )

    def _layout(self, input: object, lengths: Lengths | None, input_size: int | None) -> SequenceLayout:
        name = f"{type(self).__name__}: input"
        exporting = export_form() is not None
        if isinstance(input, PackedSequence):
            if exporting:
                raise ValueError(f"{name}: torch.export: expected a tensor and lengths=, got a PackedSequence")
            if lengths is not None:
                raise ValueError(
                    f"{type(self).__name__}: lengths: expected none for a PackedSequence, which has its own"
                )
            self._check_width(name, input.data, 2, input_size)
            return PackedLayout(input)
        expected = "(B, T, D)" if self.batch_first else "(T, B, D)"
        if not isinstance(input, Tensor):
            raise TypeError(f"{name}: expected a tensor {expected} or a PackedSequence, got {type(input).__name__}")
        if input.dim() not in (2, 3):
            raise ValueError(f"{name}: expected {expected} or (T, D), got shape {tuple(input.shape)}")
        self._check_width(name, input, input.dim(), input_size)
        T = input.shape[1 if input.dim() == 3 and self.batch_first else 0]
        if T == 0:
            raise ValueError(f"{name}: expected at least one time step, got shape {tuple(input.shape)}")
        layout = SequenceLayout(input, self.batch_first)
        if lengths is None:
            return layout
        if exporting:
            return MaskedLayout(input, self._lengths_as_tensor(lengths, layout.B, input.device), self.batch_first)
        values = check_lengths(type(self).__name__, lengths, layout.B, T)
        return RaggedLayout(input, values, self.batch_first) if layout.B else layout

    def _call_probed(self, input: Any, state: Any, lengths: Lengths | None) -> Trajectory:
        """Call the layer, and return the values of its cells at every step."""
        if torch.compiler.is_compiling() and not is_exporting():
            from elman.engine.uncompiled import outside

            return outside(self._call_probed, input, state, lengths)  # type: ignore[no-any-return]
        states = () if state is None else (state,)
        # A compiled call does not run the probed cells.
        call: Any = self if self._compiled_call_impl is None else self._call_impl
        with probing(self) as runs:
            result = call(input, *states) if lengths is None else call(input, *states, lengths=lengths)
        if len(runs) != 1:
            raise RuntimeError(
                f"{type(self).__name__}: trajectory: expected forward to run over the sequence once, got "
                f"{len(runs)} runs"
            )
        return trajectory(result[0] if isinstance(result, tuple | list) else result, runs[0])

    def _call_one_step(self, forward: object, input: Tensor, state: Any) -> tuple[Any, Any]:
        """Call the layer with a sequence of one step; `forward` is that of its class, unless it is overridden."""
        cls = type(self)
        is_plain = cls.forward is forward and cls.__call__ is CALL and "forward" not in self.__dict__
        has_hooks = self._forward_hooks or self._forward_pre_hooks or has_global_forward_hooks()
        may_be_prepared = is_plain and not (has_hooks or torch.compiler.is_compiling() or is_tracing())
        if may_be_prepared and isinstance(input, Tensor) and input.dim() == 2:
            prepared = self._prepared_calls(self, input, state)
            if prepared is not None:
                return prepared
        time = self._time_axis(input)
        result = self(input.unsqueeze(time)) if state is None else self(input.unsqueeze(time), state)
        if not isinstance(result, tuple | list) or len(result) != 2:
            got = f"{len(result)} values" if isinstance(result, tuple | list) else type(result).__name__
            raise TypeError(
                f"{type(self).__name__}: step: expected forward to return the outputs and the state, got {got}"
            )
        outputs, last = result
        if isinstance(outputs, dict):
            return {name: value.squeeze(time) for name, value in outputs.items()}, last
        return outputs.squeeze(time), last

    def _lengths_as_tensor(self, lengths: Lengths, B: int, device: torch.device) -> Tensor:
        """The lengths for torch.export, under which values are not known."""
        if isinstance(lengths, Tensor) and lengths.device == device:
            tensor = lengths
        else:
            tensor = torch.as_tensor(lengths, device=device)
        if tensor.dim() != 1 or tensor.shape[0] != B or tensor.is_floating_point():
            got = f"shape {tuple(tensor.shape)} of {tensor.dtype}"
            raise ValueError(f"{type(self).__name__}: lengths: expected {B} integers, got {got}")
        return tensor

    def _time_axis(self, input: object) -> int:
        """The time axis of a sequence that has this input as its only step."""
        name = f"{type(self).__name__}: step: input: expected"
        if not isinstance(input, Tensor):
            raise TypeError(f"{name} a tensor (B, D) or (D,), got {type(input).__name__}")
        if input.dim() not in (1, 2):
            raise ValueError(f"{name} (B, D) or (D,), got shape {tuple(input.shape)}")
        return 1 if self.batch_first and input.dim() > 1 else 0

    def _check_width(self, name: str, input: Tensor, dim: int, input_size: int | None) -> None:
        if input.dim() != dim or (input_size is not None and input.shape[-1] != input_size):
            if input.dim() != dim:
                raise ValueError(f"{name}: expected packed rows (N, D), got shape {tuple(input.shape)}")
            raise ValueError(
                f"{name}: expected width {input_size} (input_size), got {input.shape[-1]} in shape {tuple(input.shape)}"
            )


def output_in(layout: SequenceLayout, output: Output) -> Any:
    """Bring an output, or several by name, into the layout of the input."""
    if isinstance(output, dict):
        return {name: layout.from_rows(value) for name, value in output.items()}
    return layout.from_rows(output)


def lengths_hint(state: object) -> str:
    """The end of a message if integers were passed in place of a state."""
    values = state if isinstance(state, list | tuple) else [state]
    are_integers = [
        not (value.is_floating_point() or value.is_complex())
        if isinstance(value, Tensor)
        else isinstance(value, int) or getattr(getattr(value, "dtype", None), "kind", "") in ("i", "u")
        for value in values
    ]
    return "; pass lengths by name, lengths=" if are_integers and all(are_integers) else ""


def _conversion(name: str, tensor: Tensor, dtype: torch.dtype) -> str:
    """The code that converts a tensor of another dtype to the one that a layer takes."""
    if tensor.is_complex():
        return f"torch.view_as_real({name}).flatten(-2).to({dtype}) has its real and imaginary parts as columns"
    to = f"{name}.to({dtype})"
    if name != "input":
        return f"{to}{lengths_hint(tensor)}"
    if tensor.is_floating_point():
        return f"{to}, or convert model: model.to({tensor.dtype})"
    return f"{to}; token indices need an embedding first (torch.nn.Embedding)"


def _as_states(state: Any) -> tuple[Any, ...]:
    return () if state is None else tuple(state) if isinstance(state, tuple | list) else (state,)


def _shape(state: Any) -> tuple[int, ...] | str:
    return tuple(state.shape) if isinstance(state, Tensor) else type(state).__name__
