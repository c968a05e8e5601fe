"""A bidirectional recurrent network over a sequence of numbers, for labels or numbers."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool1d, cross_entropy, dropout, pad

from elman.decoding.quantiles import ordered_quantiles, pinball_loss
from elman.tasks.recurrent_layers import stack, title
from elman.training.processes import all_reduced, has_whole_batch, without_examples

QUANTILES = (0.1, 0.5, 0.9)
FOLDS = 10  # of the series for training; each member of an ensemble is trained on all but one
CONVOLUTIONS = 3
KNOTS = 5  # of the curve that changes the tempo of a series


class SeriesBatch(NamedTuple):
    """A batch of series.

    Args:
        steps: features, (T, B, D).
        lengths: steps of each series, (B,).
        targets: label numbers, or standardized numbers, (B,).
        folds: the member that is validated on a series, not trained on it, (B,); None: all are trained on all.
    """

    steps: Tensor
    lengths: Tensor
    targets: Tensor
    folds: Tensor | None = None


class StepNorm(nn.Module):
    """Batch normalization over the valid steps of a batch of series, on all processes that train the model.

    `nn.SyncBatchNorm` knows neither masks nor CPUs.

    Args:
        features: number of features.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(features)

    def forward(self, x: Tensor, is_step: Tensor | None = None) -> Tensor:
        """Normalize x (B, F, T), whose valid steps are those of the mask (B, 1, T); without a mask, all are."""
        norm = self.norm
        if is_step is None and (not has_whole_batch() or x.shape[0] * x.shape[2] == 1):  # one step is refused by torch
            is_step = torch.ones_like(x[:, :1])
        if not self.training or is_step is None:
            normalized: Tensor = norm(x)
            return normalized
        dtype, x = x.dtype, x.to(torch.promote_types(x.dtype, torch.float32))  # bfloat16 counts to 256
        sums = all_reduced(torch.cat((is_step.sum()[None], (x * is_step).sum((0, 2)))))
        count = sums[0]  # in a batch, a member of an ensemble may have no series
        mean = sums[1:] / count.clamp(min=1)
        centred = x - mean[:, None]
        variance = all_reduced((centred.square() * is_step).sum((0, 2))) / count.clamp(min=1)
        variance = variance + (1 - count.clamp(max=1))  # without a series, values keep their size
        with torch.no_grad():
            assert norm.running_mean is not None
            assert norm.running_var is not None
            assert norm.num_batches_tracked is not None
            is_counted = count.clamp(max=1)
            unbiased = variance * count / (count - 1).clamp(min=1)
            for running, new in ((norm.running_mean, mean), (norm.running_var, unbiased)):
                running.lerp_(new.to(running.dtype), 0.1 * is_counted.to(running.dtype))
            norm.num_batches_tracked += is_counted.to(norm.num_batches_tracked.dtype)
        scale = norm.weight * (variance + norm.eps).rsqrt()
        scaled: Tensor = centred * scale[:, None] + norm.bias[:, None]
        return scaled.to(dtype)


