"""One step of a compiled plan, prepared but for the addresses of its tensors."""

import ctypes
from collections.abc import Sequence

from torch import Tensor

from elman.engine.cpu import openmp
from elman.engine.cpu.arguments import Word, address, hop
from elman.engine.cpu.compiled_plan import CompiledPlan
from elman.engine.cpu.invocation import threads_for
from elman.engine.cpu.rows import uniform_rows
from elman.engine.plan.layout import width

MAX_UNPACKED = 4  # rows; with more, packing a matrix before the product pays


class SingleStep:
    """The arguments and scratch memory of a plan's programs, for one step of B rows. Its calls must not overlap.

    Args:
        native: the compiled plan; `can_step` is true of it, for B rows.
        loop: "inference", "forward" or "backward".
        like: a tensor of the dtype of all memory.
        B: the number of rows.
    """

    def __init__(self, native: CompiledPlan, loop: str, like: Tensor, B: int) -> None:
        layout = native.layouts[loop]
        self.direct = B <= MAX_UNPACKED
        frame = layout.make_frame(uniform_rows(1, B), 1, self.direct)
        self.data, self._alone = frame.template, native.run_alone
        scratch = like.new_empty(frame.numel)
        self._alive = native, frame, scratch
        begin = layout.aligned(scratch.data_ptr())
        for place, offset in frame.offsets:
            self.data[place] = begin + offset
        self.data[Word.STEPS], self.data[Word.ROWS] = 1, B
        self._parameters = layout.parameters
        self._address, self.size = ctypes.addressof(self.data), like.element_size()

    def set_addresses(self, addresses: Sequence[int]) -> None:
        """Set the addresses of the parameters, in the order of the plan."""
        for index, place in self._parameters:
            self.data[place] = addresses[index]

    def run(self, functions: Sequence[int]) -> None:
        """Run functions of the plan in order."""
        data, alone, address = self.data, self._alone, self._address
        for function in functions:
            data[0] = function
            alone(address)


class ForwardStep(SingleStep):
    """A plan's forward step for B rows. The addresses of its parameters must be set before it is called.

    Args:
        native: as in `SingleStep`.
        like: as in `SingleStep`.
        B: as in `SingleStep`.
        save: save what `BackwardStep` reads.
    """

    def __init__(self, native: CompiledPlan, like: Tensor, B: int, save: bool = False) -> None:
        super().__init__(native, "forward" if save else "inference", like, B)
        plan, arguments = native.plan, native.arguments
        names = [] if self.direct else ["pack_forward"]
        if save:
            names += [*(["before"] if plan.before.stages else []), "forward"]
        else:
            names.append("step")
        self._functions = [native.functions[name] for name in names]
        self._x, self._saved = arguments[address("x")], native.saved if save else None
        sequences = [i for i in range(len(plan.widths)) if i == 0 or (save and plan.sequences[i])]
        self._sequences = [(i, arguments[address(f"state{i}")], native.states[i].before) for i in sequences]
        pairs = [i for i in range(len(plan.widths)) if i not in sequences]
        self._pairs = [(i, arguments[address(f"state{i}")], arguments[hop(f"state{i}")]) for i in pairs]

    def __call__(
        self, x: int, before: Sequence[int], after: Sequence[int], offsets: Sequence[int], saved: int = 0
    ) -> None:
        """Run the step.

        Args:
            x: address of the input (B, D).
            before: address of each state (B, H) before the step.
            after: address of each state after the step.
            offsets: added to the addresses of each state, in bytes.
            saved: address of memory for what the backward step reads.
        """
        data = self.data
        data[self._x] = x
        if self._saved is not None:
            data[self._saved] = saved
        for i, place, before_place in self._sequences:
            data[place] = after[i] + offsets[i]
            if before_place is not None:
                data[before_place] = before[i] + offsets[i]
        for i, place, distance in self._pairs:
            data[place], data[distance] = before[i] + offsets[i], (after[i] - before[i]) // self.size
        self.run(self._functions)


