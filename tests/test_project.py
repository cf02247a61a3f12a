"""The same checks everywhere: ``bash run.sh test``, pre-commit and the public workflow; versions agree."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest

from tests.conftest import ROOT

yaml: Any = pytest.importorskip("yaml")


def settings(name: str) -> Any:
    """A YAML file of the project."""
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def test_the_workflow_calls_what_a_user_calls() -> None:
    jobs = settings(".github/workflows/test.yml")["jobs"]
    steps = [step for job in jobs.values() for step in job["steps"]]
    assert [step["run"] for step in steps if "run" in step] == ["bash run.sh test"]
    (version,) = [step["with"]["python-version"] for step in steps if "python-version" in step.get("with", {})]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["requires-python"] == f">={version}"


def test_pre_commit_has_the_linters_of_the_tests() -> None:
    body = (ROOT / "run.sh").read_text(encoding="utf-8").partition("run_tests() {")[2].partition("\n}")[0]
    linters = [command for command in re.findall(r'"\$PYTHON" -m (.+)', body) if not command.startswith("pytest")]
    repositories = settings(".pre-commit-config.yaml")["repos"]
    assert [repository["repo"] for repository in repositories] == ["local"], "nothing is fetched"
    hooks = repositories[0]["hooks"]
    assert linters and [hook["entry"] for hook in hooks] == [f".venv/bin/python -m {linter}" for linter in linters]
    assert not any(hook["pass_filenames"] for hook in hooks), "the linters see the whole tree, as in the tests"


def test_the_changelog_has_the_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[0] == "Unreleased" and version in headings
