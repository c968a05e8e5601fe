"""The base class of the estimators: network, hyperparameters, training."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.nn.utils.rnn import pad_sequence

from elman import cells
from elman.extras import needs
from elman.io.names import perhaps
from elman.io.validate import check_whole
from elman.layers import Stack

with needs("tasks", "elman.sklearn"):
    from sklearn.base import BaseEstimator
    from sklearn.utils import check_random_state

Array = NDArray[Any]
CHUNK = 256  # sequences predicted at once


class _Network(nn.Module):
    """Recurrent layers, and a linear output over the mean and the last of their outputs."""

    def __init__(self, inputs: int, outputs: int, estimator: "RecurrentEstimator") -> None:
        super().__init__()
        dropout, layers = estimator.dropout, estimator.layers
        self.recurrent = Stack(
            inputs,
            estimator.hidden,
            layers,
            dropout=dropout if layers > 1 else 0.0,
            bidirectional=estimator.bidirectional,
            cell_type=cells.by_name(estimator.cell),
        )
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(2 * self.recurrent.output_size, outputs)

    def forward(self, sequences: Sequence[Tensor]) -> Tensor:
        """B sequences (T, D), to (B, outputs)."""
        lengths = torch.tensor([len(sequence) for sequence in sequences])
        ragged = bool((lengths != lengths[0]).any())
        h, _ = self.recurrent(pad_sequence(list(sequences)), lengths=lengths if ragged else None)
        last = h[lengths - 1, torch.arange(len(sequences))]
        outputs: Tensor = self.output(self.dropout(torch.cat([h.sum(0) / lengths[:, None], last], 1)))
        return outputs


class RecurrentEstimator(BaseEstimator):  # type: ignore[misc]
    """Base class of the estimators, with their hyperparameters and training."""

    def __init__(
        self,
        cell: str = "gru",
        hidden: int = 32,
        layers: int = 1,
        dropout: float = 0.0,
        bidirectional: bool = False,
        epochs: int = 50,
        batch: int = 32,
        lr: float = 0.01,
        clip: float = 1.0,
        random_state: Any = None,
    ) -> None:
        self.cell, self.hidden, self.layers, self.dropout = cell, hidden, layers, dropout
        self.bidirectional, self.epochs, self.batch, self.lr, self.clip = bidirectional, epochs, batch, lr, clip
        self.random_state = random_state

    def _train(self, sequences: Sequence[Tensor], outputs: int, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        """Fit `model_` to sequences (T, D), by a loss of outputs (B, outputs) and the numbers (B,) of the sequences."""
        name = type(self).__name__
        sizes = ("hidden", "layers", "epochs", "batch")
        *_, epochs, batch = (check_whole(f"{name}: {size}", getattr(self, size), 1) for size in sizes)
        if self.cell not in cells.REGISTRY:
            expected, hint = ", ".join(cells.REGISTRY), perhaps(str(self.cell), cells.REGISTRY)
            raise ValueError(f"{name}: cell: expected one of {expected}; got {self.cell!r}{hint}")
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.model_ = _Network(sequences[0].shape[1], outputs, self)
            optimizer = torch.optim.AdamW(self.model_.parameters(), lr=self.lr, fused=True)
            steps = epochs * -(-len(sequences) // batch)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
            self.loss_curve_: list[float] = []
            for epoch in range(1, epochs + 1):
                total = 0.0
                for numbers in torch.randperm(len(sequences)).split(batch):
                    optimizer.zero_grad()
                    mean = loss(self.model_([sequences[i] for i in numbers.tolist()]), numbers)
                    if not mean.isfinite():
                        raise ValueError(f"{name}: the loss is {mean.item()} in epoch {epoch}; pass a lower lr")
                    mean.backward()
                    clip_grad_norm_(self.model_.parameters(), self.clip)
                    optimizer.step()
                    schedule.step()
                    total += mean.item() * len(numbers)
                self.loss_curve_.append(total / len(sequences))
        # In double precision, a prediction does not depend on the sequences beside it.
        self.model_.double().eval()

    def _run(self, sequences: Sequence[Tensor]) -> Array:
        """Outputs of the trained network, (N, outputs)."""
        chunks = [sequences[begin : begin + CHUNK] for begin in range(0, len(sequences), CHUNK)]
        with torch.inference_mode():
            return np.concatenate([self.model_(chunk).numpy() for chunk in chunks])


def nonzero(scale: Array) -> Array:
    """Replace zeros by ones, for division."""
    return np.where(scale > 0, scale, 1.0)
