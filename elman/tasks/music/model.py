"""Networks over frames of music, and over events."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, dropout

from elman.tasks.music.chain import Chain
from elman.tasks.music.steps import END, EVENTS, OFF, ON, PITCHES, SHIFT
from elman.tasks.recurrent_layers import stack, title


class MusicBatch(NamedTuple):
    """Pieces side by side.

    Args:
        steps: frames (T, B, 128), 0 or 1; or events (T, B).
        lengths: how many are real, (B,).
        low: the lowest pitch of each piece, (B,).
        high: the highest.
    """

    steps: Tensor
    lengths: Tensor
    low: Tensor
    high: Tensor

    @property
    def real(self) -> Tensor:
        """Which steps there are, (T, B)."""
        return torch.arange(len(self.steps)).unsqueeze(1) < self.lengths

    def semitones(self, most: int) -> Tensor:
        """How far to move each piece, (B,): drawn from -most to most, as far as its pitches go."""
        drawn = torch.randint(-most, most + 1, self.lengths.shape)
        return drawn.maximum(-self.low).minimum(PITCHES - 1 - self.high)


class Frames(nn.Module):
    """Recurrent layers over frames, and an output that gives every set of pitches a probability.

    Args:
        output: "chain", as `Chain` does it; or "sigmoid", every pitch by itself.
        cell: a name in `elman.cells.REGISTRY`.
        hidden: H, of every recurrent layer.
        layers: how many of them.
        dropout: probability, on what each recurrent layer hands up, in training.
        transpose: semitones that pieces are moved in training, at most.
        bptt: frames that the gradient goes back; 0: all the way.

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
        """What was, (T, B, 128), to what the output is given, (T, B, H), and the state."""
        h, state = self.recurrent(frames, state, lengths=lengths)
        return dropout(h, self.dropout, self.training), state

    def nats(self, batch: MusicBatch) -> Tensor:
        """The negative log-likelihood of every frame given those before it, (T, B); 0 behind the end of a piece.

        The first is told by what the network says after a frame in which nothing sounds.
        """
        x = batch.steps
        if self.training and self.transpose:
            moves = batch.semitones(self.transpose)
            source = (torch.arange(PITCHES) - moves.unsqueeze(1)).clamp(0, PITCHES - 1)  # what is cut off is silent
            x = x.gather(2, source.expand(len(x), -1, -1))
        before = torch.cat((x.new_zeros(x[:1].shape), x[:-1]))
        h, _ = self(before, lengths=batch.lengths)
        real = batch.real
        found = x.new_zeros(x.shape[:2])
        found[real] = self.output.nats(h[real], before[real], x[real])
        return found

    def loss(self, batch: MusicBatch, state: Any = None) -> tuple[Tensor, int, Any]:
        """Nats summed over a batch, of how many frames, and no state."""
        return self.nats(batch).sum(), int(batch.lengths.sum()), None


class Sigmoid(nn.Module):
    """Every pitch of a frame by itself: a linear layer, and a sigmoid."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.logits = nn.Linear(hidden, PITCHES)

    def nats(self, h: Tensor, before: Tensor, frames: Tensor) -> Tensor:
        """Of frames (N, 128), given (N, H): binary cross-entropy, summed over the pitches, (N,)."""
        nats: Tensor = binary_cross_entropy_with_logits(self.logits(h), frames, reduction="none").sum(1)
        return nats

    def draw(self, h: Tensor, before: Tensor, choose: Callable[[Tensor], Tensor]) -> Tensor:
        """A frame (128,), given (1, H); `choose` takes one of each row of logits: whether a pitch sounds."""
        logits = self.logits(h)[0]
        return choose(torch.stack((torch.zeros_like(logits), logits), 1)).to(logits)


class Events(nn.Module):
    """Embedding, recurrent layers, and a linear output over the events.

    Args:
        cell: a name in `elman.cells.REGISTRY`.
        hidden: H, of every recurrent layer.
        embed: width of the embedding.
        layers: how many of them.
        dropout: probability, on what each recurrent layer hands up, in training.
        transpose: semitones that pieces are moved in training, at most.
        bptt: events that the gradient goes back; 0: all the way.
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
        """Events (T, B), to the logits of what follows each (T, B, V), and the state."""
        h, state = self.recurrent(self.embedding(events), state, lengths=lengths)
        return self.output(dropout(h, self.dropout, self.training)), state

    def nats(self, batch: MusicBatch) -> Tensor:
        """The negative log-likelihood of every event given those before it, (T, B); 0 behind the end of a piece."""
        x = batch.steps
        if self.training and self.transpose:
            pitched = (x >= ON) & (x < SHIFT)
            x = torch.where(pitched, x + batch.semitones(self.transpose), x)
        before = torch.cat((x.new_full(x[:1].shape, END), x[:-1]))
        logits, _ = self(before, lengths=batch.lengths)
        nats = cross_entropy(logits.flatten(0, 1), x.flatten(), reduction="none").view(x.shape)
        return nats * batch.real

    def loss(self, batch: MusicBatch, state: Any = None) -> tuple[Tensor, int, Any]:
        """Nats summed over a batch, of how many events, and no state."""
        return self.nats(batch).sum(), int(batch.lengths.sum()), None


def span(steps: Tensor) -> tuple[int, int]:
    """The lowest and the highest pitch of a piece, frames (T, 128) or events (T,)."""
    found = steps.any(0).nonzero() if steps.dim() == 2 else steps[(steps >= ON) & (steps < OFF)] - ON
    return (int(found.min()), int(found.max())) if found.numel() else (0, PITCHES - 1)


def music_model(output: str, **args: Any) -> Frames | Events:
    """A model of events, or of frames with this output."""
    return Events(**args) if output == "events" else Frames(output, **args)
