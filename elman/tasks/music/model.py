"""Recurrent networks over frames and over events."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, dropout

from elman.tasks.music.chain import Chain
from elman.tasks.music.steps import END, EVENTS, OFF, ON, PITCHES, SHIFT
from elman.tasks.recurrent_layers import stack, title


class MusicBatch(NamedTuple):
    """A batch of pieces.

    Args:
        steps: frames (T, B, 128), 0 or 1; or events (T, B).
        lengths: steps of each piece, (B,).
        low: the lowest pitch of each piece, (B,).
        high: the highest pitch of each piece, (B,).
    """

    steps: Tensor
    lengths: Tensor
    low: Tensor
    high: Tensor

    @property
    def real(self) -> Tensor:
        """A mask of the steps that are not padding, (T, B)."""
        return torch.arange(len(self.steps), device=self.steps.device).unsqueeze(1) < self.lengths

    def semitones(self, largest: int) -> Tensor:
        """Draw a transposition for each piece, (B,), from -largest to largest, within the range of MIDI pitches."""
        drawn = torch.randint(-largest, largest + 1, self.lengths.shape, device=self.lengths.device)
        return drawn.maximum(-self.low).minimum(PITCHES - 1 - self.high)


class Frames(nn.Module):
    """Recurrent layers over frames, and an output distribution over all sets of pitches.

    Args:
        output: "chain", an autoregressive `Chain`; or "sigmoid", independent pitches.
        cell: a name in `elman.cells.REGISTRY`.
        hidden: H, hidden size.
        layers: number of recurrent layers.
        dropout: dropout probability, between recurrent layers and before the output.
        transpose: data augmentation: the largest transposition in training, in semitones.
        bptt: truncated BPTT: frames of the gradient; 0: all frames.

    >>> batch = MusicBatch(torch.zeros(5, 2, 128), torch.tensor([5, 3]), torch.zeros(2), torch.zeros(2))
    >>> Frames(hidden=16).eval().nats(batch).shape     # T=5 steps of B=2 pieces
    torch.Size([5, 2])
    """

    def __init__(
        self,
        output: str = "chain",
        cell: str = "gru",
        hidden: int = 256,
        layers: int = 1,
        dropout: float = 0.0,
        transpose: int = 0,
        bptt: int = 0,
    ) -> None:
        super().__init__()
        self.recurrent = stack(PITCHES, hidden, layers, cell, dropout, bptt)
        self.output = Chain(hidden, dropout) if output == "chain" else Sigmoid(hidden)
        self.dropout, self.transpose = dropout, transpose
        self.title = title(cell, layers, hidden)

    def forward(self, frames: Tensor, state: Any = None, lengths: Tensor | None = None) -> tuple[Tensor, Any]:
        """Return `hidden`: the output layer needs the frames that follow, too."""
        return self.hidden(frames, state, lengths)

    def hidden(self, frames: Tensor, state: Any = None, lengths: Tensor | None = None) -> tuple[Tensor, Any]:
        """Map previous frames (T, B, 128) to the input of the output layer (T, B, H), and return the state."""
        h, state = self.recurrent(frames, state, lengths=lengths)
        return dropout(h, self.dropout, self.training), state

    def nats(self, batch: MusicBatch) -> Tensor:
        """Return the negative log-likelihood of each frame given the frames before it, (T, B); 0 for padding.

        The first frame is predicted from a silent frame.
        """
        x = batch.steps
        if self.training and self.transpose:
            moves = batch.semitones(self.transpose)
            source = (torch.arange(PITCHES, device=x.device) - moves.unsqueeze(1)).clamp(0, PITCHES - 1)
            x = x.gather(2, source.expand(len(x), -1, -1))
        before = torch.cat((x.new_zeros(x[:1].shape), x[:-1]))
        h, _ = self(before, lengths=batch.lengths)
        real = batch.real
        nats = x.new_zeros(x.shape[:2])
        nats[real] = self.output.nats(h[real], before[real], x[real])
        return nats

    def loss(self, batch: MusicBatch, state: Any = None) -> tuple[Tensor, int, Any]:
        """Return the nats summed over a batch, the number of frames, and no state."""
        return self.nats(batch).sum(), int(batch.lengths.sum()), None


class Sigmoid(nn.Module):
    """A linear output with a sigmoid for each pitch: the pitches of a frame are independent."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.logits = nn.Linear(hidden, PITCHES)

    def nats(self, h: Tensor, before: Tensor, frames: Tensor) -> Tensor:
        """Return the binary cross-entropy of frames (N, 128), given (N, H), summed over pitches: (N,)."""
        nats: Tensor = binary_cross_entropy_with_logits(self.logits(h), frames, reduction="none").sum(1)
        return nats

    def draw(self, h: Tensor, before: Tensor, choose: Callable[[Tensor], Tensor]) -> Tensor:
        """Draw a frame (128,), given (1, H); `choose` samples 0 or 1 for each pitch from its row of logits."""
        logits = self.logits(h)[0]
        return choose(torch.stack((torch.zeros_like(logits), logits), 1)).to(logits)


