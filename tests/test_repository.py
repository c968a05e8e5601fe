"""Files for contributors: templates, citation, and the commands of CONTRIBUTING.md."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("file", "schema"),
    [
        (".github/ISSUE_TEMPLATE/bug_report.yml", "github-issue-forms"),
        (".github/ISSUE_TEMPLATE/feature_request.yml", "github-issue-forms"),
        (".github/ISSUE_TEMPLATE/config.yml", "github-issue-config"),
        ("CITATION.cff", "citation-file-format"),
    ],
)
def test_files_that_others_read_have_their_schema(file: str, schema: str) -> None:
    pytest.importorskip("check_jsonschema")  # a tool, which is not installed on the lowest versions
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


def test_the_citation_agrees_with_the_project() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert citation["license"] == project["license"]
    assert citation["keywords"] == project["keywords"]
    assert "version" not in citation  # which is in elman/__init__.py alone


def targets(text: str) -> list[str]:
    """The targets of the `make` commands that stand at the beginning of a line, or after an environment variable."""
    return re.findall(r"^ *(?:\w+=\w+ )?make ([\w-]+)", text, re.MULTILINE)


def test_contributing_lists_the_commands_of_the_makefile_and_ci() -> None:
    listed = targets((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony
    assert set(phony[1].split()) - {"demo", "clean"} == set(listed)
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in listed)
    ci = targets((ROOT / ".ci" / "run").read_text(encoding="utf-8"))
    assert list(dict.fromkeys(ci)) == [target for target in listed if target not in ("format", "test-all")]


def test_pre_commit_runs_commands_of_contributing() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    entries = {hook["entry"] for repository in config["repos"] for hook in repository["hooks"]}
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert entries == {"make lint", "make types"}
    assert "pre-commit install` runs `make lint` and `make types`" in page


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "CODE_OF_CONDUCT.md", "SECURITY.md"])
def test_files_that_a_page_names_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    paths = re.findall(r"\]\(([\w./]+)\)", text) + re.findall(
        r"`((?:elman|tests|docs|benchmarks|tools|\.ci)/[\w./]*)`", text
    )
    commands = re.findall(r"pytest ((?:tests|elman)/[\w./]+\.py)", text)
    missing = [path for path in paths + commands if "my_" not in path and not (ROOT / path).exists()]
    assert missing == []
