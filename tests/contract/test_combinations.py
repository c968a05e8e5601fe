"""All that a layer of torch.nn can be asked for, together: numbers and gradients are torch.nn's, on every executor."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from elman import bptt
from elman.engine import EXECUTORS
from tests.cases import STACKS, Case, call, gradients, in_a_row, in_form, random_states
from tests.tolerances import all_close

D, H = 3, 5


class Asked(NamedTuple):
    """A layer, and an input for it."""

    case: Case
    executor: str
    options: dict[str, Any]
    lengths: list[int] | None
    T: int
    B: int
    form: str  # "padded", "packed", or "no batch"
    states: bool
    mode: bptt.Mode


# Those that give the whole gradient; T is at most 6.
MODES = [bptt.Full(), bptt.Checkpointed(2), bptt.Checkpointed("sqrt"), bptt.Truncated(2, 6), bptt.Truncated(6)]


@st.composite
def asked(draw: st.DrawFn) -> Asked:
    case = draw(st.sampled_from(STACKS))
    options: dict[str, Any] = {name: draw(st.booleans()) for name in ("bias", "batch_first", "bidirectional")} | {
        "num_layers": draw(st.integers(1, 3))
    }
    if case.name == "LSTM":
        options["proj_size"] = draw(st.sampled_from([0, 2]))
    T, B, form = (
        draw(st.integers(1, 6)),
        draw(st.integers(1, 4)),
        draw(st.sampled_from(["padded", "packed", "no batch"])),
    )
    B = 1 if form == "no batch" else B
    lengths = draw(st.none() | st.lists(st.integers(0, T), min_size=B, max_size=B)) if form != "no batch" else None
    if form == "packed":
        lengths = [max(1, length) for length in lengths or [T] * B]
        T = max(lengths)
    executor, mode = draw(st.sampled_from(list(EXECUTORS))), draw(st.sampled_from(MODES))
    return Asked(case, executor, options, lengths, T, B, form, draw(st.booleans()), mode)


@pytest.mark.slow
@settings(max_examples=120, deadline=None)
@given(asked=asked())
def test_as_torch_nn(asked: Asked) -> None:
    layer, twin = pair(asked)
    batch_first = asked.options["batch_first"]
    batch = () if asked.form == "no batch" else (asked.B,)
    x = torch.randn(asked.T, *batch, D, dtype=torch.float64)
    x = (x.transpose(0, 1) if batch_first and batch else x).detach().requires_grad_()
    states = random_states(layer, batch) if asked.states else []
    assert len(states) in (0, layer._cells[0].num_states)
    ours, theirs = of_ours(layer, asked, x, states), of_torch(twin, asked, x, states)
    all_close(ours, theirs, "outputs")
    ours, theirs = (gradients(r, (x, *states, *m.parameters())) for r, m in ((ours, layer), (theirs, twin)))
    all_close(ours, theirs, "gradients")


def of_ours(layer: nn.Module, asked: Asked, x: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, ...]:
    if asked.form == "packed":
        outputs: Any
        outputs, *final = in_a_row(layer(packed(asked, x), in_form(states)))
        assert isinstance(outputs, PackedSequence)
        return padded(asked, outputs), *final
    if asked.lengths is None:
        return call(layer, x, states)
    # What stands behind the end of a sequence is not looked at.
    real = torch.arange(asked.T)[:, None] < torch.tensor(asked.lengths)
    real = real.T if asked.options["batch_first"] else real
    return in_a_row(layer(x.masked_fill(~real[..., None], torch.nan), in_form(states), lengths=asked.lengths))


def of_torch(twin: nn.Module, asked: Asked, x: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Of rows without a step, which torch.nn does not take: zeros, and the state that was given."""
    if asked.lengths is None:
        return call(twin, x, states)
    some = [b for b, length in enumerate(asked.lengths) if length]
    directions = 2 if asked.options["bidirectional"] else 1
    lead = asked.options["num_layers"] * directions
    P = asked.options.get("proj_size") or H
    widths = (P, H)[: 2 if asked.case.name == "LSTM" else 1]
    finals = list(states) or [x.new_zeros(lead, asked.B, width) for width in widths]
    shape = (asked.B, asked.T) if asked.options["batch_first"] else (asked.T, asked.B)
    outputs = x.new_zeros(*shape, P * directions) + 0 * sum(p.sum() for p in (x, *states, *twin.parameters()))
    if some:
        of = 0 if asked.options["batch_first"] else 1
        rows = x.index_select(of, torch.tensor(some))
        part = asked._replace(lengths=[asked.lengths[b] for b in some], B=len(some))
        found, *last = in_a_row(twin(packed(part, rows), in_form([state[:, some] for state in states])))
        outputs = outputs.index_add(of, torch.tensor(some), padded(part, found))
        finals = [final.index_copy(1, torch.tensor(some), new) for final, new in zip(finals, last, strict=True)]
    return outputs, *(final + 0 * outputs.sum() for final in finals)


def packed(asked: Asked, x: Tensor) -> PackedSequence:
    assert asked.lengths is not None
    return pack_padded_sequence(x, torch.tensor(asked.lengths), asked.options["batch_first"], enforce_sorted=False)


def padded(asked: Asked, outputs: Any) -> Tensor:
    return pad_packed_sequence(outputs, asked.options["batch_first"], total_length=asked.T)[0]


def pair(asked: Asked) -> tuple[Any, nn.Module]:
    """A layer and its twin with the same weights."""
    assert asked.case.twin is not None
    torch.manual_seed(0)
    layer: Any = asked.case.build(D, H, executor=asked.executor, **asked.options).double()
    layer.bptt = asked.mode
    twin = asked.case.twin(D, H, **asked.options).double()
    twin.load_state_dict(layer.state_dict(), strict=True)
    assert [name for name, _ in twin.named_parameters()] == [name for name, _ in layer.named_parameters()]
    return layer, twin


@pytest.mark.parametrize("proj_size", [0, 2])
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("case", STACKS, ids=lambda case: case.name)
def test_one_seed_begins_from_the_same_values(case: Case, bidirectional: bool, proj_size: int) -> None:
    if proj_size and case.name != "LSTM":
        with pytest.raises(ValueError, match="proj_size argument is only supported for LSTM"):
            case.build(D, H, proj_size=proj_size)
        return
    assert case.twin is not None
    made: list[Any] = []
    projection = {"proj_size": proj_size} if proj_size else {}
    for build in (case.build, case.twin):
        torch.manual_seed(3)
        made.append(build(D, H, num_layers=2, bidirectional=bidirectional, **projection))
    ours, theirs = made
    all_close(tuple(ours.parameters()), tuple(theirs.parameters()), "outputs")
    assert repr(ours) == repr(theirs)
    assert [[w.shape for w in of] for of in ours.all_weights] == [[w.shape for w in of] for of in theirs.all_weights]
