"""One step of a compiled plan, with everything but the addresses prepared."""

import ctypes
from collections.abc import Sequence

from torch import Tensor

from elman.engine.cpu import openmp
from elman.engine.cpu.arguments import Word, address, hop
from elman.engine.cpu.compiled_plan import CompiledPlan
from elman.engine.cpu.invocation import threads_for
from elman.engine.cpu.rows import uniform_rows
from elman.engine.plan.layout import width

FEW = 4  # rows that are multiplied by matrices as they lie; with more, a matrix is better packed first


class SingleStep:
    """The arguments and the scratch memory of a plan's programs, for one step of B rows; calls must not overlap.

    Args:
        native: the compiled plan, which `can_step` with so many rows.
        loop: "inference", "forward" or "backward".
        like: of the dtype of all memory.
        B: the rows.
    """

    def __init__(self, native: CompiledPlan, loop: str, like: Tensor, B: int) -> None:
        layout = native.layouts[loop]
        self.direct = B <= FEW
        frame = layout.new_frame(uniform_rows(1, B), 1, self.direct)
        self.data, self._alone = frame.template, native.run_alone
        self._alive = native, frame, like.new_empty(frame.numbers)
        begin = layout.aligned(self._alive[-1].data_ptr())
        for place, offset in frame.places:
            self.data[place] = begin + offset
        self.data[Word.STEPS], self.data[Word.ROWS] = 1, B
        self._parameters = layout.plain
        self._address, self.size = ctypes.addressof(self.data), like.element_size()

    def put_parameters(self, addresses: Sequence[int]) -> None:
        """Let the parameters, in the order of the plan, be at these addresses."""
        for index, place in self._parameters:
            self.data[place] = addresses[index]

    def run(self, functions: Sequence[int]) -> None:
        """Run functions of the plan, one after the other."""
        data, alone, address = self.data, self._alone, self._address
        for function in functions:
            data[0] = function
            alone(address)


class ForwardStep(SingleStep):
    """A plan's step for B rows, whose parameters must be put before it is called.

    Args:
        native: as of `SingleStep`.
        like: as of `SingleStep`.
        B: as of `SingleStep`.
        keep: save what `BackwardStep` reads.
    """

    def __init__(self, native: CompiledPlan, like: Tensor, B: int, keep: bool = False) -> None:
        super().__init__(native, "forward" if keep else "inference", like, B)
        plan = native.plan
        names = [] if self.direct else ["pack_forward"]
        if keep:
            names += [*(["before"] if plan.before.stages else []), "forward"]
        else:
            names.append("step")
        self._functions = [native.functions[name] for name in names]
        self._x, self._kept = native.arguments[address("x")], native.kept if keep else None
        whole = [i for i in range(len(plan.widths)) if i == 0 or (keep and plan.sequences[i])]
        self._whole = [(i, native.arguments[address(f"state{i}")], native.states[i].before) for i in whole]
        turns = [i for i in range(len(plan.widths)) if i not in whole]
        self._turns = [(i, native.arguments[address(f"state{i}")], native.arguments[hop(f"state{i}")]) for i in turns]

    def __call__(
        self, x: int, before: Sequence[int], after: Sequence[int], offsets: Sequence[int], kept: int = 0
    ) -> None:
        """Compute, all given by their addresses: x (B, D), the states before the step and after it (B, H).

        Those of the states are so many bytes further on. At `kept`, memory for what the backward step reads.
        """
        data = self.data
        data[self._x] = x
        if self._kept is not None:
            data[self._kept] = kept
        for i, place, place_before in self._whole:
            data[place] = after[i] + offsets[i]
            if place_before is not None:
                data[place_before] = before[i] + offsets[i]
        for i, place, distance in self._turns:
            data[place], data[distance] = before[i] + offsets[i], (after[i] - before[i]) // self.size
        self.run(self._functions)


