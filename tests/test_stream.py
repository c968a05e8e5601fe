"""Long sequences in chunks: every step once and in its place, the state carried, and the same from any point on."""

import multiprocessing
import warnings
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain, islice, pairwise
from math import ceil
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, distributed, nn
from torch.utils.data import DataLoader

import elman
from elman.bptt import Chunk, Stream, stream
from tests.cases import every_executor
from tests.tolerances import all_close, close

PATIENCE = 60  # seconds
several = st.lists(st.integers(0, 20), min_size=1, max_size=9).filter(any)
small = st.integers(1, 7)


def numbered(lengths: Sequence[int]) -> list[Tensor]:
    """Sequences (T,) whose steps can be told apart: 100, 101, ...; 200, 201, ..."""
    return [100 * (k + 1) + torch.arange(length) for k, length in enumerate(lengths)]


def told(chunks: Stream | list[Chunk]) -> list[tuple[Any, ...]]:
    """Chunks as plain numbers, to compare."""
    return [(chunk.values.tolist(), chunk.lengths.tolist(), chunk.fresh.tolist()) for chunk in chunks]


def walked(chunks: Stream) -> list[list[int]]:
    """The steps of each row, a list for each of the sequences that it begins."""
    found: list[list[list[int]]] = []
    for chunk in chunks:
        found = found or [[] for _ in chunk.lengths]
        assert torch.equal(chunk.mask.sum(0), chunk.lengths)
        for row, values, real, fresh in zip(found, chunk.values.T, chunk.mask.T, chunk.fresh, strict=True):
            assert bool((values[~real] == 0).all())
            if fresh:
                row.append([])
            if real.any():
                row[-1] += values[real].tolist()
    return [sequence for row in found for sequence in row]


@given(lengths=several, batch=small, steps=small)
def test_several_sequences_are_walked_once_each_from_beginning_to_end(
    lengths: list[int], batch: int, steps: int
) -> None:
    chunks = stream(numbered(lengths), batch, steps)
    assert sorted(walked(chunks)) == [s.tolist() for s in numbered(lengths) if len(s)]
    assert all(chunk.values.shape == (steps, batch) for chunk in chunks)
    assert any(chunks[len(chunks) - 1].lengths > 0)
    for before, after in pairwise(chunks):  # nobody waits while there is something to walk
        assert not bool(((before.lengths == 0) & (after.lengths > 0)).any())


@given(length=st.integers(1, 60), batch=small, steps=small)
def test_one_long_sequence_is_cut_into_streams_that_follow_each_other(length: int, batch: int, steps: int) -> None:
    [sequence] = numbered([length])
    chunks = stream(sequence, batch, steps)
    assert list(chain(*walked(chunks))) == sequence.tolist()
    assert len(walked(chunks)) <= batch
    assert len(chunks) == ceil(ceil(length / batch) / steps)


