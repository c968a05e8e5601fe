"""A trained model as a web service: `elman serve` in Python.

>>> import elman, tempfile
>>> from fastapi.testclient import TestClient
>>> reader = elman.tasks.image.fit(None, tempfile.mkdtemp(), epochs=1, hidden=8)      # scikit-learn's digits
>>> client = TestClient(elman.serve.create_app(reader))
>>> client.post("/predict", json={"inputs": [[[0.0] * 8] * 8]}).json()["predictions"][0].keys()
dict_keys(['input', 'label', 'probability'])
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from os import PathLike

    from fastapi import FastAPI

    from elman.tasks.api import Trained

__all__ = ["create_app"]


def create_app(run: "str | PathLike[str] | Trained", accelerator: str | None = None, **options: Any) -> "FastAPI":
    """Make an ASGI application that serves a trained model, for an ASGI server, a test client, or to be mounted.

    Needs `pip install 'elman[serve]'`. The application keeps sessions, and requests that wait, in its process: run one
    process for each application. docs/serve.md lists the endpoints.

    Args:
        run: a run folder, or a trained model, which then must not be used elsewhere at the same time.
        accelerator: the device of the model, as for `elman.tasks.load`.
        options: limits, as the options of `elman serve` without `--host` and `--port`: `max_batch=32`; and options for
            reading data and for decoding that differ from those of the training: `beam=4`.

    Returns:
        The application.

    Raises:
        BadInput: if there is no run, or no such device; if a part of the run is missing or damaged.
        MissingPackage: without the packages of the extra `serve`.
        TypeError: for an unknown option.
        ValueError: for a value that an option cannot have.

    >>> import elman, tempfile
    >>> reader = elman.tasks.image.fit(None, tempfile.mkdtemp(), epochs=1, hidden=8)
    >>> elman.serve.create_app(reader, max_inputs=10).title
    'elman: an image classifier'
    """
    from elman.extras import needs

    with needs("serve", "elman.serve"):
        from elman.serve.app import create_app

        return create_app(run, accelerator, options)
