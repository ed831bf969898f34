"""The client as a package: used in another folder, without this repository."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

CLIENT = Path(__file__).parents[2] / "services" / "client"
PROGRAM = """
from services.client import AdaChat, InferenceConfig
import services.client
try:
    AdaChat(InferenceConfig(base_url="http://127.0.0.1:9")).generate_response("Hello?")
except Exception as error:
    print(type(error).__name__, services.client.__file__)
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `pip install ./services/client` puts into an environment."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=CLIENT, check=True, capture_output=True, timeout=60)
    (built,) = folder.glob("*.whl")
    installed = folder / "installed"
    with zipfile.ZipFile(built) as archive:
        archive.extractall(installed)
    return installed


def run(package: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python in `folder`, with the package and without the repository."""
    environment = {**os.environ, "PYTHONPATH": str(package)}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_ada_chat_is_imported_and_says_that_nobody_is_there(package: Path, tmp_path: Path):
    done = run(package, tmp_path, "-c", PROGRAM)
    assert done.stderr == ""
    name, file = done.stdout.split()
    assert name == "AdaClientError"
    assert file.startswith(str(package)), "the repository's own files were imported"


def test_the_terminal_chat_starts(package: Path, tmp_path: Path):
    done = run(package, tmp_path, "-m", "services.client", "--url", "http://127.0.0.1:9")
    assert done.returncode == 1
    assert done.stderr.startswith("chat: no Ada at")
