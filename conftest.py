"""Configures the collection of doctests in the package; the fixtures are in tests/conftest.py."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("triton") else ["elman/engine/gpu"]