@given(length=st.integers(1, 60), batch=small, steps=small)
def test_what_fills_no_chunk_can_be_left_out(length: int, batch: int, steps: int) -> None:
    [sequence] = numbered([length])
    width = length // batch
    if width < steps:
        with pytest.raises(ValueError, match=f"expected more steps to fill {batch} rows, got {length} of 1 sequences"):
            stream(sequence, batch, steps, drop_last=True)
        return
    chunks = stream(sequence, batch, steps, drop_last=True)
    assert all(bool(chunk.mask.all()) for chunk in chunks)
    expected = [sequence[b * width :][: width // steps * steps].tolist() for b in range(batch)]
    assert walked(chunks) == expected


def test_of_several_what_leaves_a_row_empty_can_be_left_out() -> None:
    assert [chunk.lengths.tolist() for chunk in stream(numbered([5, 2, 1]), 2, 2)] == [[2, 2], [2, 1], [1, 0]]
    chunks = stream(numbered([5, 2, 1]), 2, 2, drop_last=True)
    assert [chunk.lengths.tolist() for chunk in chunks] == [[2, 2], [2, 1]]


def recurrent(executor: str) -> elman.Recurrent:
    return elman.Recurrent(elman.cells.LSTM(3, 5), executor=executor)


def stacked(executor: str) -> elman.Stack:
    return elman.LSTM(3, 5, num_layers=2, executor=executor)


@every_executor
@pytest.mark.parametrize("build", [recurrent, stacked])
def test_a_layer_walks_sequences_in_chunks_as_it_runs_over_each_whole(build: Any, executor: str) -> None:
    layer = build(executor)
    sequences = [torch.randn(length, 3) for length in (9, 4, 1, 6, 8)]
    chunks, state = stream([(x, x[:, 0]) for x in sequences], batch=2, steps=3), None
    outputs: dict[float, list[Tensor]] = {float(x[0, 0]): [] for x in sequences}
    of_row = [0.0, 0.0]
    for chunk in chunks:
        values, first = chunk.values
        after, state = layer(values, chunk.carry(state))
        for b in range(2):
            of_row[b] = float(first[0, b]) if chunk.fresh[b] else of_row[b]
            outputs[of_row[b]].append(after[: int(chunk.lengths[b]), b])
    for x, found in zip(sequences, outputs.values(), strict=True):
        close(torch.cat(found), layer(x)[0], "outputs")


def test_the_gradient_ends_where_a_chunk_begins() -> None:
    layer, series = nn.GRU(3, 5), torch.randn(6, 3)
    state, total = None, torch.zeros(())
    for chunk in stream(series, 1, 2):
        outputs, state = layer(chunk.values, chunk.carry(state))
        total = total + outputs.sum()
    found = torch.autograd.grad(total, list(layer.parameters()))
    h, expected = torch.zeros(1, 1, 5), torch.zeros(())
    for part in series.unsqueeze(1).split(2):
        outputs, h = layer(part, h.detach())
        expected = expected + outputs.sum()
    all_close(found, torch.autograd.grad(expected, list(layer.parameters())), "gradients")


def chunk_of(fresh: list[bool]) -> Chunk:
    return Chunk(torch.zeros(4, len(fresh), 2), torch.full((len(fresh),), 4), torch.tensor(fresh))


def test_a_state_of_any_form_is_detached_and_begun_anew() -> None:
    one, two = torch.randn(3, 5, requires_grad=True), torch.full((2, 3, 5), torch.nan).half()
    first, (second, third) = chunk_of([False, True, False]).carry((one, (two, one)))
    assert not first.requires_grad
    assert torch.equal(first, one * torch.tensor([1, 0, 1]).unsqueeze(1))
    assert second.dtype == torch.float16  # NaN is not carried into what is begun anew
    assert second.isnan().all(-1).tolist() == [[True, False, True]] * 2
    assert torch.equal(third, first)
    assert chunk_of([True]).carry(None) is None


def test_a_sequence_begins_from_what_is_given_and_can_be_learned() -> None:
    h0, c0 = (torch.randn(2, 1, 5, requires_grad=True) for _ in range(2))
    chunk = chunk_of([False, True, True])
    h, c = chunk.carry((torch.zeros(2, 3, 5), torch.zeros(2, 3, 5)), start=(h0, c0))
    assert torch.equal(h, h0 * torch.tensor([0, 1, 1]).unsqueeze(1))
    close(torch.autograd.grad(c.sum(), c0)[0], torch.full((2, 1, 5), 2.0), "gradients")
    h, c = chunk.carry(None, start=(h0, c0))
    assert torch.equal(c, c0.expand(2, 3, 5))
    assert torch.equal(chunk.carry(None, start=h0[0, 0]), h0[0].expand(3, 5))


def test_parts_of_a_sequence_keep_their_kind_and_have_their_padding(tmp_path: Path) -> None:
    x, y = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32), np.arange(5, dtype=np.uint8)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    [chunk] = stream([(mapped, y), (mapped[:2], y[:2])], batch=2, steps=6, padding=(-1, 7))
    values, targets = chunk.values
    assert (values.dtype, targets.dtype) == (torch.float32, torch.uint8)
    np.testing.assert_array_equal(values[:5, 0], x)
    assert targets.T.tolist() == [[0, 1, 2, 3, 4, 7], [0, 1, 7, 7, 7, 7]]
    assert bool((values[2:, 1] == -1).all())
    values.add_(1)
    np.testing.assert_array_equal(mapped, x)
    moved = chunk.to("meta")
    assert type(moved) is Chunk
    assert {moved.values[0].device, moved.lengths.device, moved.fresh.device} == {torch.device("meta")}


@pytest.mark.parametrize("number", [np.int64, np.uint8, torch.tensor], ids=["int64", "uint8", "tensor"])
def test_whole_numbers_of_any_kind(number: Any) -> None:
    sequences = numbered([9, 4, 5])
    found = stream(sequences, number(2), number(3), rank=number(1), world_size=number(2))
    assert told(found) == told(stream(sequences, 2, 3, rank=1, world_size=2))


@pytest.mark.parametrize("padding", [np.int16(-100), np.float32(-100), [np.int64(-100)], np.array([-100])], ids=repr)
def test_padding_of_any_kind(padding: Any) -> None:
    [chunk] = stream(numbered([1, 2]), 2, 2, padding=padding)
    assert chunk.values.T.tolist() == [[100, -100], [200, 201]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64, torch.bool, torch.uint8], ids=str)
