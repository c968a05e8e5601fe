"""The cells of a stack and their parameters."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from elman.bptt import Mode
from elman.cells._cell import Cell
from elman.engine import as_tuple
from elman.layers._init import init_parameter
from elman.layers._layer import Layer
from elman.layers._layer_call import CallNames, state_names
from elman.layers._multilayer_cell import MultilayerCell
from elman.layers._options import PROJECTED, broadcast_zoneout, check_probability
from elman.layers._sequence_layout import SequenceLayout
from elman.layers._step import StepCache
from elman.layers._wrappers import ProbedCell, RecurrentDropout, Zoneout, prefix

AROUND = frozenset({"zoneout", "recurrent_dropout", "dropout"})  # attributes that the wrappers of the cells are made of


class StepModules(NamedTuple):
    """The modules that run one step of each layer, all in training or all in evaluation."""

    steps: tuple[nn.Module, ...]
    watched: tuple[ProbedCell, ...]
    joint: MultilayerCell


class Cells(Layer):
    """A layer of several cells of one type, whose parameters are its own.

    The constructor's arguments are attributes of the same names, set before `_make`. Setting one of them later, the
    mode (`training`) included, takes effect from the next call.
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

    def _make(
        self,
        zoneout: float | Sequence[float],
        options: dict[str, Any],
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        """Make the cells with these options, what stands around them, and their parameters."""
        self._options = options
        self._cells = self._of_type(options)
        self._widths = as_tuple(self._cells[0].state_size)
        self.zoneout = broadcast_zoneout(zoneout, self._cells[0].num_states)
        self._wrap()
        self._names = self._register(device, dtype)
        self.reset_parameters()

    def _wrap(self) -> None:
        """Make the modules that run the steps, those of evaluation and those of training.

        They are not in the module tree and their mode never changes, so no way of setting `training` can miss them.
        """
        self._by_mode = tuple(self._step_modules(training) for training in (False, True))
        self._prepared = StepCache()

    def _step_modules(self, training: bool) -> StepModules:
        cells = self._cells if training else deepcopy(self._cells)
        steps = tuple(self._around(cell) for cell in cells)
        joint = MultilayerCell(steps, self._cells[0].num_states, self.dropout, self._cells)
        modules = StepModules(steps, tuple(ProbedCell(step) for step in steps), joint)
        for module in (*modules.watched, joint):
            module.train(training)
        return modules

    @property
    def _modules_now(self) -> StepModules:
        """Those of the mode that the layer is in."""
        return self._by_mode[bool(self.training)]

    @property
    def _steps(self) -> tuple[nn.Module, ...]:
        """The cell of each layer, with what stands around it."""
        return self._modules_now.steps

    def __setattr__(self, name: str, value: Any) -> None:
        """As of every module; what stands around the cells is made anew where this changes it."""
        if name not in AROUND or "_by_mode" not in vars(self):
            super().__setattr__(name, value)
            return
        states = self._cells[0].num_states
        value = broadcast_zoneout(value, states) if name == "zoneout" else check_probability(name, value)
        if value != getattr(self, name):
            super().__setattr__(name, value)
            self._wrap()

    def _set_options(self, **options: Any) -> None:
        """Let the cells have other options; their parameters stay."""
        options = self._options | options
        self._cells, self._options = self._of_type(options), options
        self._wrap()

    def _of_type(self, options: dict[str, Any]) -> tuple[Cell, ...]:
        # The cells are equations without values (meta), kept out of the module tree by the tuple: the parameters
        # live here, flat and under the names that torch.nn gives them. Both directions have the same equations.
        first = self.cell_type(self.input_size, self.hidden_size, device="meta", **options)
        width = as_tuple(first.state_size)[0] * self._directions
        above = [self.cell_type(width, self.hidden_size, device="meta", **options) for _ in range(self.num_layers - 1)]
        return (first, *above)

    def _register(
        self, device: torch.device | str | None, dtype: torch.dtype | None
    ) -> tuple[tuple[tuple[str, str], ...], ...]:
        """Make every parameter; of each layer and direction, the names that its cell has for them and those here."""
        names = []
        for i in range(self.num_layers * self._directions):
            cell = self._cells[i // self._directions]
            names.append(tuple((name, f"{name}{self._suffix(i)}") for name, _ in cell.named_parameters()))
            for name, full in names[-1]:
                value = torch.empty(cell.get_parameter(name).shape, device=device, dtype=dtype)
                self.register_parameter(full, nn.Parameter(value))
        return tuple(names)

    def _suffix(self, i: int) -> str:
        """Behind the names of what belongs to the i-th direction of all layers: _l0, _l0_reverse, _l1."""
        k, back = divmod(i, self._directions)
        return f"_l{k}_reverse" if back else f"_l{k}"

    def _around(self, cell: Cell) -> nn.Module:
        """A cell with what the options put around it."""
        step: nn.Module = RecurrentDropout(cell, self.recurrent_dropout) if self.recurrent_dropout else cell
        return Zoneout(step, self.zoneout) if any(self.zoneout) else step

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def output_size(self) -> int:
        """How wide the outputs are: H, but where the cell projects; twice that with two directions."""
        return self._widths[0] * self._directions

    @property
    def all_weights(self) -> list[list[Tensor]]:
        """The weights of each layer and direction, as torch.nn lists them: parameters, or what computes them."""
        return [[getattr(self, full) for _, full in names] for names in self._names]

    def flatten_parameters(self) -> None:
        """Nothing: torch's layers order their memory for cuDNN by this, and models call it before every step."""

    def reset_parameters(self) -> None:
        """Fill every parameter as its cell says; those of RNN, GRU and LSTM, with one seed, as torch.nn does."""
        for i, names in enumerate(self._names):
            for name, full in names:
                init_parameter(
                    self._cells[i // self._directions], name, getattr(self, full), self.init, self.forget_bias
                )

    def _weights(self) -> dict[str, Tensor]:
        """All parameters, by name: each is read once, for it may be computed from others."""
        return {full: getattr(self, full) for names in self._names for _, full in names}

    def _state_lead(self) -> tuple[int, ...]:
        """The layers, or the directions of all."""
        return (self.num_layers * self._directions,)

    def _values_of(self, step: nn.Module, i: int, weights: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """The parameters of the i-th direction, by the names that `step`, its cell or one around it, has for them."""
        weights = self._weights() if weights is None else weights
        found, around = {}, prefix(step)
        for name, full in self._names[i]:
            value = weights[full]
            if self.weight_drop and name.startswith("weight_h") and value.dim() > 1:
                value = dropout(value, self.weight_drop, self.training)
            found[around + name] = value
        return found

    def _joined(self, mode: Mode, x: Tensor, layout: SequenceLayout) -> bool:
        """Whether the layers are run as one cell."""
        several = self.num_layers > 1 and not self.bidirectional
        ragged = layout.sizes is not None
        return mode.online or (several and mode.joint(len(x if layout.sizes is None else layout.sizes), ragged))

    def _check_joint(self, mode: Mode) -> None:
        """Whether the layers can be one cell."""
        name = f"{type(self).__name__}: bptt: {type(mode).__name__}"
        if self.bidirectional:
            raise ValueError(f"{name}: expected one direction, got bidirectional=True, which begins at the end")
        random = ("dropout", "weight_drop", "locked_dropout") if mode.online else ("locked_dropout",)
        drawn = [f"{of}={getattr(self, of)}" for of in random if getattr(self, of)]
        if self.training and drawn:
            raise ValueError(f"{name}: expected a stack that draws no such random numbers in training, got {drawn[0]}")

    def _names_of(self, of: Sequence[int]) -> CallNames:
        """Of a call that runs the cells of these layers, or directions of layers."""
        suffixes = [self._suffix(i) for i in of]
        letters = state_names(self._cells[0], len(self._widths))
        states = tuple(f"{letter}{suffix}" for suffix in suffixes for letter in letters)
        return CallNames(states, partial(self._full_name, suffixes), suffixes[0] if len(suffixes) == 1 else "")

    def _full_name(self, suffixes: Sequence[str], name: str) -> str:
        """What a parameter is called here, of one cell or of the joint one, and of whatever stands around it."""
        k = int(name.split(".")[1]) if name.startswith("cells.") else 0
        return f"{name.rpartition('.')[2]}{suffixes[k]}"

    def extra_repr(self) -> str:
        """As torch.nn prints its own."""
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