class Events(nn.Module):
    """Embedding, recurrent layers, and a linear output over the events.

    Args:
        cell: a name in `elman.cells.REGISTRY`.
        hidden: H, hidden size.
        embed: size of the embeddings.
        layers: number of recurrent layers.
        dropout: dropout probability, between recurrent layers and before the output.
        transpose: data augmentation: the largest transposition in training, in semitones.
        bptt: truncated BPTT: events of the gradient; 0: all events.
    """

    def __init__(
        self,
        cell: str = "gru",
        hidden: int = 256,
        embed: int = 64,
        layers: int = 1,
        dropout: float = 0.0,
        transpose: int = 0,
        bptt: int = 0,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(EVENTS, embed)
        self.recurrent = stack(embed, hidden, layers, cell, dropout, bptt)
        self.output = nn.Linear(hidden, EVENTS)
        self.dropout, self.transpose = dropout, transpose
        self.title = title(cell, layers, hidden)

    def forward(self, events: Tensor, state: Any = None, lengths: Tensor | None = None) -> tuple[Tensor, Any]:
        """Map events (T, B) to the logits of the event after each, (T, B, V), and return the state."""
        h, state = self.hidden(events, state, lengths)
        return self.output(h), state

    def hidden(self, events: Tensor, state: Any = None, lengths: Tensor | None = None) -> tuple[Tensor, Any]:
        """Map events (T, B) to the input of the output layer (T, B, H), and return the state."""
        h, state = self.recurrent(self.embedding(events), state, lengths=lengths)
        return dropout(h, self.dropout, self.training), state

    def nats(self, batch: MusicBatch) -> Tensor:
        """Return the negative log-likelihood of each event given the events before it, (T, B); 0 for padding."""
        x = batch.steps
        if self.training and self.transpose:
            pitched = (x >= ON) & (x < SHIFT)
            x = torch.where(pitched, x + batch.semitones(self.transpose), x)
        before = torch.cat((x.new_full(x[:1].shape, END), x[:-1]))
        logits, _ = self(before, lengths=batch.lengths)
        nats = cross_entropy(logits.flatten(0, 1), x.flatten(), reduction="none").view(x.shape)
        return nats * batch.real

    def loss(self, batch: MusicBatch, state: Any = None) -> tuple[Tensor, int, Any]:
        """Return the nats summed over a batch, the number of events, and no state."""
        return self.nats(batch).sum(), int(batch.lengths.sum()), None


def pitch_range(steps: Tensor) -> tuple[int, int]:
    """Return the lowest and the highest pitch of a piece, given as frames (T, 128) or events (T,)."""
    pitches = steps.any(0).nonzero() if steps.dim() == 2 else steps[(steps >= ON) & (steps < OFF)] - ON
    return (int(pitches.min()), int(pitches.max())) if pitches.numel() else (0, PITCHES - 1)


def music_model(output: str, **args: Any) -> Frames | Events:
    """Make a model of events, or of frames with an output of this name."""
    return Events(**args) if output == "events" else Frames(output, **args)
