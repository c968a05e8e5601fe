"""Caches plans by cell and backend, and what backends compile by plan, so that nothing is done twice."""

import hashlib
import threading
import weakref
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn

from elman.engine.compiled.backend import Backend, CompiledLoop
from elman.engine.inputs import StateSize
from elman.engine.module_state import Fingerprint, ModuleState, fingerprint, has_hooks
from elman.engine.outputs import Form
from elman.engine.plan.captured import plan_cell
from elman.engine.plan.planner import Plan, plan
from elman.engine.precision import uncast
from elman.engine.replay import Conditions
from elman.engine.trace.errors import CannotCapture
from elman.engine.trace.values import shape_of

Shapes = tuple[tuple[str, tuple[int, ...]], ...]


class PlanResult(NamedTuple):
    """The plan of a cell, by its key, or why there is none.

    Attributes:
        key: of the plan.
        reason: why the cell cannot be compiled; "" if it can.
        output: the form of an output that is not a state of the cell.
        draws: the step draws random numbers.
    """

    key: str
    reason: str
    output: Form = ()
    draws: bool = False


class CachedPlan(NamedTuple):
    """A plan, its living cells (which have the same equations) with their states when captured, and its backend."""

    plan: Plan
    cells: "weakref.WeakKeyDictionary[nn.Module, ModuleState]"
    backend: Backend


MAX_REFUSALS = 8  # captures of one cell that have failed, after which it is not captured again
MAX_PLANS = 64  # of one cell
CHANGING = (
    f"attributes or globals that its step reads have changed {MAX_PLANS} times; make a number that changes often a "
    "buffer"
)
_lock = threading.RLock()
_by_cell: "weakref.WeakKeyDictionary[nn.Module, dict[Any, dict[Fingerprint, PlanResult]]]" = weakref.WeakKeyDictionary()
_by_key: dict[str, CachedPlan] = {}
_compiled: dict[tuple[str, torch.dtype, bool], CompiledLoop] = {}


def plan_for(cell: nn.Module, shapes: Shapes, input_size: int, state_size: StateSize, backend: Backend) -> PlanResult:
    """Find the plan of a cell; capture the cell if it is new.

    A cell is captured again when something that its step reads has changed: an attribute, a global, a variable of an
    enclosing function, a class attribute, a default argument. A cell that changes all the time is refused in the end.
    """
    if has_hooks(cell):
        return PlanResult("", f"{_refusal(cell, backend)}: hooks are called at every step")
    kind = shapes, input_size, state_size, backend.name, backend.variant
    results = _by_cell.setdefault(cell, {}).setdefault(kind, {})
    options = fingerprint(cell)
    if options not in results:
        with _lock:
            if options not in results:
                refused = [result for result in results.values() if result.reason]
                if len(refused) >= MAX_REFUSALS:
                    return refused[0]
                if len(results) >= MAX_PLANS:
                    return PlanResult("", f"{_refusal(cell, backend)}: {CHANGING}")
                results[options] = _plan(cell, dict(shapes), input_size, state_size, backend)
    return results[options]


def _plan(
    cell: nn.Module, shapes: dict[str, Any], input_size: int, state_size: StateSize, backend: Backend
) -> PlanResult:
    refused = _refusal(cell, backend)
    try:
        planned = plan_cell(cell, shapes, input_size, state_size, backend.check)
    except CannotCapture as refusal:
        return PlanResult("", f"{refused}: {refusal}")
    except Exception as error:
        # A cell that nobody has thought of must run all the same, and be reported.
        return PlanResult(
            "",
            f"{refused}, because of an internal error of elman; please report it: {type(error).__name__}: {error}",
        )
    step = planned.step
    inputs = [(node.name, shape_of(node)) for node in planned.inputs]
    description = f"{step.graph} {step.single} {step.output} {step.output_states} {step.draws} {inputs}"
    key = f"{backend.name}{backend.variant}-{hashlib.sha256(description.encode()).hexdigest()[:32]}"
    cached = _by_key.setdefault(key, CachedPlan(planned, weakref.WeakKeyDictionary(), backend))
    cached.cells[cell] = ModuleState.of(cell)
    return PlanResult(key, "", step.output, bool(step.draws))


def _refusal(cell: nn.Module, backend: Backend) -> str:
    return f"{cell._get_name()} cannot run on the {backend.name} executor"


def cached_plan(key: str) -> CachedPlan:
    """The plan of a key."""
    return _by_key[key]


def conditions_of(key: str) -> list[Conditions]:
    """The living cells of a plan, and how they were when they were captured; an unchanged one comes first."""
    cells, precision = list(_by_key[key].cells.items()), partial(uncast, _by_key[key].backend.device_type)
    if len(cells) > 1:  # a fingerprint takes time in every observed backward pass
        cells.sort(key=lambda pair: fingerprint(pair[0]) != pair[1].fingerprint)
    return [Conditions(cell, state, (), precision) for cell, state in cells]


def compiled_plan(key: str, dtype: torch.dtype, observed: bool = False) -> CompiledLoop:
    """The plan of a key, compiled for a dtype; `observed`: its backward loop writes what arrives at every state."""
    compiled = _compiled.get((key, dtype, observed))
    if compiled is None:
        with _lock:
            compiled = _compiled.get((key, dtype, observed))
            if compiled is None:
                source, _, backend = _by_key[key]
                name = f"{key} observed" if observed else key
                compiled = backend.compile(plan(source.step, observed) if observed else source, name, dtype)
                _compiled[key, dtype, observed] = compiled
    return compiled
