"""A frame said note by note, from the top: every set of pitches has one such order, so it is the likelihood of the set.

    p(frame | h) = the product over its notes n_1 > n_2 > ... > n_K, and n_{K+1} = the end, of
                   p(n_k | h, n_1, ..., n_{k-1}),     a softmax over the pitches below n_{k-1}, and the end

It is what RNN-NADE (N. Boulanger-Lewandowski, Y. Bengio and P. Vincent, "Modeling temporal dependencies in
high-dimensional sequences", ICML 2012) does pitch by pitch, in fewer steps.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, dropout

from elman.tasks.music.steps import PITCHES

DONE = 0  # the end of a frame; pitch p is p + 1
TOP = PITCHES + 1  # what stands above the first note


class Links(NamedTuple):
    """The notes of frames one by one, and an end behind each frame's last.

    Args:
        frame: to which frame each belongs, (M,).
        above: the note above it, (M,).
        placed: the note that had its place in the frame before, or `DONE`, (M,).
        said: the notes themselves, (M,).
        sounding: those above it, 0 or 1, (M, 128).
    """

    frame: Tensor
    above: Tensor
    placed: Tensor
    said: Tensor
    sounding: Tensor


class Chain(nn.Module):
    """The output of frames as the head of this file has it.

    Args:
        hidden: H, the width of what it is given and of its own layer.
        dropout: probability, on its own layer, in training.
    """

    def __init__(self, hidden: int, dropout: float) -> None:
        super().__init__()
        self.given = nn.Linear(hidden, hidden)
        self.sounding = nn.Linear(PITCHES, hidden, bias=False)
        self.above, self.placed = nn.Embedding(TOP + 1, hidden), nn.Embedding(TOP, hidden)
        for table in (self.sounding, self.above, self.placed):
            nn.init.normal_(table.weight, std=0.1)
        self.pitch = nn.Linear(hidden, PITCHES + 1)
        self.dropout = dropout

    def logits(self, h: Tensor, links: Links) -> Tensor:
        """What may be said next, (M, 129), given (N, H), for all frames; -inf for what may not."""
        seen = self.sounding(links.sounding) + self.above(links.above) + self.placed(links.placed)
        g = dropout(torch.relu(self.given(h)[links.frame] + seen), self.dropout, self.training)
        found: Tensor = self.pitch(g)
        return found.masked_fill(torch.arange(PITCHES + 1) >= links.above.unsqueeze(1), -torch.inf)

    def nats(self, h: Tensor, before: Tensor, frames: Tensor) -> Tensor:
        """Of frames (N, 128), given (N, H) and the frames before them, (N,)."""
        links = chained(before, frames)
        nats = cross_entropy(self.logits(h, links), links.said, reduction="none")
        return nats.new_zeros(len(frames)).index_add(0, links.frame, nats)

    def draw(self, h: Tensor, before: Tensor, choose: Callable[[Tensor], Tensor]) -> Tensor:
        """A frame (128,), given (1, H) and the one before it (1, 128); `choose` takes one of each row of logits."""
        placed, found, above = descending(before, PITCHES + 1)[0], torch.zeros_like(before), TOP
        for k in range(PITCHES + 1):
            links = Links(torch.tensor([0]), torch.tensor([above]), placed[k : k + 1], torch.tensor([0]), found)
            above = int(choose(self.logits(h, links)))
            if above == DONE:
                break
            found[0, above - 1] = 1
        return found[0]


def descending(frames: Tensor, count: int) -> Tensor:
    """The `count` highest notes of frames (N, 128), from the top, then `DONE`: (N, count).

    >>> descending(torch.eye(128)[[60, 64]].sum(0, keepdim=True), 3)
    tensor([[65, 61,  0]])
    """
    numbered = frames * torch.arange(1, PITCHES + 1)
    padded = torch.nn.functional.pad(numbered, (0, max(count - PITCHES, 0)))
    return padded.topk(count, 1).values.long()


def chained(before: Tensor, frames: Tensor) -> Links:
    """The notes of frames (N, 128), behind these frames."""
    count = int(frames.sum(1).max()) + 1 if len(frames) else 1
    said, placed = descending(frames, count), descending(before, count)
    above = torch.cat((said.new_full((len(said), 1), TOP), said[:, :-1]), 1)
    frame, place = (above != DONE).nonzero(as_tuple=True)
    sounding = frames[frame] * (torch.arange(1, PITCHES + 1) >= above[frame, place].unsqueeze(1))
    return Links(frame, above[frame, place], placed[frame, place], said[frame, place], sounding)
