"""The thread that runs the model: what it puts together, and what one request does not do to another."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, ClassVar

import pytest

from elman.errors import BadInput
from elman.serve.refused import Refused
from elman.serve.worker import GenerationStream, Rows, Worker
from elman.tasks.task import Generation, Input
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


class Counter(Generation):
    """Counts; fails or ends after some steps. Remembers how many were advanced together."""

    together: ClassVar[list[int]] = []

    def __init__(self, end: int | None = None, error: Exception | None = None) -> None:
        self.count, self._end, self._error = 0, end, error

    def read(self, prompt: Any, max_steps: int | None = None) -> None:
        pass

    def steps(self, length: int, **sampling: Any) -> Iterator[dict[str, Any]]:
        for _ in range(length):
            if self.count == self._end:
                if self._error:
                    raise self._error
                return
            self.count += 1
            yield {"step": self.count, **sampling}

    @classmethod
    def advance(cls, generations: Sequence[Any], samplings: Sequence[dict[str, Any]]) -> list[Any]:
        cls.together.append(len(generations))
        return super().advance(generations, samplings)

    def output(self, steps: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return {}


def stream_of(generation: Generation, length: int = 3, seconds: float = 60, **options: Any) -> GenerationStream:
    return GenerationStream(generation, length, {}, seconds, **options)


async def collected(stream: GenerationStream) -> tuple[int, str | None]:
    parts = [part async for part in stream.parts()]
    return sum(len(steps) for steps, _ in parts), parts[-1][1]


def test_why_a_stream_ends() -> None:
    async def test(worker: Worker, model: Model) -> None:
        for stream, expected in (
            (stream_of(Counter()), (3, "length")),
            (stream_of(Counter(2)), (2, "end")),
            (stream_of(Counter(3)), (3, "length")),
            (stream_of(Counter(), seconds=0), (0, "time")),
        ):
            worker.stream(stream)
            assert await collected(stream) == expected

    with_worker(test)


def test_streams_are_generated_together() -> None:
    """They join and leave between two steps; none waits for another to end."""

    async def test(worker: Worker, model: Model) -> None:
        model.may_go_on.set()
        ended = asyncio.Event()
        endless = stream_of(Counter(), 1 << 60, on_end=ended.set)
        worker.stream(endless)
        shorts = [stream_of(Counter(), length, is_whole=True) for length in (3, 5, 9)]
        Counter.together.clear()
        for stream in shorts:
            worker.stream(stream)
        assert await asyncio.gather(*map(collected, shorts)) == [(3, "length"), (5, "length"), (9, "length")]
        assert max(Counter.together) in (3, 4)  # the endless one may be on its way into the next turn
        assert await worker.predict(inputs("a")) == [{"of": "a"}]
        assert not ended.is_set()
        endless.cancel()
        await ended.wait()

    with_worker(test, max_wait=60.0)  # for which a prediction does not wait while there are streams


def test_more_streams_than_are_generated_together() -> None:
    async def test(worker: Worker, model: Model) -> None:
        Counter.together.clear()
        endless = [stream_of(Counter(), 1 << 60) for _ in range(2)]
        for stream in endless:
            worker.stream(stream)
        shorts = [stream_of(Counter(), 4) for _ in range(5)]
        for stream in shorts:
            worker.stream(stream)
        assert await asyncio.gather(*map(collected, shorts)) == [(4, "length")] * 5
        assert max(Counter.together) == 2
        for stream in endless:
            stream.cancel()

    with_worker(test, max_batch=2)


def test_steps_of_a_whole_output_are_sent_at_the_end() -> None:
    async def test(worker: Worker, model: Model) -> None:
        whole, other = stream_of(Counter(), 5, is_whole=True), stream_of(Counter(), 5)
        for stream in (whole, other):
            worker.stream(stream)
        parts = [part async for part in whole.parts()]
        assert [(len(steps), reason) for steps, reason in parts] == [(5, "length")]
        assert await collected(other) == (5, "length")

    with_worker(test)


def test_a_stream_that_fails_harms_no_other() -> None:
    async def test(worker: Worker, model: Model) -> None:
        failing = stream_of(Counter(1, ArithmeticError("no numbers")))
        others = [stream_of(Counter()) for _ in range(2)]
        for stream in (others[0], failing, others[1]):
            worker.stream(stream)
        with pytest.raises(ArithmeticError, match="no numbers"):
            await collected(failing)
        assert await asyncio.gather(*map(collected, others)) == [(3, "length")] * 2

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
