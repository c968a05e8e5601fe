"""The OpenAPI schema says what the service does: schemathesis sends what it allows and what it does not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks

from elman.serve import create_app
from elman.tasks import Trained
from tests.tasks.test_damaged import DATA

LIMITS: dict[str, Any] = {"max_length": 20, "max_sessions": 3, "max_size": 0.1}
# A prompt or a file that the schema allows may still be unusable: a text of unknown characters, no image.
EXCLUDED = "positive_data_acceptance"


@pytest.mark.parametrize("task", ["text", *DATA])
def test_the_service_is_as_its_schema_says(runs: Callable[[str], Trained], trained: Path, task: str) -> None:
    app = create_app(trained if task == "text" else runs(task), **LIMITS)
    load_all_checks()
    excluded = [CHECKS.get_one(EXCLUDED)]
    results: Any = schemathesis.openapi.from_asgi("/openapi.json", app).get_all_operations()
    for operation in (result.ok() for result in results):
        modes = list(GenerationMode) if list(operation.body) else [GenerationMode.POSITIVE]
        for mode in modes:

            @settings(max_examples=5, suppress_health_check=list(HealthCheck))
            @given(case=operation.as_strategy(generation_mode=mode))
            def check(case: Any) -> None:
                case.call_and_validate(excluded_checks=excluded)

            check()
