"""A bidirectional recurrent network for speech recognition with CTC."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import ctc_loss

from elman.decoding.ctc import BLANK
from elman.tasks.recurrent_layers import stack, title


class Recordings(NamedTuple):
    """A batch of recordings.

    Args:
        steps: features, (T, B, D).
        lengths: steps of each recording, (B,).
        targets: the symbols of all texts, concatenated, (S,).
        target_lengths: symbols of each text, (B,).
    """

    steps: Tensor
    lengths: Tensor
    targets: Tensor
    target_lengths: Tensor


BAND_STRIDE = 2  # of each convolution


class Transcriber(nn.Module):
    """Bidirectional recurrent layers over a recording, and a linear output with log-softmax at each step.

    With `filters`, two convolutions over time and bands come first, as in D. Amodei et al., "Deep Speech 2", ICML 2016:
    the resonances of other voices are a few bands higher or lower. The stride of the first in time is a step.

    The loss is that of A. Graves et al., "Connectionist temporal classification: labelling unsegmented sequence data
    with recurrent neural networks", ICML 2006.

    Args:
        bands: M, mel bands of a frame.
        frames: frames that are stacked in a step; D = frames * M.
        symbols: K, characters and the blank, which is symbol 0.
        cell: a name in `elman.cells.REGISTRY`.
        hidden: H, hidden size of each direction.
        layers: number of recurrent layers.
        dropout: dropout probability, between recurrent layers and before the output.
        time_mask: SpecAugment: the largest share of the steps that is masked in training.
        band_mask: SpecAugment: the largest share of the bands that is masked in training.
        bptt: truncated BPTT: steps of the gradient; 0: all steps.
        filters: F, filters of the first convolution, half as many as of the second; 0: no convolutions.

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
        filters: int = 0,
    ) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList()
        inputs = bands * frames
        if filters:
            # The kernel in time is two steps and a frame. Padding is such that there are as many outputs as steps.
            kernel, padding = (2 * frames + 1, 7), (frames // 2 + 1, 3)
            first = nn.Conv2d(1, filters, kernel, (frames, BAND_STRIDE), padding)
            second = nn.Conv2d(filters, 2 * filters, (3, 5), (1, BAND_STRIDE), (1, 2))
            self.convolutions.extend((first, second))
            inputs = 2 * filters * -(-bands // BAND_STRIDE**2)
        self.recurrent = stack(inputs, hidden, layers, cell, dropout, bptt, bidirectional=True)
        self.dropout, self.convolution_dropout = nn.Dropout(dropout), nn.Dropout(dropout / 2)
        self.output = nn.Linear(self.recurrent.output_size, symbols)
        self.bands, self.time_mask, self.band_mask = bands, time_mask, band_mask
        self.title = f"{title(cell, layers, hidden, bidirectional=True)}, CTC"

    def forward(self, steps: Tensor, lengths: Tensor) -> Tensor:
        """Map steps (T, B, D) to log p of every symbol at each step, (T, B, K)."""
        if self.training:
            steps = self._masked(steps, lengths)
        if self.convolutions:
            steps = self._convolved(steps, lengths)
        h, _ = self.recurrent(steps, lengths=lengths)
        logits = self.output(self.dropout(h))
        # In float32 under autocast, too: half precision would be too coarse for sums over all steps.
        log_p: Tensor = logits.log_softmax(2, dtype=torch.promote_types(logits.dtype, torch.float32))
        return log_p

    def loss(self, batch: Recordings, state: Any = None) -> tuple[Tensor, int, Any]:
        """Return -log p(text | recording) in nats summed over a batch, the number of characters, and no state."""
        log_p = self(batch.steps, batch.lengths)
        nats = ctc_loss(log_p, batch.targets, batch.lengths, batch.target_lengths, BLANK, reduction="sum")
        return nats, max(len(batch.targets), 1), None

    def _convolved(self, steps: Tensor, lengths: Tensor) -> Tensor:
        """Map steps (T, B, D) to the outputs of the convolutions, (T, B, D')."""
        T, B, _ = steps.shape
        is_step = torch.arange(T, device=lengths.device).unsqueeze(1) < lengths
        a = (steps * is_step.unsqueeze(2)).transpose(0, 1).reshape(B, 1, -1, self.bands)
        for convolution in self.convolutions:
            # Behind the end of a recording is zero, as behind the end of the longest.
            a = self.convolution_dropout(convolution(a).relu()) * is_step.T[:, None, :, None]
        return a.permute(2, 0, 1, 3).flatten(2)

    def _masked(self, steps: Tensor, lengths: Tensor) -> Tensor:
        """Set a span of time and a span of bands of each recording to 0, which is the mean.

        D. S. Park et al., "SpecAugment", Interspeech 2019, without time warping.
        """
        T, B, _ = steps.shape
        times = _random_span(T, lengths, self.time_mask).unsqueeze(2).unsqueeze(3)
        all_bands = torch.full((B,), self.bands, device=steps.device)
        bands = _random_span(self.bands, all_bands, self.band_mask).T.unsqueeze(1)
        by_band = steps.view(T, B, -1, self.bands)
        masked: Tensor = by_band.masked_fill(times | bands.unsqueeze(0), 0.0).flatten(2)
        return masked


def _random_span(count: int, lengths: Tensor, share: float) -> Tensor:
    """Draw a span in each column, up to a share of its length: a mask (count, B)."""
    device = lengths.device
    size = torch.rand(len(lengths), device=device) * share * lengths
    begin = torch.rand(len(lengths), device=device) * (lengths - size)
    at = torch.arange(count, device=device).unsqueeze(1) + 0.5
    return (begin <= at) & (at < begin + size)
