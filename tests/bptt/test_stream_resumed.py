"""A stream is the same from any point on, for loops, for workers and for Lightning."""

from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from elman.bptt import Chunk, Stream, stream
from tests.bptt.streams import numbered, told


def test_a_loop_goes_on_where_another_was() -> None:
    whole = told(stream(numbered([9, 4, 5]), 2, 2))
    chunks = stream(numbered([9, 4, 5]), 2, 2)
    seen = told(list(islice(chunks, 3)))
    again = stream(numbered([9, 4, 5]), 2, 2)
    again.load_state_dict(chunks.state_dict())
    assert seen + told(again) == whole
    assert told(again) == whole  # the next epoch
    assert told(chunks) == whole  # a loop that was left is not gone on with unasked
    assert (again.state_dict(), len(again)) == ({"next": 0}, len(whole))
    with pytest.raises(IndexError):
        again[len(whole)]


@pytest.mark.parametrize("state", [{"next": 5}, {"next": -1}, {"next": 1.5}, {}], ids=str)
def test_a_place_of_another_stream_is_refused(state: Any) -> None:
    chunks = stream(numbered([7]), 2, 2)
    chunks.load_state_dict({"next": 4})
    assert list(chunks) == []
    with pytest.raises(ValueError, match=r"stream: state: .* next from 0 to 4; got \{"):
        chunks.load_state_dict(state)


# On one core, torch finds two workers too many; Python 3.12 warns of any fork while threads live.
@pytest.mark.filterwarnings("ignore:This DataLoader will create", "ignore:.*fork:DeprecationWarning")
def test_workers_of_a_loader_make_the_chunks_in_order() -> None:
    sequences = numbered([9, 4, 5, 7])
    whole, chunks = told(stream(sequences, 2, 2)), stream(sequences, 2, 2)
    assert told(list(DataLoader(chunks, batch_size=None, num_workers=2))) == whole
    chunks.load_state_dict({"next": 3})
    assert told(list(DataLoader(chunks, batch_size=None, num_workers=2))) == whole[3:]


class Counting(LightningModule):
    """Notes what it is given, and carries the state in its checkpoints."""

    def __init__(self, checkpoint: Path | None = None, at: int | None = None) -> None:
        super().__init__()
        self.layer, self.checkpoint, self.at = nn.GRU(1, 4), checkpoint, at
        self.state: Any = None
        self.seen: list[Any] = []

    def train_dataloader(self) -> Stream:
        return stream([s.float().unsqueeze(1) / 100 for s in numbered([9, 4, 5])], 2, 2)

    def training_step(self, chunk: Chunk) -> Tensor:
        outputs, self.state = self.layer(chunk.values, chunk.carry(self.state))
        self.seen.append((outputs.tolist(), *told([chunk])))
        loss: Tensor = outputs[chunk.mask].square().mean()
        return loss

    def on_train_batch_end(self, out: Any, batch: Any, index: int) -> None:
        if len(self.seen) == self.at:
            self.trainer.save_checkpoint(str(self.checkpoint))
            raise KeyboardInterrupt

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["state"] = self.state

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.state = checkpoint["state"]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(module: Counting, checkpoint: Path | None = None) -> list[Any]:
    torch.manual_seed(0)
    module.layer.reset_parameters()
    trainer = Trainer(
        accelerator="cpu", max_epochs=2, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    with suppress(SystemExit):  # what Lightning makes of a KeyboardInterrupt
        trainer.fit(module, ckpt_path=checkpoint, weights_only=True)
    return module.seen


@pytest.mark.filterwarnings("ignore:::lightning")
@pytest.mark.parametrize("at", [2, 7])
def test_lightning_walks_a_stream_and_resumes_within_it(tmp_path: Path, at: int) -> None:
    last = tmp_path / "last.ckpt"
    whole = fit(Counting())
    assert len(whole) == 2 * len(Counting().train_dataloader())
    assert fit(Counting(last, at)) + fit(Counting(), last) == whole