def test_numbers_of_every_kind_of_torch(dtype: torch.dtype) -> None:
    sequences = [torch.randn(length, 3).to(dtype) for length in (5, 2)]
    chunk, last = stream(sequences, 2, 3, padding=1)
    expected = torch.ones(6, 2, 3, dtype=dtype)
    for b, sequence in enumerate(sequences):
        expected[: len(sequence), b] = sequence
    assert torch.equal(torch.cat([chunk.values, last.values]), expected)


def test_gradients_reach_the_sequences() -> None:
    series = torch.randn(7, 3, requires_grad=True)
    values = torch.cat([chunk.values for chunk in stream(series, 2, 3)])
    assert torch.equal(values[:4, 0], series[:4])
    assert torch.equal(values[:3, 1], series[4:])
    close(torch.autograd.grad(values.square().sum(), series)[0], 2 * series, "gradients")


@pytest.mark.parametrize("kind", [">i2", ">f8", "<i4"])
def test_arrays_in_any_order_of_bytes(kind: str) -> None:
    chunks = list(stream(np.arange(7).astype(kind)[::-1], 2, 3))
    assert torch.cat([chunk.values for chunk in chunks]).T.tolist() == [[6, 5, 4, 3, 0, 0], [2, 1, 0, 0, 0, 0]]


class Folder:
    """Sequences that are read by index."""

    def __init__(self) -> None:
        self.read: list[int] = []

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Tensor:
        self.read.append(index)
        return numbered([4, 4, 4])[index]


def test_sequences_come_from_anything_that_can_be_gone_through() -> None:
    expected = told(stream(numbered([4, 4, 4]), 2, 3))
    assert told(stream((s for s in numbered([4, 4, 4])), 2, 3)) == expected
    folder: Any = Folder()
    chunks = stream(folder, 2, 3)
    assert told(chunks) == expected
    folder.read.clear()
    assert chunks[2].lengths.tolist() == [3, 0]
    assert folder.read == [2, 1]  # no more than the rows are at, or have been at last


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


def shares(sequences: Any, world_size: int, **options: Any) -> list[Stream]:
    return [stream(sequences, 2, 3, rank=rank, world_size=world_size, **options) for rank in range(world_size)]


@given(lengths=several, world_size=st.integers(1, 4))
def test_processes_share_the_sequences_and_have_as_many_chunks(lengths: list[int], world_size: int) -> None:
    of_each = shares(numbered(lengths), world_size)
    assert len({len(chunks) for chunks in of_each}) == 1
    found = [sequence for chunks in of_each for sequence in walked(chunks)]
    assert sorted(found) == [s.tolist() for s in numbered(lengths) if len(s)]


def test_processes_share_one_long_sequence() -> None:
    [sequence] = numbered([50])
    of_each = shares(sequence, 3, drop_last=True)
    found = chain(*map(walked, of_each))
    assert sorted(found) == walked(stream(sequence, 6, 3, drop_last=True))


def test_torch_says_which_process_this_is(monkeypatch: pytest.MonkeyPatch) -> None:
    before, alone = stream(numbered([50])[0], 2, 3), stream(numbered([50])[0], 2, 3, rank=0, world_size=1)
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_rank", lambda: 1)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 3)
    found = stream(numbered([50])[0], 2, 3)
    with pytest.raises(RuntimeError, match=r"stream: made before torch\.distributed was initialised for 3 processes"):
        next(iter(before))
    assert len(told(alone)) == len(alone)
    assert told(found) == told(shares(numbered([50])[0], 3)[1])


def train_in_step(rank: int, store: Path, sender: Connection) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    model, state, steps = nn.parallel.DistributedDataParallel(nn.GRU(1, 4)), None, 0
    for chunk in stream([s.float().unsqueeze(1) / 100 for s in numbered([9, 4, 1])], batch=2, steps=3):
        outputs, state = model(chunk.values, chunk.carry(state))
        model.zero_grad()
        outputs.masked_fill(~chunk.mask.unsqueeze(-1), 0).sum().backward()
        steps += int(chunk.lengths.sum())
    sender.send((steps, [parameter.grad.tolist() for parameter in model.parameters() if parameter.grad is not None]))
    distributed.destroy_process_group()


