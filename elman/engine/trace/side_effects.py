"""Detects what a step does beside returning its state, and undoes it after a trial."""

import builtins
import random
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.overrides import TorchFunctionMode

from elman.engine.torch_private import TorchDispatchMode, disable_torch_function, set_version, tree_leaves
from elman.engine.trace.aten import mutated_tensors
from elman.engine.trace.errors import CannotCapture, current_line
from elman.engine.trace.python_state import AccessPath, GeneratorLocation, Location, PythonState, is_log, version

READING = {
    Tensor.numpy, Tensor.tolist, Tensor.__array__, Tensor.__repr__, Tensor.__format__, Tensor.data_ptr,
    Tensor.untyped_storage, Tensor.storage, Tensor.__dlpack__, Tensor.__reduce_ex__,
}  # fmt: skip


@contextmanager
def without_caches() -> Iterator[None]:
    """Parametrized weights are computed anew within, and those that torch has in its cache stay there."""
    before, kept = parametrize._cache_enabled, dict(parametrize._cache)
    parametrize._cache_enabled = 0
    try:
        yield
    finally:
        parametrize._cache_enabled = before
        parametrize._cache.update(kept)


@contextmanager
def without_effects(cell: nn.Module, own: Iterable[Tensor] = (), logs: bool = False) -> Iterator[None]:
    """Undo what a step does to what it reaches beside its own tensors, and to random numbers that are not torch's.

    Args:
        cell: whose step it is.
        own: tensors that it may write to.
        logs: whether it may print, write to files and loggers, and append to lists that are no attributes of the cell.

    Raises:
        CannotCapture: at the end, if any of it was done; at the beginning, if it might be done and not be undone.
    """
    reached = PythonState(cell)
    if reason := reached.lost or ("" if logs else reached.writes):
        raise CannotCapture(reason)
    shared = random._inst, np.random.mtrand._rand
    places = [*(GeneratorLocation(of, AccessPath("", "")) for of in shared), *reached.places]
    contents = [(place, place.content()) for place in places]
    written = WriteMonitor(own)
    try:
        with written, _prints() as printed:
            yield
            if not logs and printed():
                raise CannotCapture(printed())
        changed = (place.changed(content) for place, content in contents if not (logs and _appended(place, content)))
        if why := written.words or next(filter(None, changed), ""):
            raise CannotCapture(why)
    finally:
        written.undo()
        for place, content in contents:
            place.put(content)


def _appended(place: Location, content: Any) -> bool:
    """Whether a place is a log, to which at most something was appended."""
    return is_log(place) and all(a is b for a, b in zip(place.content()[: len(content)], content, strict=True))


class _PrintMonitor(threading.local):
    """Where in the step this thread has printed first; None where nobody asks."""

    words: str | None = None


_printing, _lock, _asking = _PrintMonitor(), threading.Lock(), 0
_print = print


def _noted(*values: Any, **options: Any) -> None:
    """Stands in the place of `print`: what a thread prints that notes it is printed no further."""
    if _printing.words is None:
        _print(*values, **options)
    else:
        _printing.words = _printing.words or f"print(){current_line()}"


@contextmanager
def _prints() -> Iterator[Callable[[], str]]:
    """Within, what this thread prints is noted: gives a function that returns where, or "".

    `print` itself is replaced, and not `sys.stdout`, which other threads may be writing to.
    """
    global _print, _asking
    with _lock:
        if not _asking:
            _print, builtins.print = builtins.print, _noted
        _asking += 1
    before, _printing.words = _printing.words, ""
    try:
        yield lambda: _printing.words or ""
    finally:
        _printing.words = before
        with _lock:
            _asking -= 1
            if not _asking and builtins.print is _noted:
                builtins.print = _print


class WriteMonitor(TorchDispatchMode):
    """Under it, tensors from elsewhere that are written to are noted, with the numbers that stood there.

    Args:
        own: tensors that may be written to.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else the first operation imports the whole of torch.compile

    def __init__(self, own: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.words = ""
        self._own = {memory for tensor in own if (memory := _memory(tensor))}  # where memory begins that is made within
        self._elsewhere = set[int]()
        self._before: list[tuple[Tensor, Tensor, int]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        self._elsewhere |= {memory for tensor in given if (memory := _memory(tensor))} - self._own
        if func._schema.is_mutable:
            for tensor in [*tree_leaves(mutated_tensors(func, args)), *tree_leaves((kwargs or {}).get("out"))]:
                if isinstance(tensor, Tensor) and _memory(tensor) in self._elsewhere:
                    self.words = (
                        self.words or f"{func}, which writes into a tensor that the step did not make{current_line()}"
                    )
                    self._before.append((tensor, tensor.detach().clone(), version(tensor)))
        result = func(*args, **(kwargs or {}))
        made = {memory for leaf in tree_leaves(result) if isinstance(leaf, Tensor) and (memory := _memory(leaf))}
        self._own |= made - self._elsewhere
        return result

    def undo(self) -> None:
        """Let tensors from elsewhere have the numbers that they had."""
        for tensor, numbers, count in reversed(self._before):
            with torch.no_grad():
                tensor.detach().copy_(numbers)
            if not tensor.is_inference():
                set_version(tensor, count)


def _memory(tensor: Tensor) -> int:
    """Where the memory of a tensor begins; 0 where it has none in one piece."""
    return tensor.untyped_storage()._cdata if tensor.layout == torch.strided and not tensor.is_meta else 0


class DataDependenceCheck(TorchFunctionMode):
    """Under it, no number can be taken out of a tensor but by an operation.

    Raises:
        CannotCapture: from where it is tried.
    """

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in READING:
            raise CannotCapture(f"a number read out of a tensor{current_line()}")
        with disable_torch_function():
            return func(*args, **(kwargs or {}))
