"""A network that hears a recording and says a symbol at each step."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import ctc_loss

from elman.decoding.ctc import BLANK
from elman.tasks.recurrent_layers import stack, title


class Recordings(NamedTuple):
    """A batch.

    Args:
        steps: (T, B, D).
        lengths: how many are real, (B,).
        targets: symbols, those of one recording behind those of the other, (S,).
        target_lengths: how many each has, (B,).
    """

    steps: Tensor
    lengths: Tensor
    targets: Tensor
    target_lengths: Tensor


class Transcriber(nn.Module):
    """Recurrent layers that hear a recording from both ends, and a linear output at each step.

    Args:
        bands: M, numbers of a frame.
        frames: how many of them stand side by side in a step; D = frames * M.
        symbols: K, characters and the blank, which is number 0.
        cell: a name in `elman.cells.REGISTRY`.
        hidden: H, of every recurrent layer and direction.
        layers: how many of them.
        dropout: probability, on what each recurrent layer hands up, in training.
        time_mask: largest share of the steps of a recording that are hidden, in one piece, in training.
        band_mask: largest share of its bands, side by side.
        bptt: steps that the gradient goes back; 0: all the way.

    >>> model = Transcriber(40, 2, 12, "gru", 16)
    >>> model(torch.rand(9, 3, 80), torch.tensor([9, 4, 7])).shape        # T=9 steps of B=3, K=12 symbols
    torch.Size([9, 3, 12])
    """

    def __init__(
        self,
        bands: int,
        frames: int,
        symbols: int,
        cell: str = "gru",
        hidden: int = 128,
        layers: int = 2,
        dropout: float = 0.0,
        time_mask: float = 0.0,
        band_mask: float = 0.0,
        bptt: int = 0,
    ) -> None:
        super().__init__()
        self.recurrent = stack(bands * frames, hidden, layers, cell, dropout, bptt, bidirectional=True)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(self.recurrent.output_size, symbols)
        self.bands, self.time_mask, self.band_mask = bands, time_mask, band_mask
        self.title = f"{title(cell, layers, hidden, bidirectional=True)}, CTC"

    def forward(self, steps: Tensor, lengths: Tensor) -> Tensor:
        """Steps (T, B, D), to log p (T, B, K) of every symbol at each."""
        if self.training:
            steps = self._masked(steps, lengths)
        h, _ = self.recurrent(steps, lengths=lengths)
        log_p: Tensor = self.output(self.dropout(h)).log_softmax(2)
        return log_p

    def loss(self, batch: Recordings, state: Any = None) -> tuple[Tensor, int, Any]:
        """-log p(text | recording) in nats summed over a batch, of how many characters, and no state."""
        log_p = self(batch.steps, batch.lengths)
        nats = ctc_loss(log_p, batch.targets, batch.lengths, batch.target_lengths, BLANK, reduction="sum")
        return nats, max(len(batch.targets), 1), None

    def _masked(self, steps: Tensor, lengths: Tensor) -> Tensor:
        """With zeros, which are the mean, in a piece of time and in some bands of each recording.

        D. S. Park et al., "SpecAugment", Interspeech 2019, without its warping of time.
        """
        T, B, _ = steps.shape
        hidden = _piece(T, lengths, self.time_mask).unsqueeze(2).unsqueeze(3)
        bands = _piece(self.bands, torch.full((B,), self.bands), self.band_mask).T.unsqueeze(1)
        apart = steps.view(T, B, -1, self.bands)
        masked: Tensor = apart.masked_fill(hidden | bands.unsqueeze(0), 0.0).flatten(2)
        return masked


def _piece(count: int, lengths: Tensor, share: float) -> Tensor:
    """True (count, B) in one piece of each column, of a length up to a share of the column's own."""
    size = torch.rand(len(lengths)) * share * lengths
    begin = torch.rand(len(lengths)) * (lengths - size)
    at = torch.arange(count).unsqueeze(1) + 0.5
    return (begin <= at) & (at < begin + size)
