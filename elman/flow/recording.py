"""Records the gradients of a backward pass at every step of every layer."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import count

import torch
from torch import Tensor, nn

from elman.engine.observe.events import BackwardEvent, observing
from elman.flow._nonfinite import NonFinite, first_non_finite
from elman.flow._norms import row_norms
from elman.flow._recorded_call import RecordedCall
from elman.flow.credit import Credit, credit
from elman.flow.diagnosis import STEPS, Verdict, verdict
from elman.flow.jacobians import Jacobians, jacobians
from elman.flow.units import Gate, dead, gates
from elman.layers._layer import Layer
from elman.layers._layer_call import LayerCall
from elman.numbers import check_whole


class Recording:
    """What was seen of the backward passes within `record`.

    Of every state of every elman layer of the model, under names like those that torch gives to parameters:
    "encoder.h_l0", "encoder.c_l1_reverse"; if a layer was called again in the same pass, "encoder.h_l0#2". Norms are
    Euclid's. Steps are those of the input, for a direction that reads it from the end too; behind the end of a sequence
    all is zero. What is not in the backward pass itself is worked out when it is asked for, from what was kept then:
    the input, the initial state and the parameters.
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
            expected = "a model with layers of elman's, or what elman.convert makes of one with torch.nn's"
            raise ValueError(f"flow.record: {type(model).__name__}: expected {expected}, got none")

    def _see(self, seen: BackwardEvent) -> None:
        label = seen.call.label
        if isinstance(label, LayerCall) and label.layer in self._layers:
            self._calls.setdefault(label, RecordedCall(label)).add(seen)
            for worked_out in ("state_gradients", "weight_gradients", "gates", "dead", "first_non_finite"):
                self.__dict__.pop(worked_out, None)
            self._jacobians.clear()

    @property
    def calls(self) -> dict[str, RecordedCall]:
        """By the names of their first states, in the order in which they were made."""
        if not self._calls:
            why = (
                "RTRL has no backward pass through time, use Full, which has the same gradient"
                if any(layer.bptt.online for layer in self._layers)
                else "the forward pass must be a call of this model, not under RTRL, and the loss must need it"
            )
            raise RuntimeError(
                "flow.record: expected a backward pass through the model within `with flow.record(model):`, got none; "
                f"{why}"
            )
        found: dict[str, RecordedCall] = {}
        for label in sorted(self._calls, key=lambda label: label.number):
            name = self._layers[label.layer]
            stem = f"{name}{'.' * bool(name)}"
            free = (f"{stem}{{}}{'' if k == 1 else f'#{k}'}" for k in count(1))
            form = next(form for form in free if form.format(label.names.states[0]) not in self._taken(found))
            self._calls[label].form = form
            found[form.format(label.names.states[0])] = self._calls[label]
        return found

    def _taken(self, found: Mapping[str, RecordedCall]) -> set[str]:
        return {name for call in found.values() for name in call.names}

    @cached_property
    def state_gradients(self) -> dict[str, Tensor]:
        """The norm of the gradient that arrives at each state after each step, for every sequence: (T, B).

        It comes from the steps after this one, and from the loss, where the state is the output too. What one state of
        a cell, h, hands on to another, c, within a step is part of that step.
        """
        return {
            name: row_norms(d)
            for call in self.calls.values()
            for name, d in zip(call.names, call.d_states, strict=True)
        }

    def over_sequences(self, name: str) -> Tensor:
        """The norm of the gradient that arrives at a state after each step, root mean square over sequences: (T,)."""
        norms = self.state_gradients[name]
        mean: Tensor = torch.linalg.vector_norm(norms, dim=1) / max(norms.shape[1], 1) ** 0.5
        return mean

    @cached_property
    def weight_gradients(self) -> dict[str, Tensor]:
        """The norm of what each step contributes to the gradient of each parameter, (T,).

        Worked out step by step when it is first asked for: as long as a backward pass of the loop executor.
        """
        found: dict[str, Tensor] = {}
        _check_first_order("weight_gradients", self.calls.values())
        for call in self.calls.values():
            for name, norms in call.of_weights.items():
                found[name] = norms
        return found

    def credit(
        self, name: str | None = None, steps: int | Sequence[int] | None = None, weights: bool = False
    ) -> Credit:
        """How much of the loss at each step arrives at the state after each step before it.

        The loss at step t is what the recorded pass has sent to the outputs of the layer, or stack of layers, at step
        t, and to the final states of sequences that end there. It goes back through time and through all layers of the
        stack, so that in two directions it is told to later steps too. Of several elman layers in a model, the loss of
        each is what has arrived at its own outputs.

        Args:
            name: of a state, one of those in `state_gradients`. None: the first of the last layer.
            steps: whose losses are followed: a number of them, evenly spread, or which. None: all.
            weights: also give the terms of the gradients of the weights.

        Raises:
            KeyError: for a state that was not recorded.
            ValueError: for all steps of a long sequence; for steps that are none.
        """
        call, name = self._call_of("credit", name)
        over = [
            other
            for other in self.calls.values()
            if other.label.layout is call.label.layout and other.label.depth > call.label.depth
        ]
        over.sort(key=lambda other: -other.label.depth)
        _check_first_order("credit", [*over, call])
        return credit([*over, call], name, steps, weights)

    def jacobians(self, name: str | None = None, sequences: int = 4, steps: int | None = None) -> Jacobians:
        """How a small change of a cell's states grows or fades from step to step, from the end of the sequence back.

        Args:
            name: of a state, one of those in `state_gradients`; all states of its cell are looked at. None: the first
                of the last layer.
            sequences: how many, the longest first.
            steps: how many, from the last one back. None: all.

        Raises:
            KeyError: for a state that was not recorded.
            ValueError: for no sequences or steps, or a batch without any.
        """
        sequences = check_whole("flow.jacobians: sequences", sequences, 1)
        call, _ = self._call_of("jacobians", name)
        steps = call.T if steps is None else min(check_whole("flow.jacobians: steps", steps, 1), call.T)
        if (call, sequences, steps) not in self._jacobians:
            self._jacobians[call, sequences, steps] = jacobians(call, sequences, steps)
        return self._jacobians[call, sequences, steps]

    @cached_property
    def gates(self) -> dict[str, Gate]:
        """What the gates did, and other values that a cell gives a name to (`elman.named`), "encoder.f_l0".

        Of a cell that names nothing, its states; of all these, those that stay between -1 and 1.
        """
        return {name: gate for call in self.calls.values() for name, gate in gates(call).items()}

    @cached_property
    def dead(self) -> dict[str, Tensor]:
        """Of each state, the units that are zero at every step of every sequence, by number."""
        return {name: units for call in self.calls.values() for name, units in dead(call).items()}

    def verdict(self, clipped: float | None = None, steps: int | None = STEPS) -> Verdict:
        """What all this means, in words and numbers, and what to do about it.

        Args:
            clipped: which part of the updates was clipped, if anybody knows.
            steps: how many a gradient is followed back, from the last one of each sequence. None: all.

        Raises:
            ValueError: for no steps.
        """
        return verdict(self, clipped, steps if steps is None else check_whole("flow.verdict: steps", steps, 1))

    def _call_of(self, of: str, name: str | None) -> tuple[RecordedCall, str]:
        """The call of a state, and the state's name."""
        calls = list(self.calls.values())
        if name is None:
            last = next((call for call in reversed(calls) if not call.label.back), calls[-1])
            return last, last.names[0]
        for call in calls:
            if name in call.names:
                return call, name
        known = ", ".join(self.state_gradients)
        raise KeyError(f"flow.{of}: name: expected one of {known}, got {name!r}")

    @cached_property
    def first_non_finite(self) -> NonFinite | None:
        """Where the first value stands that is infinite or no number, if there is one."""
        return first_non_finite(list(self.calls.values()))


def _check_first_order(of: str, calls: Iterable[RecordedCall]) -> None:
    if any(replay.seen.later for call in calls for replay in call.replays):
        raise RuntimeError(
            f"flow.{of}: expected no pass after one with create_graph=True, got one: a gradient of a gradient comes to "
            "the weights by more ways than through the states"
        )


@contextmanager
def record(model: nn.Module) -> Iterator[Recording]:
    """Look at the backward passes within.

    Any layer of elman's is seen, with any cell, on either executor, in every gradient mode that goes back. It costs a
    copy of the gradients of the states; nothing where nobody records.

    Args:
        model: an elman layer, or a module that holds some.

    Raises:
        ValueError: for a model without layers of elman's.

    >>> import elman, torch
    >>> layer = elman.RNN(3, 5)
    >>> outputs, h = layer(torch.randn(7, 2, 3))
    >>> with record(layer) as flow:
    ...     outputs[-1].sum().backward()
    >>> flow.state_gradients["h_l0"].shape
    torch.Size([7, 2])
    """
    found = Recording(model)
    with observing(found._see):
        yield found
