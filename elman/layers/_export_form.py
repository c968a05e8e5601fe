"""The form in which torch.export exports layers."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

from elman.engine.torch_private import assume_constant_result, is_exporting

#: "scan": torch's operator for loops. "operator": `elman::exported_layer` with a description of the layer, from which
#: another process builds it. "reference": the same operator with a reference to the layer, for this process alone.
#: "probe": the loop executor, without torch.export too, to find out what a layer returns.
ExportForm = Literal["scan", "operator", "reference", "probe"]

_form: ContextVar[ExportForm] = ContextVar("form", default="scan")


@contextmanager
def exporting_as(form: ExportForm) -> Iterator[None]:
    """A context in which layers are exported in this form."""
    token = _form.set(form)
    try:
        yield
    finally:
        _form.reset(token)


def export_form() -> ExportForm | None:
    """Return the form of layers if torch.export is active, else None."""
    form = _form.get()
    return form if form == "probe" or is_exporting() else None


# torch.compile, which traces with strict=True, calls the function and takes the result as a constant.
assume_constant_result(export_form)
