"""Replays the launches of all steps as one CUDA graph: a launch from Python takes longer than a step.

A graph knows the addresses of its tensors. So it has memory of its own, into which a call copies what its kernels read,
and out of which it copies what they have written. It has not been run on a GPU.
"""

import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence

import torch
from torch import Tensor

MAX_GRAPHS = 4  # of one plan: forward and backward of two shapes; each holds the memory of a call
Launch = Callable[[Mapping[str, Tensor]], None]


class StepGraphs:
    """The graphs of a plan, the most recently used last."""

    def __init__(self) -> None:
        self._graphs: OrderedDict[Hashable, _StepGraph] = OrderedDict()
        self._seen: OrderedDict[Hashable, None] = OrderedDict()
        self._lock = threading.Lock()
        self._can_capture = True

    def run(
        self, key: Hashable, launch: Launch, memory: Mapping[str, Tensor], reads: Sequence[str], writes: Sequence[str]
    ) -> None:
        """Launch all steps, as a graph from the second call with the same key on.

        The first call compiles the kernels, which cannot be captured; and sizes that do not come again need no graph.

        Args:
            key: everything that the launches depend on beside the contents of the memory.
            launch: the steps on some memory.
            memory: of the call, by name.
            reads: the names of what the kernels read and do not write.
            writes: the names of what they write.
        """
        x = memory["begins"]
        if not (x.is_cuda and self._can_capture) or torch.cuda.is_current_stream_capturing():
            launch(memory)
            return
        key = key, x.device, torch.cuda.current_stream(x.device).cuda_stream
        with self._lock:
            if key not in self._seen:
                launch(memory)
                self._seen[key] = None
                if len(self._seen) > 16 * MAX_GRAPHS:
                    self._seen.popitem(last=False)
                return
            if key not in self._graphs:
                try:
                    self._graphs[key] = _StepGraph(launch, memory, reads, writes)
                except RuntimeError as error:
                    self._can_capture = False
                    warnings.warn(f"the triton executor goes on without CUDA graphs, slower: {error}", stacklevel=2)
                    launch(memory)
                    return
                if len(self._graphs) > MAX_GRAPHS:
                    self._graphs.popitem(last=False)
            self._graphs.move_to_end(key)
            self._graphs[key].replay(memory)


class _StepGraph:
    def __init__(
        self, launch: Launch, memory: Mapping[str, Tensor], reads: Sequence[str], writes: Sequence[str]
    ) -> None:
        self.reads, self.writes = reads, writes
        self.memory = {name: torch.zeros_like(memory[name]) for name in dict.fromkeys((*reads, *writes))}
        self.graph = torch.cuda.CUDAGraph()
        torch.cuda.current_stream().synchronize()
        # Of this thread alone: others, which load data say, may go on allocating memory.
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
            launch(self.memory)

    def replay(self, memory: Mapping[str, Tensor]) -> None:
        """Run the steps on the memory of a call."""
        # What is written may be read first: halves begin with the initial state.
        for name, own in self.memory.items():
            own.copy_(memory[name])
        self.graph.replay()
        for name in self.writes:
            memory[name].copy_(self.memory[name])
