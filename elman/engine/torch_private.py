"""All undocumented names of torch that elman uses.

The test suite checked each on torch 2.11.0, 2.13.0 and 2.14.1.
`tests/test_structure.py` fails if another file uses a name of torch that begins with an underscore.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch._C import DispatchKey as DispatchKey
from torch.autograd import forward_ad
from torch.nn.modules import module as _module
from torch.torch_version import TorchVersion
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten as tree_flatten
from torch.utils._pytree import tree_leaves as tree_leaves
from torch.utils._pytree import tree_map as tree_map
from torch.utils._pytree import tree_map_only as tree_map_only
from torch.utils._pytree import tree_structure as tree_structure
from torch.utils._pytree import tree_unflatten as tree_unflatten


class DispatchMode(TorchDispatchMode):
    """A dispatch mode whose first operation does not import the whole of torch.compile."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


# Contexts.

#: disables dispatch modes and function modes
without_modes: Callable[[], AbstractContextManager[Any]] = _disable_current_modes
#: disables `__torch_function__` of modes and subclasses
disable_torch_function: Callable[[], AbstractContextManager[Any]] = torch._C.DisableTorchFunction
#: enables it again, within `disable_torch_function`
enable_torch_function: Callable[[], AbstractContextManager[Any]] = torch._C._EnableTorchFunction
#: calls operators below autograd, as implementations of operators do
below_autograd: Callable[[], AbstractContextManager[Any]] = torch._C._AutoDispatchBelowAutograd


def without_transforms() -> AbstractContextManager[Any]:
    """A context in which no transform of torch.func is active."""
    # Imported late, since it imports sympy.
    from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack

    return temporarily_clear_interpreter_stack()


def above_autograd() -> AbstractContextManager[Any]:
    """A context in which autograd records operations, even within the implementation of an operator."""
    include, exclude = torch._C._dispatch_tls_local_include_set(), torch._C._dispatch_tls_local_exclude_set()
    for key in (
        DispatchKey.AutogradCPU,
        DispatchKey.AutogradCUDA,
        DispatchKey.AutogradOther,
        DispatchKey.ADInplaceOrView,
    ):
        exclude = exclude.remove(key)
    return torch._C._ForceDispatchKeyGuard(include, exclude)


# Questions.


def in_torch_func() -> bool:
    """Whether a transform of torch.func (vmap, grad, jvp) is active."""
    return torch._C._functorch.peek_interpreter_stack() is not None


def is_vmapped(tensor: torch.Tensor) -> bool:
    """Whether a tensor is batched by torch.autograd.grad(is_grads_batched=True)."""
    return torch._C._functorch.is_legacy_batchedtensor(tensor)


def in_forward_mode() -> bool:
    """Whether forward-mode differentiation is active."""
    return forward_ad._current_level >= 0


def is_transformed(tensors: Sequence[torch.Tensor]) -> bool:
    """Return True if torch.func or forward-mode differentiation is active for the tensors."""
    is_dual = in_forward_mode() and any(forward_ad.unpack_dual(t).tangent is not None for t in tensors)
    return is_dual or in_torch_func()


def in_dispatch_mode() -> bool:
    """Whether a dispatch mode is active."""
    return torch._C._len_torch_dispatch_stack() > 0


def in_function_mode() -> bool:
    """Whether a function mode is active."""
    return torch._C._len_torch_function_stack() > 0


def is_profiling() -> bool:
    """Whether torch's profiler is active."""
    return torch._C._autograd._profiler_enabled()


def is_tracing() -> bool:
    """Whether torch.jit.trace is active."""
    return bool(torch._C._is_tracing())


def is_exporting() -> bool:
    """Whether torch.export is active. `torch.compiler.is_exporting` is true under torch.compile, too, in torch 2.11."""
    return torch.compiler._is_exporting_flag


def assume_constant_result(function: Callable[..., Any]) -> None:
    """Do what `torch.compiler.assume_constant_result` does, without importing the compiler."""
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]


def is_autocast_available(device: str) -> bool:
    """Whether a kind of device has autocast."""
    return torch.amp.is_autocast_available(device)


assume_constant_result(is_autocast_available)  # torch 2.11 cannot trace it


def is_autocasting() -> bool:
    """Whether autocast is on for any kind of device."""
    return torch._C._is_any_autocast_enabled()


def allows_saved_tensor_hooks() -> bool:
    """Whether hooks on saved tensors may be installed now."""
    return bool(torch._C._autograd._saved_tensors_hooks_is_enabled())  # type: ignore[attr-defined]


def has_global_forward_hooks() -> bool:
    """Whether hooks on the forward of all modules are installed."""
    return bool(_module._global_forward_hooks or _module._global_forward_pre_hooks)


def backward_pass() -> int:
    """The id of the backward pass that is running in this thread; -1 if there is none."""
    return torch._C._current_graph_task_id()


def keeps_graph() -> bool:
    """Return True if the backward pass that is running in this thread has retain_graph=True."""
    return torch._C._autograd._get_current_graph_task_keep_graph()


def mkldnn_has_bfloat16() -> bool:
    """Return True if oneDNN computes in bfloat16 on this CPU, or torch is built without oneDNN and computes itself."""
    return not torch.backends.mkldnn.is_available() or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


# Actions.


def specialized(size: int) -> int:
    """Return a size as an int: if it is a symbol, the compiler that traces this specializes it here."""
    return len([0] * size)


def fused_rnn(name: str) -> Callable[..., tuple[torch.Tensor, ...]]:
    """The function that runs layers of torch.nn over a sequence: "lstm", "gru", "rnn_tanh" or "rnn_relu"."""
    function: Callable[..., tuple[torch.Tensor, ...]] = getattr(torch._VF, name)
    return function


def after_backward(function: Callable[[], None]) -> None:
    """Call a function at the end of the running backward pass."""
    torch.autograd.Variable._execution_engine.queue_callback(function)


def set_version(tensor: torch.Tensor, version: int) -> None:
    """Set the version counter of a tensor, by which autograd detects writes in place."""
    torch._C._autograd._unsafe_set_version_counter((tensor,), (version,))


def scan(
    body: Callable[..., Sequence[torch.Tensor]],
    initial: Sequence[torch.Tensor],
    scanned: Sequence[torch.Tensor],
    constant: tuple[torch.Tensor | torch.SymInt, ...],
) -> list[torch.Tensor]:
    """Call torch's operator for loops: `body(*carried, *rows, *constant)` returns the values carried on, and outputs.

    Args:
        body: of the loop.
        initial: the values carried into the first step.
        scanned: (T, ...), whose rows the steps read.
        constant: other tensors and sizes that the steps read.

    Returns:
        The values carried out of the last step, and the outputs (T, ...).
    """
    # Imported late, since it imports sympy. The operator itself, since torch's `scan` has torch.compile trace the body.
    from torch._higher_order_ops.scan import scan_op

    if TorchVersion(torch.__version__) < "2.13":
        # There, the gradient of a carried value whose initial value has none, as zeros, is lost between steps: let all
        # initial values depend on the other inputs, with a gradient of zeros.
        inputs = [value.sum() for value in (*constant, *scanned) if isinstance(value, torch.Tensor)]
        total, never = sum(inputs[1:], inputs[0]), torch.zeros((), dtype=torch.bool, device=inputs[0].device)
        initial = [torch.where(never, total.to(value.dtype), value) for value in initial]
    return list(scan_op(body, list(initial), list(scanned), constant))
