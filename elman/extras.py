"""Packages that only parts of elman need, and what to install for a part whose packages are missing."""

from collections.abc import Iterator
from contextlib import contextmanager

from elman.errors import MissingPackage

# The smallest extra in pyproject.toml that has a package, by the name under which it is imported.
SMALLEST = {
    "matplotlib": "draw",
    "tokenizers": "text",
    "sacrebleu": "text",
    "jiwer": "speech",
    "soundfile": "speech",
    "mido": "music",
    "onnx": "export",
    "onnxruntime": "export",
    "onnxscript": "export",
    "tensorboard": "tensorboard",
    "huggingface_hub": "hub",
    "pyarrow": "stream",
    "fastapi": "serve",
    "uvicorn": "serve",
    "starlette": "serve",
    "optuna": "tune",
    "ray": "ray",
    "holidays": "forecast",
    "statsforecast": "statsforecast",
    "aeon": "aeon",
}


@contextmanager
def needs(extra: str, part: str) -> Iterator[None]:
    """Import third-party packages within; one that is missing is named together with the extra that brings it.

    Args:
        extra: name of an extra in pyproject.toml ("draw", "tasks") for packages that no smaller extra has.
        part: what needs the package, for the message.

    Raises:
        MissingPackage: if a package is missing.

    >>> with needs("draw", "elman.draw"):
    ...     import no_such_package
    Traceback (most recent call last):
    elman.errors.MissingPackage: elman.draw needs no_such_package: pip install 'elman[draw]'
    """
    try:
        yield
    except MissingPackage:
        raise
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "elman"):
            raise
        message = f"{part} needs {package}: pip install 'elman[{SMALLEST.get(package, extra)}]'"
        raise MissingPackage(message, name=error.name, path=error.path) from None
