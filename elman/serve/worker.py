"""The thread that runs the model: for requests that arrive together, it predicts and generates together."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from elman.io.terminal import Verbosity, set_verbosity
from elman.serve.refused import Refused
from elman.tasks.task import Generation, Input

Rows = list[dict[str, Any]]
Predict = Callable[[Sequence[Sequence[Input]]], Sequence[Rows | Exception]]
TURN = 0.02  # seconds that streams generate before others have their turn


@dataclass
class _Prediction:
    """A request to predict."""

    read: Callable[[], Sequence[Input]]
    arrived: float
    result: "Future[Rows]" = field(default_factory=Future)
    inputs: Sequence[Input] = ()


class GenerationStream:
    """An output that is generated for one request.

    Args:
        generation: the output.
        length: the largest number of steps.
        sampling: temperature, top_k and top_p.
        seconds: after which generation stops.
        is_whole: whether the steps are wanted at the end only.
        on_end: called in the event loop once the worker is done with the stream.
    """

    def __init__(
        self,
        generation: Generation,
        length: int,
        sampling: dict[str, Any],
        seconds: float,
        is_whole: bool = False,
        on_end: Callable[[], None] | None = None,
    ) -> None:
        self.generation, self.sampling = generation, sampling
        self._remaining, self._is_whole, self._on_end = length, is_whole, on_end
        self._until = time.monotonic() + seconds
        self._loop, self._parts = asyncio.get_running_loop(), asyncio.Queue[tuple[Rows, str | Exception | None]]()
        self._steps = Rows()  # that the event loop has not been told of
        self._is_cancelled = False

    def cancel(self) -> None:
        """Stop generating; nobody reads the stream any more."""
        self._is_cancelled = True

    async def parts(self) -> AsyncIterator[tuple[Rows, str | None]]:
        """Yield steps as they are generated, and with the last ones why there are no more: "length", "end" or "time".

        Raises:
            Exception: if the generation fails.
        """
        try:
            reason: str | None = None
            while reason is None:
                steps, end = await self._parts.get()
                reason = None if isinstance(end, Exception) else end
                yield steps, reason
                if isinstance(end, Exception):
                    raise end
        finally:
            self.cancel()

    def goes_on(self, now: float) -> bool:
        """Return whether there is more to generate; in the thread of the worker, as the methods below."""
        if self._is_cancelled:
            return self._end("cancelled")
        return now < self._until or self._end("time")

    def add(self, step: dict[str, Any] | Exception | None) -> bool:
        """Add the next step, None at the end of the output, or an error; return whether there is more to generate."""
        if step is None or isinstance(step, Exception):
            return self._end("end" if step is None else step)
        self._steps.append(step)
        self._remaining -= 1
        return self._remaining > 0 or self._end("length")

    def send(self) -> None:
        """Send the steps so far to the event loop, unless they are wanted at the end only."""
        if self._steps and not self._is_whole:
            self._tell(None)

    def _end(self, reason: str | Exception) -> bool:
        self._tell(reason)
        return False

    def _tell(self, reason: str | Exception | None) -> None:
        steps, self._steps = self._steps, Rows()

        def tell() -> None:
            self._parts.put_nowait((steps, reason))
            if reason is not None and self._on_end is not None:
                self._on_end()

        try:
            self._loop.call_soon_threadsafe(tell)
        except RuntimeError:  # the loop is closed: nobody reads the stream any more
            self.cancel()


class Worker:
    """Runs predictions and streams in one thread, as PyTorch computes in several threads by itself.

    The inputs of requests that arrive together are predicted together. Streams are generated together, step by step:
    they join and leave between two steps. The thread starts with the first request.

    Args:
        predict: predicts from the inputs of several requests; returns rows or an error for each.
        max_batch: the number of inputs from which on a batch waits for no more requests, and the largest number of
            streams that are generated together.
        max_wait: the seconds that a request waits for others.
        max_waiting: the largest number of requests that wait or run.
    """

    def __init__(self, predict: Predict, max_batch: int, max_wait: float, max_waiting: int) -> None:
        self._predict, self._max_batch, self._max_wait, self._max_waiting = predict, max_batch, max_wait, max_waiting
        self._predictions, self._streams = deque[_Prediction](), deque[GenerationStream]()
        self._count, self._is_closed = 0, False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    @property
    def waiting(self) -> int:
        """The number of requests that wait or run."""
        return self._count

    async def predict(self, read: Callable[[], Sequence[Input]]) -> Rows:
        """Predict from the inputs that `read` returns, which is called in the thread of the worker.

        Raises:
            BadInput: for inputs that cannot be used.
            Refused: if too many requests wait.
        """
        prediction = _Prediction(read, time.monotonic())
        self._submit(self._predictions, prediction)
        return await asyncio.wrap_future(prediction.result)

    def stream(self, stream: GenerationStream) -> None:
        """Generate a stream.

        Raises:
            Refused: if too many requests wait.
        """
        self._submit(self._streams, stream)

    def close(self) -> None:
        """End the thread, after the requests that it has accepted."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def check_free(self) -> None:
        """Check that another request can be accepted.

        Raises:
            Refused: if it cannot.
        """
        if self._is_closed:
            raise Refused(503, "this service is being stopped")
        if self._count >= self._max_waiting:
            message = f"expected at most {self._max_waiting} requests at a time, got one more; try again later"
            raise Refused(429, message, {"Retry-After": "1"})

    def _submit(self, queue: deque[Any], job: _Prediction | GenerationStream) -> None:
        with self._changed:
            self.check_free()
            self._count += 1
            queue.append(job)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="elman-serve", daemon=True)
                self._thread.start()
            self._changed.notify()

    def _run(self) -> None:
        set_verbosity(Verbosity.QUIET)  # notes are for people at the command line
        while self._wait():
            if batch := self._next_batch():
                self._run_batch(batch)
            if self._streams:
                self._generate()

    def _generate(self) -> None:
        """Generate streams together for one turn, which ends before if another request can join them."""
        count = min(self._max_batch, len(self._streams))
        streams, until = [self._streams.popleft() for _ in range(count)], time.monotonic() + TURN
        while streams and (now := time.monotonic()) < until:
            streams = self._ended(streams, [stream.goes_on(now) for stream in streams])
            if streams:
                results = _advance(streams)
                streams = self._ended(streams, [s.add(step) for s, step in zip(streams, results, strict=True)])
            if self._predictions or (self._streams and len(streams) < self._max_batch):
                break
        for stream in streams:
            stream.send()
        self._streams.extend(streams)

    def _ended(self, streams: list[GenerationStream], go_on: Sequence[bool]) -> list[GenerationStream]:
        """Forget the streams that do not go on, and return the others."""
        if all(go_on):
            return streams
        self._forget(go_on.count(False))
        return [stream for stream, goes_on in zip(streams, go_on, strict=True) if goes_on]

    def _wait(self) -> bool:
        """Wait for work; return False if there is none and the worker is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._predictions or self._streams or self._is_closed)
            return bool(self._predictions or self._streams)

    def _forget(self, count: int) -> None:
        with self._changed:
            self._count -= count

    def _next_batch(self) -> list[_Prediction]:
        """Return requests whose inputs are predicted together."""
        batch, size = list[_Prediction](), 0
        until = self._predictions[0].arrived + self._max_wait if self._predictions else 0.0
        while size < self._max_batch and (prediction := self._next(until)) is not None:
            if not prediction.result.set_running_or_notify_cancel():  # nobody waits for it any more
                self._forget(1)
                continue
            try:
                prediction.inputs = prediction.read()
            except Exception as error:
                self._forget(1)
                prediction.result.set_exception(error)
                continue
            batch.append(prediction)
            size += len(prediction.inputs)
        return batch

    def _next(self, until: float) -> _Prediction | None:
        """Return the next request to predict; wait for it, unless streams have work to do."""
        with self._changed:
            while not self._predictions:
                remaining = until - time.monotonic()
                if remaining <= 0 or self._streams or self._is_closed:
                    return None
                self._changed.wait(remaining)
            return self._predictions.popleft()

    def _run_batch(self, batch: Sequence[_Prediction]) -> None:
        try:
            results = self._predict([prediction.inputs for prediction in batch])
        except Exception as error:
            results = [error] * len(batch)
        self._forget(len(batch))
        for prediction, result in zip(batch, results, strict=True):
            if isinstance(result, Exception):
                prediction.result.set_exception(result)
            else:
                prediction.result.set_result(result)


def _advance(streams: Sequence[GenerationStream]) -> Sequence[dict[str, Any] | Exception | None]:
    """Generate the next step of each stream."""
    generations = [stream.generation for stream in streams]
    try:
        return type(generations[0]).advance(generations, [stream.sampling for stream in streams])
    except Exception as error:
        return [error] * len(streams)
