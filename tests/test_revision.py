"""The commit that a manifest names is Ada's own, or none.

.venv/bin/python -m pytest tests/test_revision.py
"""

import os
import subprocess
from pathlib import Path

import pytest

from services.revision import code_revision


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository of one commit, and in it a folder that could be Ada's."""
    git(tmp_path, "init", "--quiet")
    (tmp_path / "ada").mkdir()
    (tmp_path / "ada" / "README.md").write_text("Ada")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "First")
    git(tmp_path, "tag", "v1")
    return tmp_path


def test_it_is_the_commit_and_says_what_differs_from_it(repository: Path):
    head = git(repository, "rev-parse", "HEAD")
    assert code_revision(os.environ, repository) == head
    (repository / "notes.txt").write_text("not tracked")
    assert code_revision(os.environ, repository) == head
    (repository / "ada" / "README.md").write_text("Ada, altered")
    assert code_revision(os.environ, repository) == f"{head}-dirty"


def test_an_archive_in_other_repo_has_none(repository: Path):
    """An archive of Ada, unpacked inside another repository."""
    assert code_revision(os.environ, repository / "ada") == ""


def test_a_hooks_variables_name_no_other_repository(
    repository: Path, tmp_path_factory: pytest.TempPathFactory
):
    other = tmp_path_factory.mktemp("other")
    git(other, "init", "--quiet")
    environment = {**os.environ, "GIT_DIR": str(other / ".git")}
    assert code_revision(environment, repository) == git(repository, "rev-parse", "HEAD")


def test_a_machine_without_git_has_none(repository: Path, tmp_path: Path):
    assert code_revision({"PATH": str(tmp_path)}, repository) == ""
