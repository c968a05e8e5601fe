"""The tasks: one folder each, one line in `TASKS`."""

from importlib import import_module
from types import ModuleType

TASKS = ("text",)


def command_of(task: str) -> ModuleType:
    """The module of a task's `train`, `evaluate`, `generate`, `flow`, `network`, `show`; it imports nothing heavy."""
    return import_module(f"elman.tasks.{task}.command")
