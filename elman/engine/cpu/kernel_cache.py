"""Caches plans by cell and compiled kernels by plan, so that nothing is done twice."""

import hashlib
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import nn

from elman.engine.cpu.compiled_plan import CompiledPlan
from elman.engine.executor import Sizes
from elman.engine.module_state import HOOKS, Fingerprint, ModuleState, fingerprint, restore_module_state
from elman.engine.outputs import Form
from elman.engine.plan.planner import Plan, plan
from elman.engine.trace.capture import MARKERS, capture
from elman.engine.trace.errors import CannotCapture
from elman.engine.trace.values import shape_of

Shapes = tuple[tuple[str, tuple[int, ...]], ...]


class PlanResult(NamedTuple):
    """What a caller needs to know of a plan, in constants."""

    key: str
    reason: str  # why there is none
    output: Form = ()  # of an output that is no state of the cell's
    draws: bool = False


class CachedPlan(NamedTuple):
    """A plan and the living cells that it is of, all with the same equations, and how they stood then."""

    plan: Plan
    cells: "weakref.WeakKeyDictionary[nn.Module, ModuleState]"


MAX_REFUSALS = 8  # that have failed, after which a cell is no longer captured
MAX_PLANS = 64  # of one cell
CHANGING = (
    f"what its step reads beside its tensors has changed {MAX_PLANS} times; a number that changes so often can be a "
    "buffer"
)
_lock = threading.RLock()
_by_cell: "weakref.WeakKeyDictionary[nn.Module, dict[Any, dict[Fingerprint, PlanResult]]]" = weakref.WeakKeyDictionary()
_by_key: dict[str, CachedPlan] = {}
_compiled: dict[tuple[str, torch.dtype, bool], CompiledPlan] = {}


def plan_for(cell: nn.Module, shapes: Shapes, input_size: int, state_size: Sizes) -> PlanResult:
    """The key of a cell's plan, or why there is none.

    A cell is captured again when something that its step reads has changed: an attribute, a global, a variable of an
    enclosing function, a class attribute, a default argument. Where it changes all the time, that comes to an end.
    """
    if any(getattr(module, hooks) for module in cell.modules() for hooks in HOOKS):
        return PlanResult("", f"{cell._get_name()} cannot run on the native executor: hooks are called at every step")
    found = _by_cell.setdefault(cell, {}).setdefault((shapes, input_size, state_size), {})
    options = fingerprint(cell)
    if options not in found:
        with _lock:
            if options not in found:
                refused = [other for other in found.values() if other.reason]
                if len(refused) >= MAX_REFUSALS:
                    return refused[0]
                if len(found) >= MAX_PLANS:
                    return PlanResult("", f"{cell._get_name()} cannot run on the native executor: {CHANGING}")
                found[options] = _plan(cell, dict(shapes), input_size, state_size)
    return found[options]


def _plan(cell: nn.Module, shapes: dict[str, Any], input_size: int, state_size: Sizes) -> PlanResult:
    why = ""
    for marker in MARKERS:
        try:
            step, check = capture(cell, shapes, input_size, state_size, marker)
            made = plan(step)
            # Only now, for a plan tells which operation of which line it is that mixes rows.
            check()
        except CannotCapture as reason:
            why = f"{cell._get_name()} cannot run on the native executor: {reason}"
        except Exception as error:
            # The cell is none that anyone has thought of. It shall run, and be heard of.
            why = (
                f"{cell._get_name()} cannot run on the native executor, for an error of elman's own, which is worth a "
                f"report: {type(error).__name__}: {error}"
            )
        else:
            break
    else:
        return PlanResult("", why)
    inputs = [(node.name, shape_of(node)) for node in made.inputs]
    described = f"{step.graph} {step.single} {step.output} {step.output_states} {step.draws} {inputs}"
    key = hashlib.sha256(described.encode()).hexdigest()[:32]
    _by_key.setdefault(key, CachedPlan(made, weakref.WeakKeyDictionary())).cells[cell] = ModuleState.of(cell)
    return PlanResult(key, "", step.output, bool(step.draws))


def cached_plan(key: str) -> CachedPlan:
    """The plan of a key."""
    return _by_key[key]


@contextmanager
def restored_cell(key: str) -> Iterator[nn.Module | None]:
    """Within, a living cell of a plan stands as it did when it was planned: in training, say; None if none is left.

    Another may have the same equations now, and others when it is in evaluation.
    """
    for cell, stand in list(_by_key[key].cells.items()):
        with restore_module_state(cell, stand) as same:
            if same:
                yield cell
                return
    yield None


def cell_of(key: str) -> tuple[nn.Module, ModuleState] | None:
    """A living cell of a plan and how it stood; of several, one whose attributes still say the same."""
    cells = list(_by_key[key].cells.items())
    if len(cells) < 2:  # to look at attributes takes time, in every backward pass that is seen
        return cells[0] if cells else None
    return next((pair for pair in cells if fingerprint(pair[0]) == pair[1].fingerprint), cells[0])


def compiled_plan(key: str, dtype: torch.dtype, observed: bool = False) -> CompiledPlan:
    """The plan of a key, compiled for a dtype; with a backward loop that is `observed`, for those who ask."""
    found = _compiled.get((key, dtype, observed))
    if found is None:
        with _lock:
            found = _compiled.get((key, dtype, observed))
            if found is None:
                made = _by_key[key].plan
                name = f"{key} observed" if observed else key
                found = CompiledPlan(plan(made.step, observed) if observed else made, name, dtype)
                _compiled[key, dtype, observed] = found
    return found
