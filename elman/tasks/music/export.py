"""The exported music model: one module for a step and for a sequence, and the next note of a chord."""

import torch
from torch import Tensor, nn

from elman.export._modules import ModuleChain
from elman.tasks.export_part import (
    BATCH,
    STEPS,
    Exportable,
    ExportPart,
    Sizes,
    TensorSpec,
    as_state,
    as_tensors,
    states_of,
)
from elman.tasks.music.chain import ABOVE_FIRST, DONE, Chain, Links
from elman.tasks.music.model import Events, Frames, Sigmoid
from elman.tasks.music.steps import END, EVENTS, OFF, ON, PITCHES, SHIFT
from elman.tasks.task import Loaded


class ExportedSteps(nn.Module):
    """A music model whose states are inputs and outputs of their own."""

    def __init__(self, model: Events | Frames) -> None:
        super().__init__()
        self.model = model

    def forward(self, steps: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Map frames (T, B, 128) or events (T, B) and the initial state to outputs (T, B, ...) and the final state."""
        outputs, final = self.model(steps, as_state(state))
        if isinstance(self.model, Frames) and isinstance(self.model.output, Sigmoid):
            outputs = self.model.output.logits(outputs)
        return outputs, *as_tensors(final)


class ExportedNote(nn.Module):
    """The next lower note of a frame, by a `Chain`."""

    def __init__(self, chain: Chain) -> None:
        super().__init__()
        self.chain = chain

    def forward(self, hidden: Tensor, above: Tensor, placed: Tensor, sounding: Tensor) -> Tensor:
        """Map the hidden values (B, H) and the notes so far to the logits of the next note, (B, 129)."""
        frame = torch.arange(hidden.shape[0], device=hidden.device)
        return self.chain.logits(hidden, Links(frame, above, placed, above, sounding))


def export(loaded: Loaded) -> Exportable:
    """Return the model, and what its steps mean."""
    model, codec = loaded.model, loaded.codec
    initial, final = states_of(model.recurrent)
    if isinstance(model, Events):
        steps = TensorSpec(
            name="events", shape=(STEPS, BATCH), dtype=torch.int64, high=EVENTS, about=f"events; {END} to begin"
        )
        output = TensorSpec(name="logits", shape=(STEPS, BATCH, EVENTS), about="of the event after each")
        layers = ModuleChain(model.embedding, model.recurrent, model.output)
    else:
        steps = TensorSpec(
            name="frames", shape=(STEPS, BATCH, PITCHES), about="pitches, 0 or 1; a silent frame to begin", draw=_frames
        )
        if isinstance(model.output, Sigmoid):
            output = TensorSpec(name="logits", shape=(STEPS, BATCH, PITCHES), about="of each pitch of the next frame")
            layers = ModuleChain(model.recurrent, model.output.logits)
        else:
            width = model.recurrent.output_size
            output = TensorSpec(name="hidden", shape=(STEPS, BATCH, width), about="input of note, for the next frame")
            layers = ModuleChain(model.recurrent)
    part = ExportPart(
        name="model",
        about="maps steps to the output of the next; with one step, or with a sequence",
        module=ExportedSteps(model),
        inputs=(steps, *initial),
        outputs=(output, *final),
        layers=layers,
    )
    parts = [part]
    if isinstance(model, Frames) and isinstance(model.output, Chain):
        parts.append(_note(model.output, model.recurrent.output_size))
    events = {"end": END, "on": ON, "off": OFF, "shift": SHIFT, "events": EVENTS}
    settings = {"steps": codec.steps, "grid": codec.grid, "length": codec.default_length}
    return Exportable(parts, settings | (events if codec.steps == "events" else {"pitches": PITCHES}))


def _note(chain: Chain, width: int) -> ExportPart:
    return ExportPart(
        name="note",
        about="maps the notes of a frame so far, from the highest, to the logits of the next; pitch p is number p + 1",
        module=ExportedNote(chain),
        inputs=(
            TensorSpec(name="hidden", shape=(BATCH, width), about="output of model"),
            TensorSpec(
                name="above",
                shape=(BATCH,),
                dtype=torch.int64,
                low=1,
                high=ABOVE_FIRST + 1,
                about=f"number of the note above it; {ABOVE_FIRST} for the first",
            ),
            TensorSpec(
                name="placed",
                shape=(BATCH,),
                dtype=torch.int64,
                high=ABOVE_FIRST,
                about=f"number of the note of the same rank in the frame before; {DONE} if it has none",
            ),
            TensorSpec(name="sounding", shape=(BATCH, PITCHES), about="notes so far, 0 or 1"),
        ),
        outputs=(
            TensorSpec(
                name="logits",
                shape=(BATCH, PITCHES + 1),
                about=f"of each note; {DONE}: the frame has no more; -inf: not below the note above",
            ),
        ),
        not_layers="several inputs",
    )


def _frames(sizes: Sizes, generator: torch.Generator) -> Tensor:
    return (torch.rand((sizes[STEPS], sizes[BATCH], PITCHES), generator=generator) < 0.05).float()
