"""One deployment for all tests of this room, from nothing: without an adapter first, then with one."""

from collections.abc import Iterator

import pytest
from deployment import Deployment


@pytest.fixture(scope="session")
def ada() -> Iterator[Deployment]:
    """A fresh checkout with its images built and `make init` done."""
    ada = Deployment()
    try:
        done = ada.make("init")
        assert done.returncode == 0, done.stderr
        with ada.timed("images"):
            ada.compose("--profile", "train", "build")
            if ada.environment["QDRANT_IMAGE"].startswith("ada-test/"):
                _build_standin(ada)
        yield ada
    finally:
        ada.say("removing the project")
        ada.remove()


def _build_standin(ada: Deployment) -> None:
    ada.say("Qdrant's image can't be had here: NOT QDRANT but its stand-in (tests/compose/qdrant_standin.py)")
    ada.docker(
        *("build", "--quiet", "--tag", ada.environment["QDRANT_IMAGE"]),
        *("--build-arg", f"ADA_SERVICES_IMAGE={ada.environment['ADA_SERVICES_IMAGE']}"),
        *("--file", "tests/compose/qdrant_standin.Dockerfile", "tests/compose"),
    )