def test_two_processes_train_in_step(tmp_path: Path) -> None:
    """The second has nothing left in its last chunks, and waits for no one."""
    if "fork" not in multiprocessing.get_all_start_methods() or not distributed.is_available():
        pytest.skip("no fork here, or no processes of torch")
    context = multiprocessing.get_context("fork")
    pipes = [context.Pipe(duplex=False) for _ in range(2)]
    started = [
        context.Process(target=train_in_step, args=(rank, tmp_path / "store", sender))
        for rank, (_, sender) in enumerate(pipes)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 and later warn of any fork while threads live
        for process in started:
            process.start()
    try:
        assert all(receiver.poll(PATIENCE) for receiver, _ in pipes), "a process hangs"
        (steps, gradients), (other_steps, other_gradients) = (receiver.recv() for receiver, _ in pipes)
    finally:
        for process in started:
            process.kill()
            process.join()
    assert (steps, other_steps) == (10, 4)
    assert len(gradients) == 4
    assert gradients == other_gradients


WRONG: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
    (numbered([5]), {"batch": 0}, ValueError, "stream: batch: expected a whole number of at least 1, got 0"),
    (numbered([5]), {"steps": 2.5}, ValueError, "stream: steps: expected a whole number of at least 1, got 2.5"),
    (numbered([5]), {"batch": True}, ValueError, "stream: batch: expected a whole number of at least 1, got True"),
    (numbered([5]), {"batch": np.int64(0)}, ValueError, "stream: batch: expected a whole number of at least 1, got 0"),
    ([], {}, ValueError, "stream: sequences: expected more steps, got 0 of 0 sequences"),
    (numbered([0, 0]), {}, ValueError, "stream: sequences: expected more steps, got 0 of 2 sequences"),
    ([[1, 2]], {}, TypeError, "stream: sequence 0: expected a tensor or array (T, ...), or a tuple of such; got list"),
    ([()], {}, TypeError, "stream: sequence 0: expected a tensor or array (T, ...), or a tuple of such; got nothing"),
    (torch.tensor(3), {}, TypeError, "stream: sequence 0: expected a tensor or array (T, ...)"),
    (
        (torch.zeros(4), torch.zeros(3)),
        {},
        ValueError,
        "stream: sequence 0: expected parts of one length, got 4 and 3 steps",
    ),
    (
        [torch.zeros(4, 3), torch.zeros(4, 2)],
        {},
        ValueError,
        "stream: sequence 1: expected (T, 3) torch.float32, as sequence 0 is; got (T, 2) torch.float32",
    ),
    (
        [torch.zeros(4), np.zeros(4)],
        {},
        ValueError,
        "stream: sequence 1: expected (T) torch.float32, as sequence 0 is; got (T) numpy.float64",
    ),
    (
        numbered([5]),
        {"padding": (0, 1)},
        ValueError,
        "stream: padding: expected one number, or 1, one for each part; got (0, 1)",
    ),
    (
        [np.zeros((5, 3), np.uint8)],
        {"padding": -100},
        ValueError,
        "stream: padding: expected what (T, 3) numpy.uint8 can hold, got -100",
    ),
    (
        numbered([5]),
        {"padding": "-100"},
        ValueError,
        "stream: padding: expected one number, or 1, one for each part; got '-100'",
    ),
    (
        [np.zeros(5)],
        {"padding": None},
        ValueError,
        "stream: padding: expected what (T) numpy.float64 can hold, got None",
    ),
    (
        [np.zeros(5, np.float16)],
        {"padding": 1e6},
        ValueError,
        "stream: padding: expected what (T) numpy.float16 can hold, got 1000000.0",
    ),
    (np.array(["a", "b"]), {}, TypeError, "stream: sequence 0: expected numbers that torch has, got (T) numpy.<U1"),
    (numbered([5]), {"padding": 0.5}, ValueError, "stream: padding: expected what (T) torch.int64 can hold, got 0.5"),
    (
        numbered([5]),
        {"rank": 2, "world_size": 2},
        ValueError,
        "stream: rank and world_size: expected 0 <= rank < world_size, got 2 and 2",
    ),
    (
        numbered([5]),
        {"rank": 0.5, "world_size": 2},
        ValueError,
        "stream: rank and world_size: expected 0 <= rank < world_size, got 0.5 and 2",
    ),
    (
        numbered([5]),
        {"rank": 0},
        ValueError,
        "stream: rank and world_size: expected 0 <= rank < world_size, got 0 and None",
    ),
]


@pytest.mark.parametrize(("sequences", "options", "error", "message"), WRONG)
def test_what_is_wrong_is_said_in_one_line(
    sequences: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as raised:
        stream(sequences, **{"batch": 2, "steps": 3} | options)
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


def test_a_state_of_another_batch() -> None:
    with pytest.raises(ValueError, match=r"carry: state: expected 2 rows in the last axis but one, got shape \(3, 5\)"):
        chunk_of([True, False]).carry((torch.zeros(1, 2, 5), torch.zeros(3, 5)))
