"""Records the gradients of a backward pass at every step of every layer."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import count

import torch
from torch import Tensor, nn

from elman.engine.observe.events import BackwardEvent, observing
from elman.flow._nonfinite import NonFinite, find_first_non_finite
from elman.flow._norms import row_norms
from elman.flow._recorded_call import RecordedCall
from elman.flow.credit import Credit, assign_credit
from elman.flow.diagnosis import NUM_STEPS, Verdict, diagnose
from elman.flow.jacobians import Jacobians, compute_jacobians
from elman.flow.units import Gate, find_dead_units, summarize_gates
from elman.io.validate import check_whole
from elman.layers._layer import Layer
from elman.layers._layer_call import LayerCall


class Recording:
    """The backward passes within `record`: gradients at every state of every elman layer of the model.

    States have names like those that torch gives to parameters: "encoder.h_l0", "encoder.c_l1_reverse"; if a layer is
    called again in the same pass, "encoder.h_l0#2". Norms are Euclidean. Steps are those of the input, also for a
    reversed direction; after the end of a sequence all values are zero. Values that are not part of the backward pass
    itself are computed on first use, from the recorded input, initial state and parameters.

    Args:
        model: an elman layer, or a module that contains some.

    Raises:
        TypeError: if `model` is not a module.
        ValueError: for a model without elman layers.

    >>> import elman, torch
    >>> layer = elman.LSTM(3, 5)
    >>> with elman.flow.record(layer) as flow:
    ...     layer(torch.randn(7, 2, 3))[0].sum().backward()
    >>> flow.state_gradients["c_l0"].shape, flow.weight_gradients["weight_hh_l0"].shape
    (torch.Size([7, 2]), torch.Size([7]))
    >>> flow.credit("h_l0").norms.shape               # of the loss at each step, at the state after each step
    torch.Size([7, 7])
    >>> sorted(flow.gates)
    ['f_l0', 'g_l0', 'i_l0', 'o_l0']
    """

    def __init__(self, model: nn.Module) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"flow.record: model: expected a torch.nn.Module, got {type(model).__name__}")
        self._layers: dict[Layer, str] = {
            module: name for name, module in model.named_modules() if isinstance(module, Layer)
        }
        self._calls: dict[LayerCall, RecordedCall] = {}
        self._jacobians: dict[tuple[RecordedCall, int, int], Jacobians] = {}
        if not self._layers:
            expected = "a model with elman layers (elman.convert replaces those of torch.nn)"
            raise ValueError(f"flow.record: {type(model).__name__}: expected {expected}, got none")

    def _add(self, event: BackwardEvent) -> None:
        label = event.call.label
        if isinstance(label, LayerCall) and label.layer in self._layers:
            self._calls.setdefault(label, RecordedCall(label)).add(event)
            for cached in ("state_gradients", "weight_gradients", "gates", "dead", "first_non_finite"):
                self.__dict__.pop(cached, None)
            self._jacobians.clear()

    @property
    def calls(self) -> dict[str, RecordedCall]:
        """The recorded calls, by the names of their first states, in the order in which they ran.

        Raises:
            RuntimeError: if there was no backward pass through the model.
        """
        if not self._calls:
            reason = (
                "RTRL has no backward pass through time, use Full, which has the same gradient"
                if any(layer.bptt.online for layer in self._layers)
                else "the forward pass must be a call of this model, not under RTRL, and the loss must depend on it"
            )
            raise RuntimeError(
                "flow.record: expected a backward pass through the model within `with flow.record(model):`, got none; "
                f"{reason}"
            )
        calls: dict[str, RecordedCall] = {}
        for label in sorted(self._calls, key=lambda label: label.number):
            name, first_state = self._layers[label.layer], label.names.states[0]
            prefix = f"{name}{'.' * bool(name)}"
            formats = (f"{prefix}{{}}{'' if k == 1 else f'#{k}'}" for k in count(1))
            used = {state for call in calls.values() for state in call.names}
            name_format = next(candidate for candidate in formats if candidate.format(first_state) not in used)
            self._calls[label].name_format = name_format
            calls[name_format.format(first_state)] = self._calls[label]
        return calls

    @cached_property
    def state_gradients(self) -> dict[str, Tensor]:
        """The norm of the gradient that arrives at each state after each step, for every sequence: (T, B).

        It includes the gradient from later steps and, if the state is an output, from the loss. It does not include
        what flows from one state of a cell to another within a step, as from h to c.
        """
        return {
            name: row_norms(d)
            for call in self.calls.values()
            for name, d in zip(call.names, call.d_states, strict=True)
        }

    def over_sequences(self, name: str) -> Tensor:
        """Return the norm of the gradient at a state after each step, root mean square over sequences: (T,).

        Args:
            name: a state, one of those in `state_gradients`.
        """
        norms = self.state_gradients[name]
        mean: Tensor = torch.linalg.vector_norm(norms, dim=1) / max(norms.shape[1], 1) ** 0.5
        return mean

    @cached_property
    def weight_gradients(self) -> dict[str, Tensor]:
        """The norm of what each step contributes to the gradient of each parameter, (T,).

        Computed step by step on first use, which takes as long as a backward pass of the loop executor.

        Raises:
            RuntimeError: after a backward pass with `create_graph=True`.
        """
        _check_first_order("weight_gradients", self.calls.values())
        return {name: norms for call in self.calls.values() for name, norms in call.weight_norms.items()}

    def credit(
        self, name: str | None = None, steps: int | Sequence[int] | None = None, weights: bool = False
    ) -> Credit:
        """Return how much of the loss at each step arrives at the state after each step before it.

        The loss at step t is the gradient that the recorded pass sent to the outputs of the layer, or stack of layers,
        at step t, and to the final states of sequences that end there. It is followed back through time and through
        all layers of the stack, so in a bidirectional stack it reaches later steps too. If the model has several elman
        layers, the loss of each is the gradient that arrived at its own outputs.

        Args:
            name: a state, one of those in `state_gradients`. None: the first state of the last layer.
            steps: the steps whose losses are followed: a list, or a number of evenly spaced steps. None: all.
            weights: also return the terms of the gradients of the weights.

        Raises:
            KeyError: for a state that was not recorded.
            ValueError: for steps outside the sequence; for all steps of a long sequence.
            RuntimeError: after a backward pass with `create_graph=True`.
        """
        call, name = self._find_call("credit", name)
        above = [
            other
            for other in self.calls.values()
            if other.label.layout is call.label.layout and other.label.depth > call.label.depth
        ]
        above.sort(key=lambda other: -other.label.depth)
        _check_first_order("credit", [*above, call])
        return assign_credit([*above, call], name, steps, weights)

    def jacobians(self, name: str | None = None, sequences: int = 4, steps: int | None = None) -> Jacobians:
        """Return how small changes of a cell's states grow or decay from step to step, followed back from the end.

        Args:
            name: a state, one of those in `state_gradients`; all states of its cell are included. None: the first state
                of the last layer.
            sequences: number of sequences, the longest first.
            steps: number of steps, from the last one back. None: all.

        Raises:
            KeyError: for a state that was not recorded.
            ValueError: for no sequences or steps, or a batch without any.
        """
        sequences = check_whole("flow.jacobians: sequences", sequences, 1)
        call, _ = self._find_call("jacobians", name)
        steps = call.T if steps is None else min(check_whole("flow.jacobians: steps", steps, 1), call.T)
        if (call, sequences, steps) not in self._jacobians:
            self._jacobians[call, sequences, steps] = compute_jacobians(call, sequences, steps)
        return self._jacobians[call, sequences, steps]

    @cached_property
    def gates(self) -> dict[str, Gate]:
        """Statistics of gates and other values that a cell names (`elman.named`), such as "encoder.f_l0".

        A cell that names no values has those of its states. Only values between -1 and 1 are included.
        """
        return {name: gate for call in self.calls.values() for name, gate in summarize_gates(call).items()}

    @cached_property
    def dead(self) -> dict[str, Tensor]:
        """For each state, the indices of the units that are zero at every step of every sequence."""
        return {name: units for call in self.calls.values() for name, units in find_dead_units(call).items()}

    def verdict(self, clipped: float | None = None, steps: int | None = NUM_STEPS) -> Verdict:
        """Diagnose the recording, in words and numbers, with remedies.

        Args:
            clipped: share of the updates that were clipped, if known.
            steps: number of steps that a gradient is followed back from the end of each sequence. None: all.

        Returns:
            The findings; print them to read them.

        Raises:
            ValueError: for no steps.
        """
        return diagnose(self, clipped, steps if steps is None else check_whole("flow.verdict: steps", steps, 1))

    def _find_call(self, method: str, name: str | None) -> tuple[RecordedCall, str]:
        """Return the call with a state, and the name of the state; by default the first state of the last layer."""
        calls = list(self.calls.values())
        if name is None:
            last = next((call for call in reversed(calls) if not call.label.is_reverse), calls[-1])
            return last, last.names[0]
        for call in calls:
            if name in call.names:
                return call, name
        known = ", ".join(self.state_gradients)
        raise KeyError(f"flow.{method}: name: expected one of {known}, got {name!r}")

    @cached_property
    def first_non_finite(self) -> NonFinite | None:
        """The first value that is NaN or infinite, and where it occurred; None if all are finite."""
        return find_first_non_finite(list(self.calls.values()))


def _check_first_order(method: str, calls: Iterable[RecordedCall]) -> None:
    if any(replay.event.later for call in calls for replay in call.replays):
        raise RuntimeError(
            f"flow.{method}: not available after a backward pass with create_graph=True, since second-order gradients "
            "also reach the weights by paths that do not pass through the states"
        )


@contextmanager
def record(model: nn.Module) -> Iterator[Recording]:
    """Record the backward passes within.

    It works for all elman layers, with any cell and executor, in every gradient mode with a backward pass. Recording
    costs a copy of the gradients of the states. Without it, the native executor has no cost; the loop executor makes a
    view of every state.

    Args:
        model: an elman layer, or a module that contains some.

    Yields:
        The recording, which can be read after the block too.

    Raises:
        TypeError: if `model` is not a module.
        ValueError: for a model without elman layers.

    >>> import elman, torch
    >>> layer = elman.RNN(3, 5)
    >>> outputs, h = layer(torch.randn(7, 2, 3))
    >>> with record(layer) as flow:
    ...     outputs[-1].sum().backward()
    >>> flow.state_gradients["h_l0"].shape
    torch.Size([7, 2])
    """
    recording = Recording(model)
    with observing(recording._add):
        yield recording