class SeriesMember(nn.Module):
    """Convolutions, bidirectional recurrent layers, and a linear output over what both have of all steps.

    The output layer reads the mean and the maximum over time of the convolutions and of the recurrent layers, as in
    F. Karim et al., "LSTM Fully Convolutional Networks for Time Series Classification", IEEE Access 6 (2018), whose
    recurrent layers read the series itself.

    Args:
        inputs: D, features of a step.
        outputs: number of outputs.
        cell: a name in `elman.cells.REGISTRY`.
        hidden: H, hidden size of each direction.
        layers: number of recurrent layers.
        dropout: dropout probability, between recurrent layers and before the output.
        filters: F, filters of the convolutions; 0: none.
        kernel: steps of the first convolution's kernel, odd; each of the others has about half as many.
        stride: steps of the convolutions that the recurrent layers read as one.
        bptt: truncated BPTT: steps of the gradient; 0: all steps.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        cell: str,
        hidden: int,
        layers: int,
        dropout: float,
        filters: int,
        kernel: int,
        stride: int,
        bptt: int,
    ) -> None:
        super().__init__()
        kernels = [kernel // 2**i | 1 for i in range(CONVOLUTIONS)] if filters else []
        widths = (inputs, *[filters] * len(kernels))
        self.convolutions = nn.ModuleList(
            nn.Conv1d(width, filters, kernel, padding=kernel // 2, bias=False)
            for width, kernel in zip(widths, kernels, strict=False)
        )
        self.norms = nn.ModuleList(StepNorm(filters) for _ in kernels)
        self.recurrent = stack(widths[-1], hidden, layers, cell, dropout, bptt, bidirectional=True)
        self.dropout, self.stride = dropout, stride if filters else 1
        self.output = nn.Linear(2 * (filters + self.recurrent.output_size), outputs)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Map steps (T, B, D), and the number of steps of each series (B,), to outputs (B, K)."""
        pooled = list[Tensor]()
        if self.convolutions:
            a = x.permute(1, 2, 0)
            is_even = self.training and bool((lengths == x.shape[0]).all())  # then nothing is to be masked
            for i, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
                if is_even:
                    a = norm(convolution(a)).relu()
                else:
                    is_step = _mask(a.shape[2], lengths)[:, :, 0].T.unsqueeze(1)
                    a = norm(convolution(a * is_step), is_step).relu() * is_step
                if i == 0 and self.stride > 1:
                    a = avg_pool1d(pad(a, (0, self.stride - 1)), self.stride)  # steps behind the end are zero
                    lengths = (lengths + self.stride - 1) // self.stride
            pooled += [a.sum(2) / lengths[:, None], a.amax(2)]
            x = a.permute(2, 0, 1)
        h, _ = self.recurrent(x, lengths=lengths)
        is_padding = ~_mask(h.shape[0], lengths)
        pooled += [h.sum(0) / lengths[:, None], h.masked_fill(is_padding, -torch.inf).amax(0)]
        outputs: Tensor = self.output(dropout(torch.cat(pooled, 1), self.dropout, self.training))
        return outputs


