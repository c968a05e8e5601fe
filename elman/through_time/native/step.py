"""One step of a compiled plan, by itself: everything but the addresses is prepared."""

import ctypes
from collections.abc import Sequence

from torch import Tensor

from elman.through_time.native import pool
from elman.through_time.native.call import threads_for
from elman.through_time.native.executor import Native
from elman.through_time.native.rows import even

FEW = 4  # rows that are multiplied by matrices as they lie; with more, a matrix is better packed first


class Step:
    """A plan's step for B rows, saving nothing; its calls must not overlap.

    Args:
        native: the compiled plan, which `can_step` with so many rows.
        parameters: in the order of the plan; they must stay where they are.
        like: of the dtype of all memory.
        B: the rows.
    """

    def __init__(self, native: Native, parameters: Sequence[Tensor], like: Tensor, B: int) -> None:
        layout = native.layouts["inference"]
        frame = layout.new_frame(even(1, B), 1, direct=B <= FEW)
        number, self._data, self._alone = layout.number, frame.template, native.run_alone
        self._alive = native, frame, like.new_empty(frame.numbers)
        begin = layout.aligned(self._alive[-1].data_ptr())
        for slot, offset in frame.places:
            self._data[slot] = begin + offset
        for index, slot in layout.plain:
            self._data[slot] = parameters[index].data_ptr()
        self._data[number["steps"]], self._data[number["rows"]] = 1, B
        names = ["step"] if B <= FEW else ["pack_forward", "step"]
        self._functions = [native.functions[name] for name in names]
        self._address, self._size = ctypes.addressof(self._data), like.element_size()
        self._x, self._now, self._new = (number[name] for name in ("x", "state0.before", "state0"))
        self._others = [(i, number[f"state{i}"], number[f"state{i}.hop"]) for i in range(1, len(native.plan.widths))]

    def __call__(self, x: int, before: Sequence[int], after: Sequence[int], offsets: Sequence[int]) -> None:
        """Compute, all given by their addresses: x (B, D), the states before the step and after it (B, H).

        Those of the states are so many bytes further on.
        """
        data, offset = self._data, offsets[0]
        data[self._x], data[self._now], data[self._new] = x, before[0] + offset, after[0] + offset
        for i, slot, hop in self._others:
            data[slot], data[hop] = before[i] + offsets[i], (after[i] - before[i]) // self._size
        for function in self._functions:
            data[0] = function
            self._alone(self._address)


def can_step(native: Native, B: int) -> bool:
    """Whether a step of B rows needs nothing but addresses: no random numbers, no values made of parameters.

    Where several threads would share it, it is better run as a sequence.
    """
    alone = B <= FEW or threads_for(native.plan.inference, native.real, 1, B, pool.threads())[0] == 1
    return alone and not native.plan.step.draws and native.layouts["inference"].make is None
