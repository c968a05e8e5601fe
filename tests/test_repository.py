"""Files for contributors: templates, citation, and the commands of CONTRIBUTING.md."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("file", "schema"),
    [
        (".github/ISSUE_TEMPLATE/bug_report.yml", "github-issue-forms"),
        (".github/ISSUE_TEMPLATE/feature_request.yml", "github-issue-forms"),
        (".github/ISSUE_TEMPLATE/config.yml", "github-issue-config"),
    ],
)
def test_files_that_others_read_have_their_schema(file: str, schema: str) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", str(ROOT / file)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_issue_template_is_checked() -> None:
    names = {path.name for path in (ROOT / ".github" / "ISSUE_TEMPLATE").iterdir()}
    assert names == {"bug_report.yml", "feature_request.yml", "config.yml"}


def test_bug_reports_ask_for_the_environment() -> None:
    form = (ROOT / ".github" / "ISSUE_TEMPLATE" / "bug_report.yml").read_text(encoding="utf-8")
    assert "Output of `elman env`" in form
    assert "python -m elman.environment" in form