class BackwardStep(SingleStep):
    """A plan's backward step for B rows. The addresses of its parameters must be set before it is called.

    Args:
        native: as in `SingleStep`.
        like: as in `SingleStep`.
        B: as in `SingleStep`.
    """

    def __init__(self, native: CompiledPlan, like: Tensor, B: int) -> None:
        super().__init__(native, "backward", like, B)
        arguments, plan, self.gradients = native.arguments, native.plan, native.gradients
        states = range(len(plan.widths))
        self._x, self._saved, self._dx = arguments[address("x")], native.saved, native.dx
        self._after = [(i, state.address) for i, state in enumerate(native.states) if state.address is not None]
        places = [(i, place) for i, state in enumerate(native.states) for place in (state.before, state.previous)]
        self._before = [(i, place) for i, place in places if place is not None]
        self._cotangents = [(i, arguments[address(f"d_state{i}")], arguments[hop(f"d_state{i}")]) for i in states]
        self.data[Word.DY_ROW] = plan.widths[0]
        self._sums = native.sums
        self.D, self._plan, self._functions = width(plan.inputs[0]), plan, native.functions
        # Unwanted gradients are written to the first two, missing cotangents are read from the zeros.
        max_width = max(self.D, *plan.widths)
        self._dummies = like.new_empty(B, max_width), like.new_empty(B, max_width), like.new_zeros(B, max_width)
        self._unwanted_dx, self._unwanted_states, self._zeros = (dummy.data_ptr() for dummy in self._dummies)
        both = (False, True)
        self._sequences = {(wants, sums): self._functions_for(wants, sums) for wants in both for sums in both}

    def _functions_for(self, wants_x: bool, wants_parameters: bool) -> list[int]:
        after = self._plan.after.stages and (wants_x or (wants_parameters and self._plan.sums_need_after))
        names = [] if self.direct else ["pack_backward", *(["pack_after"] if after else [])]
        names += ["backward", *(["after"] if after else []), *(["reduce"] if wants_parameters else [])]
        return [self._functions[name] for name in names]

    def __call__(
        self,
        x: int,
        before: Sequence[int],
        after: Sequence[int],
        offsets: Sequence[int],
        saved: int,
        dy: int | None,
        d_after: Sequence[int | None],
        d_before: Sequence[int] | None,
        dx: int | None,
        sums: Sequence[Tensor],
    ) -> None:
        """Run the step.

        Args:
            x: as in `ForwardStep`.
            before: as in `ForwardStep`.
            after: as in `ForwardStep`.
            offsets: as in `ForwardStep`, of the cotangents and the gradients of the states too.
            saved: as in `ForwardStep`.
            dy: address of the cotangent of the output.
            d_after: address of the cotangent of each state after the step.
            d_before: address of the gradient of each state before the step; None if they are not wanted.
            dx: address of the gradient of x; None if it is not wanted.
            sums: memory for the sums that give the gradients of the parameters; none if these are not wanted.
        """
        data, size, zeros = self.data, self.size, self._zeros
        data[self._x] = x
        if self._saved is not None:
            data[self._saved] = saved
        if self._dx is not None:
            data[self._dx] = self._unwanted_dx if dx is None else dx
        for i, place in self._after:
            data[place] = after[i] + offsets[i]
        for i, place in self._before:
            data[place] = before[i] + offsets[i]
        data[Word.LAST] = 0 if d_before is None else -1
        data[Word.DY] = zeros if dy is None else dy
        for i, place, distance in self._cotangents:
            cotangent = d_after[i]
            source = zeros if cotangent is None else cotangent + offsets[i]
            data[place] = target = self._unwanted_states if d_before is None else d_before[i] + offsets[i]
            data[distance] = (source - target) // size
        for place, total in zip(self._sums, sums, strict=False):
            data[place] = total.data_ptr()
        self.run(self._sequences[dx is not None, bool(sums)])


def can_step(native: CompiledPlan, B: int, loops: Sequence[str] = ("inference",)) -> bool:
    """Return True if a step of B rows needs only addresses: no random numbers, no values computed from parameters.

    A step that several threads would share runs faster as a sequence.
    """
    plan, layouts = native.plan, [native.layouts[loop] for loop in loops]
    threads = [threads_for(layout.loop, native.real, 1, B, openmp.threads())[0] for layout in layouts]
    is_alone = B <= MAX_UNPACKED or max(threads) == 1
    return is_alone and not plan.step.draws and all(layout.compute is None for layout in layouts)
