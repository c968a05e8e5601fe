"""Configures the collection of doctests in the package; the fixtures are in tests/conftest.py."""

from importlib.util import find_spec

NEEDS = {"elman/engine/gpu": "triton", "elman/tune/ray_search.py": "ray"}  # modules that import an optional package
collect_ignore = [path for path, package in NEEDS.items() if not find_spec(package)]