class BackwardStep(SingleStep):
    """The backward step of a plan for B rows.

    Args:
        native: as of `SingleStep`.
        like: as of `SingleStep`.
        B: as of `SingleStep`.
    """

    def __init__(self, native: CompiledPlan, like: Tensor, B: int) -> None:
        super().__init__(native, "backward", like, B)
        arguments, plan, self.gradients = native.arguments, native.plan, native.gradients
        states = range(len(plan.widths))
        self._x, self._kept, self._dx = arguments[address("x")], native.kept, native.dx
        self._after = [(i, state.address) for i, state in enumerate(native.states) if state.address is not None]
        places = [(i, place) for i, state in enumerate(native.states) for place in (state.before, state.previous)]
        self._before = [(i, place) for i, place in places if place is not None]
        self._cotangents = [(i, arguments[address(f"d_state{i}")], arguments[hop(f"d_state{i}")]) for i in states]
        self.data[Word.DY_ROW] = plan.widths[0]
        self._sums = native.sums
        self.D, self._plan, self._functions = width(plan.inputs[0]), plan, native.functions
        # What nobody wants is written here, and what nobody gave is read here.
        most = max(self.D, *plan.widths)
        self._spare = like.new_empty(B, most), like.new_empty(B, most), like.new_zeros(B, most)
        self._no_dx, self._no_state, self._none = (spare.data_ptr() for spare in self._spare)
        self._names = {
            (of_x, of_parameters): self._sequence(of_x, of_parameters)
            for of_x in (False, True)
            for of_parameters in (False, True)
        }

    def _sequence(self, of_x: bool, of_parameters: bool) -> list[int]:
        """The functions to run."""
        after = self._plan.after.stages and (of_x or (of_parameters and self._plan.sums_need_after))
        names = [] if self.direct else ["pack_backward", *(["pack_after"] if after else [])]
        names += ["backward", *(["after"] if after else []), *(["reduce"] if of_parameters else [])]
        return [self._functions[name] for name in names]

    def __call__(
        self,
        x: int,
        before: Sequence[int],
        after: Sequence[int],
        offsets: Sequence[int],
        kept: int,
        dy: int | None,
        d_after: Sequence[int | None],
        d_before: Sequence[int] | None,
        dx: int | None,
        sums: Sequence[Tensor],
    ) -> None:
        """Compute, all given by their addresses: as of `ForwardStep`, and the cotangents and gradients.

        Args:
            x: as of `ForwardStep`.
            before: as of `ForwardStep`.
            after: as of `ForwardStep`.
            offsets: as of `ForwardStep`, of the cotangents and the gradients of the states too.
            kept: as of `ForwardStep`.
            dy: the cotangent of the output.
            d_after: the cotangents of the states after the step.
            d_before: where the gradients of the states before it go, if they are wanted.
            dx: where the gradient of x goes, if it is wanted.
            sums: where the sums go that the gradients of the parameters are made of; none where these are not wanted.
        """
        data, size, none = self.data, self.size, self._none
        data[self._x] = x
        if self._kept is not None:
            data[self._kept] = kept
        if self._dx is not None:
            data[self._dx] = self._no_dx if dx is None else dx
        for i, place in self._after:
            data[place] = after[i] + offsets[i]
        for i, place in self._before:
            data[place] = before[i] + offsets[i]
        data[Word.LAST] = 0 if d_before is None else -1
        data[Word.DY] = none if dy is None else dy
        for i, place, distance in self._cotangents:
            given = d_after[i]
            read = none if given is None else given + offsets[i]
            data[place] = write = self._no_state if d_before is None else d_before[i] + offsets[i]
            data[distance] = (read - write) // size
        for place, total in zip(self._sums, sums, strict=False):
            data[place] = total.data_ptr()
        self.run(self._names[dx is not None, bool(sums)])


def can_step(native: CompiledPlan, B: int, loops: Sequence[str] = ("inference",)) -> bool:
    """Whether a step of B rows needs nothing but addresses: no random numbers, no values made of parameters.

    Where several threads would share it, it is better run as a sequence.
    """
    plan, layouts = native.plan, [native.layouts[loop] for loop in loops]
    alone = B <= FEW or all(threads_for(layout.loop, native.real, 1, B, openmp.threads())[0] == 1 for layout in layouts)
    return alone and not plan.step.draws and all(layout.make is None for layout in layouts)
