"""An autoregressive output for frames: a frame is a sequence of notes from the highest to the lowest.

Every set of pitches has exactly one such sequence, so the likelihood of the sequence is the likelihood of the set:

    p(frame | h) = product over its notes n_1 > n_2 > ... > n_K and n_{K+1} = the end of
                   p(n_k | h, n_1, ..., n_{k-1}),     a softmax over the pitches below n_{k-1} and the end

RNN-NADE (N. Boulanger-Lewandowski, Y. Bengio and P. Vincent, "Modeling temporal dependencies in high-dimensional
sequences", ICML 2012) does the same with one decision per pitch; this takes fewer steps.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, dropout, embedding

from elman.tasks.music.steps import PITCHES

DONE = 0  # the end of a frame; pitch p is token p + 1
ABOVE_FIRST = PITCHES + 1  # the token above the first note


class Links(NamedTuple):
    """The notes of frames as sequences, each with a final `DONE`.

    M is the number of notes of all frames, including the final ones.

    Args:
        frame: the frame of each note, (M,).
        above: the note above it, (M,).
        placed: the note of the same rank in the previous frame, or `DONE`, (M,).
        notes: the notes, (M,).
        sounding: the notes above it as 0 or 1, (M, 128).
    """

    frame: Tensor
    above: Tensor
    placed: Tensor
    notes: Tensor
    sounding: Tensor


class Chain(nn.Module):
    """The autoregressive output of this module.

    Args:
        hidden: H, the size of the input and of the hidden layer.
        dropout: dropout probability of the hidden layer.
    """

    def __init__(self, hidden: int, dropout: float) -> None:
        super().__init__()
        self.given = nn.Linear(hidden, hidden)
        self.sounding = nn.Linear(PITCHES, hidden, bias=False)
        self.above, self.placed = nn.Embedding(ABOVE_FIRST + 1, hidden), nn.Embedding(ABOVE_FIRST, hidden)
        for table in (self.sounding, self.above, self.placed):
            nn.init.normal_(table.weight, std=0.1)
        self.pitch = nn.Linear(hidden, PITCHES + 1)
        self.dropout = dropout

    def logits(self, h: Tensor, links: Links) -> Tensor:
        """Return the logits of each next note, (M, 129), given h (N, H); -inf for notes that are not lower."""
        of_notes = self.sounding(links.sounding) + self.above(links.above) + self.placed(links.placed)
        # Not by indexing, whose backward pass adds in the order of the threads.
        of_frames = embedding(links.frame, self.given(h))
        g = dropout(torch.relu(of_frames + of_notes), self.dropout, self.training)
        logits: Tensor = self.pitch(g)
        pitches = torch.arange(PITCHES + 1, device=h.device)
        return logits.masked_fill(pitches >= links.above.unsqueeze(1), -torch.inf)

    def nats(self, h: Tensor, before: Tensor, frames: Tensor) -> Tensor:
        """Return the negative log-likelihood of frames (N, 128), (N,), given h (N, H) and the previous frames."""
        links = link_notes(before, frames)
        nats = cross_entropy(self.logits(h, links), links.notes, reduction="none")
        return nats.new_zeros(len(frames)).index_add(0, links.frame, nats)

    def draw(self, h: Tensor, before: Tensor, choose: Callable[[Tensor], Tensor]) -> Tensor:
        """Draw a frame (128,), given h (1, H) and the previous frame; `choose` samples from each row of logits."""
        placed, frame, above = sort_notes(before, PITCHES + 1)[0], torch.zeros_like(before), ABOVE_FIRST
        zero = placed.new_zeros(1)
        for k in range(PITCHES + 1):
            links = Links(zero, placed.new_tensor([above]), placed[k : k + 1], zero, frame)
            above = int(choose(self.logits(h, links)))
            if above == DONE:
                break
            frame[0, above - 1] = 1
        return frame[0]


def sort_notes(frames: Tensor, count: int) -> Tensor:
    """Return the `count` highest notes of frames (N, 128), from the highest, padded with `DONE`: (N, count).

    >>> sort_notes(torch.eye(128)[[60, 64]].sum(0, keepdim=True), 3)
    tensor([[65, 61,  0]])
    """
    numbered = frames * torch.arange(1, PITCHES + 1, device=frames.device)
    padded = torch.nn.functional.pad(numbered, (0, max(count - PITCHES, 0)))
    return padded.topk(count, 1).values.long()


def link_notes(before: Tensor, frames: Tensor) -> Links:
    """Split frames (N, 128) into their notes, given the previous frames (N, 128)."""
    count = int(frames.sum(1).max()) + 1 if len(frames) else 1
    notes, placed = sort_notes(frames, count), sort_notes(before, count)
    above = torch.cat((notes.new_full((len(notes), 1), ABOVE_FIRST), notes[:, :-1]), 1)
    frame, place = (above != DONE).nonzero(as_tuple=True)
    pitches = torch.arange(1, PITCHES + 1, device=frames.device)
    sounding = frames[frame] * (pitches >= above[frame, place].unsqueeze(1))
    return Links(frame, above[frame, place], placed[frame, place], notes[frame, place], sounding)
