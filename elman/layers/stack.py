"""`Stack`: several layers of one cell type, in the conventions of torch.nn."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout
from torch.nn.utils.rnn import PackedSequence
from typing_extensions import override

from elman.bptt import Full, Mode
from elman.cells._cell import Cell
from elman.engine import (
    CellSpec,
    Inputs,
    Output,
    StackInputs,
    State,
    Unsupported,
    as_tuple,
    eager,
    known_executor,
    stack_executor,
)
from elman.engine.observe.events import CallLabel, labeled
from elman.layers._cell_runs import CellRun
from elman.layers._export_form import export_form
from elman.layers._init import init_parameter
from elman.layers._layer import Layer, Lengths
from elman.layers._layer_call import CallNames, LayerCall, state_names
from elman.layers._multilayer_cell import MultilayerCell, joint_names
from elman.layers._options import (
    PROJECTED,
    broadcast_zoneout,
    check_cell_type,
    check_dropout,
    check_flags,
    check_forget_bias,
    check_init,
    check_probability,
    check_sizes,
    with_layer_norm,
    with_projection,
)
from elman.layers._precision import fused_dtype
from elman.layers._prepared_calls import FIRST, Cells, LayerInputs, PreparedCalls
from elman.layers._sequence_layout import SequenceLayout
from elman.layers._trajectory import ProbedRun, Trajectory, output_of, probed_runs
from elman.layers._wrappers import ProbedCell, RecurrentDropout, Zoneout, prefix

WRAPPER_OPTIONS = frozenset({"zoneout", "recurrent_dropout", "dropout"})
PROBABILITIES = WRAPPER_OPTIONS | {"weight_drop", "locked_dropout"}


class StepModules(NamedTuple):
    """The modules that run one step of each layer, all in training or all in evaluation.

    Attributes:
        steps: the cell of each layer in its wrappers.
        cells: the same, for prepared calls.
        probed: the same, with every value of a step as an output.
        joint: all layers as one cell.
    """

    steps: tuple[nn.Module, ...]
    cells: Cells
    probed: tuple[ProbedCell, ...]
    joint: MultilayerCell


class Stack(Layer):
    """`num_layers` cells of one type, each over the outputs of the one below, in the conventions of torch.nn.

    `RNN`, `GRU` and `LSTM` are this class with the cell filled in. The mode (`training`) and the attributes `bptt`,
    `executor`, `dropout`, `zoneout`, `weight_drop`, `recurrent_dropout` and `locked_dropout` can be set at any time,
    and take effect from the next call.

    Args:
        input_size: D.
        hidden_size: H, of every layer.
        num_layers: L.
        bias: as for the cell.
        batch_first: input and output are (B, T, D) and (B, T, H); states stay (L, B, H).
        dropout: probability, on the outputs of each layer but the last, in training.
        bidirectional: a second cell in each layer reads from the end to the beginning; outputs are concatenated, those
            of the forward direction first.
        proj_size: P, of the LSTM: h is projected to this width. 0: no projection.
        device: of the parameters.
        dtype: of the parameters.
        cell_type: a class of `elman.cells`.
        executor: "auto", "native", "torch", "triton" or "loop"; `elman env` lists those that are available.
        bptt: the gradient mode, one of `elman.bptt`. None: `Full()`, backpropagation through all steps.
        init: how parameters are initialized: "torch" as in torch.nn, or as the cell does; "orthogonal"; "irnn", the
            identity (for relu); "chrono", forget gates for memories of up to a hundred steps.
        forget_bias: the initial sum of the biases of a forget gate.
        zoneout: probability that a unit keeps its state, in training; or one for each state (the LSTM's h and c). In
            evaluation, the expected value of the new state is used.
        weight_drop: dropout probability on the recurrent matrices, in training, with one mask for a whole sequence.
        recurrent_dropout: dropout probability on a cell's candidate (the LSTM's g, the GRU's n), in training, with a
            new mask at every step.
        locked_dropout: dropout probability on the input of every layer, in training, with one mask for all steps of a
            sequence: variational dropout.
        layer_norm: use the cells with layer normalization, for LSTM and GRU.
        options: of the cell.

    Shapes:
        input (T, B, D), or (T, D) without a batch. Initial state: one tensor (L, B, H), or a tuple if the cell has
        several states (the LSTM's h and c), or None for zeros. Returns the outputs of the last layer (T, B, H) and the
        state after the last step, in the shapes of the initial state. With two directions, states are (2*L, B, H),
        layer by layer and forward first, and outputs (T, B, 2*H).

    Raises:
        TypeError: for a size that is not an int, or a flag that is not a bool.
        ValueError: for an impossible size or option; in a call, for an input or state of the wrong shape, dtype or
            device.

    >>> from elman import cells
    >>> layer = Stack(3, 5, num_layers=2, cell_type=cells.GRU)
    >>> outputs, h = layer(torch.randn(7, 2, 3))
    >>> outputs.shape, h.shape
    (torch.Size([7, 2, 5]), torch.Size([2, 2, 5]))
    """

    input_size: int
    hidden_size: int
    num_layers: int
    bias: bool
    bidirectional: bool
    proj_size: int
    dropout: float
    weight_drop: float
    recurrent_dropout: float
    init: str
    forget_bias: float | None
    cell_type: type[Cell]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        cell_type: type[Cell] | None = None,
        executor: str = "auto",
        bptt: Mode | None = None,
        init: str = "torch",
        forget_bias: float | None = None,
        zoneout: float | Sequence[float] = 0.0,
        weight_drop: float = 0.0,
        recurrent_dropout: float = 0.0,
        locked_dropout: float = 0.0,
        layer_norm: bool = False,
        **options: Any,
    ) -> None:
        super().__init__()
        flags = {"bias": bias, "batch_first": batch_first, "bidirectional": bidirectional}
        check_flags(flags)
        check_sizes({"input_size": input_size, "hidden_size": hidden_size, "num_layers": num_layers})
        check_dropout(dropout, num_layers, 3 if type(self).__init__ is Stack.__init__ else 4)
        self.input_size, self.hidden_size, self.num_layers, self.bias = input_size, hidden_size, num_layers, bias
        self.batch_first, self.dropout, self.executor = batch_first, float(dropout), known_executor(executor)
        self.bptt = Full() if bptt is None else bptt
        self._mode(None)
        self.init, self.forget_bias = check_init(init), check_forget_bias(forget_bias, bias)
        self.weight_drop = check_probability("weight_drop", weight_drop)
        self.recurrent_dropout = check_probability("recurrent_dropout", recurrent_dropout)
        self.locked_dropout = check_probability("locked_dropout", locked_dropout)
        self.cell_type = check_cell_type(type(self).__name__, getattr(self, "cell_type", None), cell_type)
        if layer_norm:
            self.cell_type = with_layer_norm(self.cell_type)
        if proj_size:
            self.cell_type, options["proj_size"] = with_projection(self.cell_type, proj_size, hidden_size), proj_size
        self.bidirectional, self.proj_size = bidirectional, proj_size
        self._build(zoneout, {"bias": bias, **options}, device, dtype)

    def forward(
        self, input: Tensor | PackedSequence, hx: Any = None, lengths: Lengths | None = None, bptt: Mode | None = None
    ) -> tuple[Any, Any]:
        """Run the stack over a sequence from the state `hx`.

        Args:
            input: shapes are in the class's docstring; or a PackedSequence of torch's.
            hx: the initial state, or None for zeros.
            lengths: the number of steps of each row, (B,), in any order; zero is allowed. The final state is that after
                each row's last step, or its initial state if it has none; outputs behind it are zero. Padding in the
                input is not read, and takes no time.
            bptt: the gradient mode of this call, in place of the layer's own.

        Returns:
            The outputs and the final state; for a PackedSequence, the outputs are one.

        >>> from elman import cells
        >>> layer = Stack(3, 5, cell_type=cells.GRU)
        >>> outputs, h = layer(torch.randn(7, 2, 3), lengths=[4, 7])
        >>> outputs[4:, 0].abs().max().item()
        0.0
        """
        return self._call(input, hx, lengths, bptt)

    def trajectory(self, input: Tensor | PackedSequence, hx: Any = None, lengths: Lengths | None = None) -> Trajectory:
        """Run the stack and return the state after every step and every named value of the cell, such as its gates.

        Args:
            input: as in a call.
            hx: as in a call.
            lengths: as in a call; all values behind the end of a sequence are zero.

        Returns:
            `outputs`, as of a call; `states`, (T, L, B, H), or a tuple of these; `named`, names to values (T, L, B, H).
            All can be differentiated. In both directions the first axis is the step of the input.

        Raises:
            ValueError: as in a call; for several layers with overlapping windows of `Truncated`.

        >>> from elman import cells
        >>> trajectory = Stack(3, 5, num_layers=2, cell_type=cells.LSTM).trajectory(torch.randn(7, 4, 3))
        >>> h, c = trajectory.states
        >>> c.shape, sorted(trajectory.named), trajectory.named["f"].shape
        (torch.Size([7, 2, 4, 5]), ['f', 'g', 'i', 'o'], torch.Size([7, 2, 4, 5]))
        """
        return self._call_probed(input, hx, lengths)

    def step(self, input: Tensor, hx: Any = None) -> tuple[Tensor, Any]:
        """Run one step of a stream.

        Args:
            input: (B, D), or (D,) without a batch.
            hx: the state that the last step returned, in the shapes of a call; None for zeros.

        Returns:
            The output (B, H), or (H,), and the state, as a call with a sequence of this one step does. Faster than such
            a call unless the layer has hooks or a `forward` of your own.

        Raises:
            ValueError: as in a call; with two directions, since one would have to begin at the end.

        >>> from elman import cells
        >>> layer = Stack(3, 5, cell_type=cells.GRU)
        >>> x, h = torch.randn(7, 2, 3), None
        >>> for x_t in x:
        ...     output, h = layer.step(x_t, h)
        >>> torch.allclose(output, layer(x)[0][-1], atol=1e-6)
        True
        """
        if self.bidirectional:
            raise ValueError(f"{type(self).__name__}: step: expected one direction, got bidirectional=True")
        return self._call_one_step(FORWARD, input, hx)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute: check options, and make the step modules anew for those that they depend on."""
        is_option = (name in PROBABILITIES or name == "executor") and "_steps_by_mode" in vars(self)
        if is_option and name == "zoneout":
            value = broadcast_zoneout(value, self._cells[0].num_states)
        elif is_option:
            value = known_executor(value) if name == "executor" else check_probability(name, value)
        changes_steps = is_option and name in WRAPPER_OPTIONS and value != getattr(self, name)
        super().__setattr__(name, value)
        if changes_steps:
            self._make_steps()

    @property
    def output_size(self) -> int:
        """The width of the outputs: H, or P of a projected cell; twice that with two directions."""
        return self._widths[0] * self._directions

    @property
    def all_weights(self) -> list[list[Tensor]]:
        """The weights of each layer and direction in the order of torch.nn; some may be computed."""
        return [[getattr(self, full) for _, full in names] for names in self._names]

    def flatten_parameters(self) -> None:
        """Do nothing; for models that call it as the method of torch.nn, which reorders memory for cuDNN."""

    def reset_parameters(self) -> None:
        """Initialize every parameter as its cell does; with one seed, RNN, GRU and LSTM get the values of torch.nn.

        Raises:
            ValueError: for an `init` that the cell does not have.
        """
        for i, names in enumerate(self._names):
            for name, full in names:
                init_parameter(
                    self._cells[i // self._directions], name, getattr(self, full), self.init, self.forget_bias
                )

    def extra_repr(self) -> str:
        """Return the options, as torch.nn prints those of its layers."""
        parts = [f"{self.input_size}, {self.hidden_size}"]
        defaults = {
            "proj_size": 0, "num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0, "bidirectional": False,
            "init": "torch", "forget_bias": None, "weight_drop": 0.0, "recurrent_dropout": 0.0, "locked_dropout": 0.0,
        }  # fmt: skip
        parts += [f"{key}={getattr(self, key)}" for key, value in defaults.items() if getattr(self, key) != value]
        parts += [f"zoneout={self.zoneout}"] if any(self.zoneout) else []
        own: Any = type(self).__dict__.get("cell_type")
        if self.cell_type not in (own, PROJECTED.get(own) if self.proj_size else own):
            parts.append(f"cell_type={self.cell_type.__name__}")
        return ", ".join(parts)

    def _build(
        self,
        zoneout: float | Sequence[float],
        options: dict[str, Any],
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        """Make the cells with these options, their wrappers, and the parameters."""
        self._options = options
        self._cells = self._make_cells(options)
        self._widths = as_tuple(self._cells[0].state_size)
        self.zoneout = broadcast_zoneout(zoneout, self._cells[0].num_states)
        self._make_steps()
        self._names = self._register_parameters(device, dtype)
        self.reset_parameters()

    def _make_steps(self) -> None:
        """Make the modules that run the steps, for evaluation and for training.

        They are not in the module tree and their mode never changes, so no way of setting `training` can miss them.
        """
        self._steps_by_mode = tuple(self._step_modules(training) for training in (False, True))
        self._prepared_calls = PreparedCalls()

    def _step_modules(self, training: bool) -> StepModules:
        cells = self._cells if training else deepcopy(self._cells)
        steps = tuple(self._wrap(cell) for cell in cells)
        joint = MultilayerCell(steps, self._cells[0].num_states, self.dropout, self._cells)
        calls = [((i,), steps[i // self._directions]) for i in range(len(steps) * self._directions)]
        as_state = FIRST if self._cells[0].num_states == 1 else tuple
        prepared = Cells(training, calls, as_state, self._directions)
        modules = StepModules(steps, prepared, tuple(ProbedCell(step) for step in steps), joint)
        for module in (*modules.probed, joint):
            module.train(training)
        return modules

    @property
    def _current_steps(self) -> StepModules:
        """The step modules of the present mode."""
        evaluation, training = self._steps_by_mode
        return training if self.training else evaluation

    @property
    def _steps(self) -> tuple[nn.Module, ...]:
        """The cell of each layer in its wrappers."""
        return self._current_steps.steps

    def _set_options(self, **options: Any) -> None:
        """Change options of the cells; their parameters stay."""
        options = self._options | options
        self._cells, self._options = self._make_cells(options), options
        self._make_steps()

    def _make_cells(self, options: dict[str, Any]) -> tuple[Cell, ...]:
        # On the meta device, and outside the module tree: the cells are equations alone. Their parameters belong to the
        # layer, under the names that torch.nn gives them. Both directions have the same equations.
        first = self.cell_type(self.input_size, self.hidden_size, device="meta", **options)
        width = as_tuple(first.state_size)[0] * self._directions
        above = [self.cell_type(width, self.hidden_size, device="meta", **options) for _ in range(self.num_layers - 1)]
        return (first, *above)

    def _register_parameters(
        self, device: torch.device | str | None, dtype: torch.dtype | None
    ) -> tuple[tuple[tuple[str, str], ...], ...]:
        """Register every parameter; returns, for each layer and direction, pairs of names in the cell and here."""
        names = []
        for i in range(self.num_layers * self._directions):
            cell = self._cells[i // self._directions]
            names.append(tuple((name, f"{name}{self._suffix(i)}") for name, _ in cell.named_parameters()))
            for name, full in names[-1]:
                value = torch.empty(cell.get_parameter(name).shape, device=device, dtype=dtype)
                self.register_parameter(full, nn.Parameter(value))
        return tuple(names)

    def _suffix(self, i: int) -> str:
        """The suffix of parameter names of the i-th direction, counted over all layers: _l0, _l0_reverse, _l1."""
        k, is_reverse = divmod(i, self._directions)
        return f"_l{k}_reverse" if is_reverse else f"_l{k}"

    def _wrap(self, cell: Cell) -> nn.Module:
        step: nn.Module = RecurrentDropout(cell, self.recurrent_dropout) if self.recurrent_dropout else cell
        return Zoneout(step, self.zoneout) if any(self.zoneout) else step

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    @override
    def _weights(self) -> dict[str, Tensor]:
        # Each is read once: a parametrization computes it.
        return {full: getattr(self, full) for names in self._names for _, full in names}

    @override
    def _state_lead(self) -> tuple[int, ...]:
        return (self.num_layers * self._directions,)

    @override
    def _layer_inputs(self, x: Tensor, state: Any) -> LayerInputs | None:
        drops = self.dropout or self.weight_drop or self.recurrent_dropout or self.locked_dropout or any(self.zoneout)
        if drops and self.training:
            return None
        count, B, registered, widths = len(self._names), x.shape[-2], self._parameters, self._widths
        states = [x.new_zeros(count, B, width) for width in widths] if state is None else as_tuple(state)
        parameters = [registered.get(full) for names in self._names for _, full in names]
        return self._steps_by_mode[self.training].cells, parameters, states

    @override
    def _cell_specs(self, cells: Cells, parameters: Sequence[Tensor]) -> list[CellSpec]:
        weights, specs = self._weights(), []
        for i, (_, step) in enumerate(cells.calls):
            cell = self._cells[i // self._directions]
            specs.append(CellSpec(step, self._parameters_of(weights, step, i), cell.input_size, cell.state_size))
        return specs

    @override
    def _cell_runs(self, input_size: int | None = None) -> list[CellRun]:
        weights, runs = self._weights(), []
        for i in range(self.num_layers * self._directions):
            k, is_reverse = divmod(i, self._directions)
            cell, step = self._cells[k], self._steps_by_mode[False].steps[k]
            spec = CellSpec(step, self._parameters_of(weights, step, i), cell.input_size, cell.state_size)
            runs.append(CellRun(spec, state_names(cell, cell.num_states), k, bool(is_reverse)))
        return runs

    def _parameters_of(self, weights: Mapping[str, Tensor], step: nn.Module, i: int) -> dict[str, Tensor]:
        """The parameters of the i-th direction, by their names in `step`, its cell or a wrapper of it."""
        parameters, path = {}, prefix(step)
        for name, full in self._names[i]:
            value = weights[full]
            if self.weight_drop and name.startswith("weight_h") and value.dim() > 1:
                value = dropout(value, self.weight_drop, self.training)
            parameters[path + name] = value
        return parameters

    def _is_joint(self, mode: Mode, x: Tensor, layout: SequenceLayout) -> bool:
        """Whether all layers run as one cell."""
        several = self.num_layers > 1 and not self.bidirectional
        ragged = layout.sizes is not None
        return mode.online or (several and mode.joint((x if layout.sizes is None else layout.sizes).shape[0], ragged))

    def _check_joint(self, mode: Mode) -> None:
        """Check that all layers can run as one cell."""
        name = f"{type(self).__name__}: bptt: {type(mode).__name__}"
        if self.bidirectional:
            raise ValueError(f"{name}: expected one direction, got bidirectional=True, which reads from the end")
        names = ("dropout", "weight_drop", "locked_dropout") if mode.online else ("locked_dropout",)
        random = [f"{option}={getattr(self, option)}" for option in names if getattr(self, option)]
        if self.training and random:
            raise ValueError(f"{name}: expected a stack without this dropout in training, got {random[0]}")

    @override
    def _names_of(self, key: Sequence[int]) -> CallNames:
        # The key of a call is the directions that it runs, counted over all layers.
        suffixes = [self._suffix(i) for i in key]
        letters = state_names(self._cells[0], len(self._widths))
        states = tuple(f"{letter}{suffix}" for suffix in suffixes for letter in letters)
        return CallNames(states, partial(self._full_name, suffixes), suffixes[0] if len(suffixes) == 1 else "")

    def _full_name(self, suffixes: Sequence[str], name: str) -> str:
        """The name here of a parameter of one cell, or of the joint one, in any wrappers."""
        k = int(name.split(".")[1]) if name.startswith("cells.") else 0
        return f"{name.rpartition('.')[2]}{suffixes[k]}"

    @override
    def _compute(
        self, weights: Mapping[str, Tensor], input: Any, state: Any, lengths: Lengths | None, bptt: Mode | None
    ) -> tuple[Any, Any]:
        x, states, layout = self._prepare(weights, input, state, lengths)
        runs, mode = probed_runs(self), self._mode(bptt)
        if runs is not None:
            mode = self._offline(mode)
            self._check_layer_by_layer(mode, x, layout)
        layers: list[tuple[Tensor, ...]] = []
        if self._is_joint(mode, x, layout):
            x, layers = self._run_jointly(weights, x, state, states, layout, mode)
            finals = _stacked(layers)
        elif runs is None and (results := self._run_as_one(weights, x, states, layout, mode)) is not None:
            x, finals = results
        else:
            steps = self._current_steps.steps if runs is None else self._current_steps.probed
            parameters = partial(self._parameters_of, weights)
            run = partial(self._engine, mode)
            x, finals, values = self._run_layers(run, steps, parameters, x, states, layout, self.training)
            if runs is not None:
                runs.append(ProbedRun(values, layout, single=len(self._widths) == 1, stacked=True))
        last = tuple(layout.from_engine_state(*pair) for pair in zip(finals, states, strict=True))
        dtype = fused_dtype(self.cell_type, next(iter(weights.values())), isinstance(input, PackedSequence))
        if dtype is not None:
            x, last = x.to(dtype), tuple(value.to(dtype) for value in last)
        if mode.online:
            self._carry_out(state, [final for layer in layers for final in layer], last, layout)
        return layout.from_rows(x), last[0] if len(last) == 1 else last

    def _prepare(
        self, weights: Mapping[str, Tensor], input: Any, state: Any, lengths: Lengths | None
    ) -> tuple[Tensor, tuple[Tensor, ...], SequenceLayout]:
        """The input and the states (L, B, H) in the engine's layout, and the layout."""
        like = weights[self._names[0][0][1]]
        return self._prepare_inputs(input, lengths, self.input_size, like, state, self._widths, self._state_lead())

    def _check_layer_by_layer(self, mode: Mode, x: Tensor, layout: SequenceLayout) -> None:
        """Check that the layers can be probed, for which they run one by one."""
        if self._is_joint(mode, x, layout):
            raise ValueError(
                f"{type(self).__name__}: trajectory: bptt: expected Full or Checkpointed, got {mode}, whose windows "
                "all layers share, whereas a trajectory runs layer by layer"
            )

    def _run_jointly(
        self,
        weights: Mapping[str, Tensor],
        x: Tensor,
        hx: Any,
        states: tuple[Tensor, ...],
        layout: SequenceLayout,
        mode: Mode,
    ) -> tuple[Tensor, list[tuple[Tensor, ...]]]:
        """Run all layers as one cell; returns the outputs, and the final states of each layer."""
        self._check_joint(mode)
        flat = tuple(state[k] for k in range(self.num_layers) for state in states)
        self._carry_in(hx, flat, layout)
        parameters = [self._parameters_of(weights, step, k) for k, step in enumerate(self._steps)]
        joint = self._current_steps.joint
        label = partial(LayerCall, self, range(self.num_layers), layout, joint)
        outputs, finals = self._engine(mode, joint, joint_names(parameters), x, flat, layout, label)
        assert isinstance(outputs, Tensor)
        count = len(states)
        return outputs, [as_tuple(finals)[k : k + count] for k in range(0, len(finals), count)]

    def _can_run_as_one(self, mode: Mode) -> bool:
        """Return True if an executor may run all layers by one call."""
        is_random = self.training and (self.dropout or self.locked_dropout or self.weight_drop)
        return not is_random and type(mode) is Full

    def _run_as_one(
        self, weights: Mapping[str, Tensor], x: Tensor, states: tuple[Tensor, ...], layout: SequenceLayout, mode: Mode
    ) -> tuple[Tensor, list[Tensor]] | None:
        """Run all layers by one call of the executor; None where they have to be run one by one."""
        count = self.num_layers * self._directions
        if count == 1 or export_form() or not self._can_run_as_one(mode):
            return None
        cells = self._steps
        executor = stack_executor(self.executor, next(iter(weights.values())))
        if executor is None:
            return None
        parameters = [self._parameters_of(weights, cells[i // self._directions], i) for i in range(count)]
        numbers = [LayerCall.new_number() for _ in range(count)]

        def run_again(
            x: Tensor, states: Sequence[Tensor], parameters: Sequence[Mapping[str, Tensor]], later: bool
        ) -> tuple[Tensor, ...]:
            def run(
                step: nn.Module, values: Mapping[str, Tensor], x: Tensor, state: State, layout: SequenceLayout,
                label: Callable[[], LayerCall],
            ) -> tuple[Output, State]:  # fmt: skip
                with labeled(CallLabel(label(), later=later)):
                    return eager.run(Inputs(step, values, x, state, layout.sizes))

            outputs, finals, _ = self._run_layers(
                run, cells, lambda _, i: parameters[i], x, states, layout, training=False, numbers=numbers
            )
            return outputs, *finals

        results = executor.run_stack(StackInputs(cells, parameters, x, states, layout.sizes, run_again))
        return None if isinstance(results, Unsupported) else results

    def _run_layers(
        self,
        run: Callable[..., tuple[Output, State]],
        steps: Sequence[nn.Module],
        parameters_of: Callable[[nn.Module, int], Mapping[str, Tensor]],
        x: Tensor,
        states: Sequence[Tensor],
        layout: SequenceLayout,
        training: bool,
        numbers: Sequence[int] | None = None,
    ) -> tuple[Tensor, list[Tensor], list[Any]]:
        """Run the layers one by one.

        Args:
            run: runs a cell over time, as `_engine` does.
            steps: the cell of each layer in its wrappers.
            parameters_of: returns the parameters of a step and a direction, counted over all layers.
            x: the rows of the input.
            states: (L, B, H) each.
            layout: of the input.
            training: whether there is dropout between layers.
            numbers: of the calls of all directions, if they were run before.

        Returns:
            The outputs of the last layer, the final states (L, B, H), and the outputs of every direction.
        """
        values: list[Any] = []
        finals: list[tuple[Tensor, ...]] = []
        for k, step in enumerate(steps):
            if k:
                x = dropout(x, self.dropout, training)
            if self.locked_dropout:
                mask = dropout(x.new_ones(layout.B, x.shape[-1]), self.locked_dropout, training)
                x = x * layout.expand(mask)
            depth = 0 if isinstance(step, ProbedCell) else k  # losses may read every layer of a trajectory
            for i in range(k * self._directions, (k + 1) * self._directions):
                is_reverse = i % self._directions == 1
                state: State = states[0][i] if len(states) == 1 else tuple(state[i] for state in states)
                rows, number = layout.reverse(x) if is_reverse else x, None if numbers is None else numbers[i]
                label = partial(LayerCall, self, (i,), layout, step, is_reverse, depth, number)
                outputs, final = run(step, parameters_of(step, i), rows, state, layout, label)
                values.append(_reversed(outputs, layout) if is_reverse else outputs)
                finals.append(as_tuple(final))
            of_layer: list[Any] = [
                output_of(value) if isinstance(value, dict) else value for value in values[-self._directions :]
            ]
            x = of_layer[0] if len(of_layer) == 1 else torch.cat(of_layer, -1)
        return x, _stacked(finals), values


def _stacked(finals: Sequence[tuple[Tensor, ...]]) -> list[Tensor]:
    """The final states of all directions, (L, B, H) each."""
    is_single = len(finals) == 1
    return [layers[0].unsqueeze(0) if is_single else torch.stack(layers) for layers in zip(*finals, strict=True)]


FORWARD = Stack.forward  # a prepared step may replace this, but no override of it


def _reversed(outputs: Output, layout: SequenceLayout) -> Output:
    if isinstance(outputs, dict):
        return {name: layout.reverse(value) for name, value in outputs.items()}
    return layout.reverse(outputs)
