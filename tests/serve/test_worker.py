"""The thread that runs the model: what it puts together, and what one request does not do to another."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import count
from typing import Any

import pytest

from elman.errors import BadInput
from elman.serve.refused import Refused
from elman.serve.worker import GenerationStream, Rows, Worker
from elman.tasks.task import Input
from tests.serve.conftest import run_async


class Model:
    """Predicts, once it is allowed to, and remembers the sizes of the requests of each batch."""

    def __init__(self) -> None:
        self.batches = list[list[int]]()
        self.runs, self.may_go_on = threading.Event(), threading.Event()

    def __call__(self, requests: Sequence[Sequence[Input]]) -> Sequence[Rows | Exception]:
        self.batches.append([len(inputs) for inputs in requests])
        self.runs.set()
        assert self.may_go_on.wait(10)
        return [
            BadInput("odd") if any(item.value == "odd" for item in inputs) else [{"of": item.value} for item in inputs]
            for inputs in requests
        ]


def inputs(*values: Any) -> Callable[[], list[Input]]:
    return lambda: [Input("", value) for value in values]


def with_worker(
    test: Callable[[Worker, Model], Awaitable[None]], max_batch: int = 8, max_wait: float = 0.0, max_waiting: int = 99
) -> Model:
    model = Model()
    worker = Worker(model, max_batch, max_wait, max_waiting)

    async def run() -> None:
        try:
            await asyncio.wait_for(test(worker, model), 20)
        finally:
            model.may_go_on.set()
            await asyncio.to_thread(worker.close)

    run_async(run())
    assert worker.waiting == 0
    return model


async def occupied(worker: Worker, model: Model) -> asyncio.Task[Rows]:
    """A request that the model works on until it may go on."""
    first = asyncio.create_task(worker.predict(inputs("first")))
    await asyncio.to_thread(model.runs.wait, 10)
    return first


def test_requests_that_arrive_together_are_predicted_together() -> None:
    async def test(worker: Worker, model: Model) -> None:
        first = await occupied(worker, model)
        others = [asyncio.create_task(worker.predict(inputs(*range(size)))) for size in (1, 2, 3)]
        await asyncio.sleep(0)
        model.may_go_on.set()
        assert await first == [{"of": "first"}]
        assert await asyncio.gather(*others) == [[{"of": i} for i in range(size)] for size in (1, 2, 3)]

    assert with_worker(test).batches == [[1], [1, 2, 3]]


def test_a_batch_waits_for_no_more_requests_when_it_is_full() -> None:
    async def test(worker: Worker, model: Model) -> None:
        first = await occupied(worker, model)
        others = [asyncio.create_task(worker.predict(inputs(*range(size)))) for size in (1, 2, 3)]
        await asyncio.sleep(0)
        model.may_go_on.set()
        await asyncio.gather(first, *others)

    assert with_worker(test, max_batch=3).batches == [[1], [1, 2], [3]]


def test_a_request_waits_for_others() -> None:
    async def test(worker: Worker, model: Model) -> None:
        model.may_go_on.set()
        first = asyncio.create_task(worker.predict(inputs("a")))
        await asyncio.sleep(0.05)
        await asyncio.gather(first, worker.predict(inputs("b")))

    assert with_worker(test, max_batch=2, max_wait=60.0).batches == [[1, 1]]


def test_an_unusable_request_harms_no_other() -> None:
    def unreadable() -> list[Input]:
        raise BadInput("unreadable")

    async def test(worker: Worker, model: Model) -> None:
        first = await occupied(worker, model)
        read = (inputs("odd"), unreadable, inputs("even"))
        others = [asyncio.create_task(worker.predict(each)) for each in read]
        await asyncio.sleep(0)
        model.may_go_on.set()
        await first
        odd, unread, even = await asyncio.gather(*others, return_exceptions=True)
        assert (str(odd), str(unread), even) == ("odd", "unreadable", [{"of": "even"}])

    assert with_worker(test).batches == [[1], [1, 1]]


def test_an_error_of_the_model_reaches_all_its_requests() -> None:
    def fail(requests: Any) -> Any:
        raise ArithmeticError("no numbers")

    async def run() -> None:
        worker = Worker(fail, 2, 60.0, 9)
        tasks = [asyncio.create_task(worker.predict(inputs(i))) for i in range(2)]
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert list(map(str, results)) == ["no numbers"] * 2
        worker.close()

    run_async(run())


def test_too_many_requests_are_refused() -> None:
    async def test(worker: Worker, model: Model) -> None:
        first = await occupied(worker, model)
        second = asyncio.create_task(worker.predict(inputs("second")))
        await asyncio.sleep(0)
        with pytest.raises(Refused) as refusal:
            await worker.predict(inputs("third"))
        assert refusal.value.status_code == 429
        assert refusal.value.detail.startswith("expected at most 2 requests at a time, got one more")
        model.may_go_on.set()
        await asyncio.gather(first, second)
        assert await worker.predict(inputs("again")) == [{"of": "again"}]

    with_worker(test, max_waiting=2)


def test_what_nobody_waits_for_is_not_computed() -> None:
    async def test(worker: Worker, model: Model) -> None:
        first = await occupied(worker, model)
        gone, stays = (asyncio.create_task(worker.predict(inputs(i))) for i in range(2))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        model.may_go_on.set()
        await asyncio.gather(first, stays)

    assert with_worker(test).batches == [[1], [1]]


def steps(number: int | None = None) -> Iterator[dict[str, Any]]:
    return ({"step": i} for i in (count() if number is None else range(number)))


async def collected(stream: GenerationStream) -> tuple[int, str | None]:
    parts = [part async for part in stream.parts()]
    return sum(len(steps) for steps, _ in parts), parts[-1][1]


def test_why_a_stream_ends() -> None:
    async def test(worker: Worker, model: Model) -> None:
        for stream, expected in (
            (GenerationStream(steps(), 3, 60), (3, "length")),
            (GenerationStream(steps(2), 3, 60), (2, "end")),
            (GenerationStream(steps(), 3, 0), (0, "time")),
        ):
            worker.stream(stream)
            assert await collected(stream) == expected

    with_worker(test)


def test_streams_and_predictions_take_turns() -> None:
    """An endless stream blocks neither another one nor a prediction."""

    async def test(worker: Worker, model: Model) -> None:
        model.may_go_on.set()
        ended = asyncio.Event()
        endless = GenerationStream(steps(), 1 << 60, 60, ended.set)
        worker.stream(endless)
        short = GenerationStream(steps(), 3, 60)
        worker.stream(short)
        assert await collected(short) == (3, "length")
        assert await worker.predict(inputs("a")) == [{"of": "a"}]
        assert not ended.is_set()
        endless.cancel()
        await ended.wait()

    with_worker(test, max_wait=60.0)  # for which a prediction does not wait while there are streams


def test_a_stream_that_fails() -> None:
    def failing() -> Iterator[dict[str, Any]]:
        yield {}
        raise ArithmeticError("no numbers")

    async def test(worker: Worker, model: Model) -> None:
        stream = GenerationStream(failing(), 3, 60)
        worker.stream(stream)
        with pytest.raises(ArithmeticError, match="no numbers"):
            await collected(stream)

    with_worker(test)


def test_a_closed_worker_has_answered_and_takes_no_more() -> None:
    async def test(worker: Worker, model: Model) -> None:
        model.may_go_on.set()
        accepted = asyncio.create_task(worker.predict(inputs("a")))
        await asyncio.sleep(0)
        await asyncio.to_thread(worker.close)
        assert await accepted == [{"of": "a"}]
        with pytest.raises(Refused, match="being stopped"):
            await worker.predict(inputs("b"))

    with_worker(test)