class SeriesNetwork(nn.Module):
    """An ensemble of networks that map a series to the logits of labels, or to quantiles of a number.

    Args:
        inputs: D, features of a step.
        channels: the first features of a step, to which noise is added in training.
        labels: K, number of labels; 0: a number.
        cell: a name in `elman.cells.REGISTRY`.
        hidden: H, hidden size of each direction.
        layers: number of recurrent layers.
        dropout: dropout probability, between recurrent layers and before the output.
        filters: filters of the convolutions before the recurrent layers; 0: none.
        kernel: steps of the first convolution's kernel, odd; each of the others has about half as many.
        stride: steps of the convolutions that the recurrent layers read as one.
        members: networks of the ensemble, trained together.
        smoothing: label smoothing.
        jitter: standard deviation of the noise on the channels in training.
        warp: the largest share of a series that is cut off in training, and of the changes of its tempo.
        bptt: truncated BPTT: steps of the gradient; 0: all steps.

    >>> model = SeriesNetwork(3, 3, 4, "gru", 16)
    >>> model(torch.rand(9, 2, 3), torch.tensor([9, 5])).shape         # T=9 steps of B=2 series, K=4 labels
    torch.Size([2, 4])
    """

    def __init__(
        self,
        inputs: int,
        channels: int,
        labels: int,
        cell: str = "gru",
        hidden: int = 64,
        layers: int = 1,
        dropout: float = 0.0,
        filters: int = 0,
        kernel: int = 9,
        stride: int = 1,
        members: int = 1,
        smoothing: float = 0.0,
        jitter: float = 0.0,
        warp: float = 0.0,
        bptt: int = 0,
    ) -> None:
        super().__init__()
        outputs = labels or len(QUANTILES)
        sizes = (inputs, outputs, cell, hidden, layers, dropout, filters, kernel, stride, bptt)
        self.members = nn.ModuleList(SeriesMember(*sizes) for _ in range(members))
        self.channels, self.labels = channels, labels
        self.smoothing, self.jitter, self.warp = smoothing, jitter, warp
        ensemble = f"{members} x " if members > 1 else ""
        convolutions = f"convolutions {filters} and " if filters else ""
        self.title = f"{ensemble}{convolutions}{title(cell, layers, hidden, bidirectional=True)}"

    def forward(self, steps: Tensor, lengths: Tensor) -> Tensor:
        """Map steps (T, B, D), and the number of steps of each series (B,), to logits (B, K) or quantiles (B, 3)."""
        outputs = torch.stack([member(steps, lengths) for member in self.members])
        if not self.labels:
            return ordered_quantiles(outputs).mean(0)
        if len(self.members) == 1:
            return outputs[0]
        return outputs.log_softmax(2).logsumexp(0) - math.log(len(self.members))

    def loss(self, batch: SeriesBatch, state: Any = None) -> tuple[Tensor, int, Any]:
        """Return the loss summed over a batch, the batch size, and no state.

        The loss is the cross-entropy in nats, or the pinball loss of the quantiles of standardized numbers. In training
        it is the mean of the losses of all members, each with its own augmentation.
        """
        if not self.training and batch.folds is None:
            return self._loss(self(batch.steps, batch.lengths), batch.targets, 0.0), len(batch.targets), None
        losses, counts = zip(*(self._member_loss(i, batch) for i in range(len(self.members))), strict=True)
        if not self.training:
            return torch.stack(losses).sum(), sum(counts), None
        share = 1.0 if batch.folds is None else 1 - 1 / FOLDS  # of the series that a member is trained on
        return torch.stack(losses).sum() / (len(self.members) * share), len(batch.targets), None

    def _member_loss(self, i: int, batch: SeriesBatch) -> tuple[Tensor, int]:
        """Return the loss of a member over its series of a batch, and their number."""
        steps, lengths, targets, folds = batch
        if folds is not None:
            rows = ((folds != i) if self.training else (folds == i)).nonzero()[:, 0]
            if not len(rows):  # its gradient is zero, not missing, which other processes wait for
                with without_examples():
                    return self._loss_of_series(i, steps, lengths, targets) * 0, 0
            longest = int(lengths[rows].max())
            steps, lengths, targets = steps[:longest, rows], lengths[rows], targets[rows]
        return self._loss_of_series(i, steps, lengths, targets), len(targets)

    def _loss_of_series(self, i: int, steps: Tensor, lengths: Tensor, targets: Tensor) -> Tensor:
        outputs = self.members[i](self._augmented(steps, lengths) if self.training else steps, lengths)
        outputs = outputs if self.labels else ordered_quantiles(outputs)
        return self._loss(outputs, targets, self.smoothing if self.training else 0.0)

    def _loss(self, outputs: Tensor, targets: Tensor, smoothing: float) -> Tensor:
        if self.labels:
            return cross_entropy(outputs, targets, reduction="sum", label_smoothing=smoothing)
        return pinball_loss(outputs, targets, outputs.new_tensor(QUANTILES)).sum()

    def _augmented(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return steps (T, B, D) with another tempo, cut off at both ends, and with noise on the channels."""
        if self.warp:
            x = warped(x, lengths, self.warp)
        if self.jitter:
            noise = torch.randn_like(x[..., : self.channels]) * self.jitter
            x = torch.cat((x[..., : self.channels] + noise, x[..., self.channels :]), 2)
        return x


def warped(x: Tensor, lengths: Tensor, share: float) -> Tensor:
    """Resample series by linear interpolation: each is cut off at both ends, and its tempo changes along the way.

    Args:
        x: steps, (T, B, D).
        lengths: steps of each series, (B,), which stay as they are.
        share: the largest share that is cut off; tempos change by about this factor.

    >>> warped(torch.arange(5.0)[:, None, None], torch.tensor([5]), 0.0).flatten()
    tensor([0., 1., 2., 3., 4.])
    """
    T, B, D = x.shape
    tempo = (share * torch.randn(KNOTS, B, device=x.device)).exp()
    at = torch.linspace(0, KNOTS - 1, T, device=x.device)
    knot = at.long().clamp(max=KNOTS - 2)
    speed = torch.lerp(tempo[knot], tempo[knot + 1], (at - knot)[:, None])
    last = (lengths - 1).to(x.dtype)
    inside = torch.arange(T, device=x.device)[:, None] < last  # the last step begins nothing
    passed = torch.cat((speed.new_zeros(1, B), (speed * inside).cumsum(0)[:-1]))
    passed = passed / passed[-1].clamp(min=1e-6)
    width = 1 - share * torch.rand(B, device=x.device)
    begin = torch.rand(B, device=x.device) * (1 - width)
    place = ((begin + width * passed) * last).clamp(min=0).minimum(last)
    left = place.long()
    right = (left + 1).minimum(lengths - 1)
    index = (side.unsqueeze(2).expand(T, B, D) for side in (left, right))
    before, after = (x.gather(0, each) for each in index)
    return torch.lerp(before, after, (place - left).unsqueeze(2))


def _mask(T: int, lengths: Tensor) -> Tensor:
    """Return a mask of the valid steps, (T, B, 1)."""
    return (torch.arange(T, device=lengths.device)[:, None] < lengths)[..., None]
