"""Reading an adapter's folder as another user than the one who trained it.

Whatever else can be wrong with a folder: tests/trainer, tests/compose.

.venv/bin/python -m pytest tests/persona/test_manifest.py
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.errors import ConfigError
from services.persona.manifest import MANIFEST_NAME, read_manifest

ROOT = Path(__file__).parents[2]
AS_NOBODY = """
import os, sys
from pathlib import Path
from services.errors import ConfigError
from services.persona.manifest import read_manifest
os.setuid(65534)
try:
    read_manifest(Path(sys.argv[1]))
except ConfigError as error:
    print(error)
"""


def test_a_folder_without_a_manifest_is_no_adapter_yet(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"no adapter in .*: run `make train`"):
        read_manifest(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("closed", ["folder", "file"])
def test_what_may_not_be_read_is_no_missing_adapter(closed: str):
    # pytest's own folders are closed to others, so this one lies elsewhere.
    made = subprocess.run(
        ["mktemp", "--directory"], capture_output=True, text=True, check=True
    ).stdout.strip()
    run = Path(made) / "run"
    try:
        run.mkdir()
        (run / MANIFEST_NAME).write_text("{}")
        Path(made).chmod(0o755)
        (run if closed == "folder" else run / MANIFEST_NAME).chmod(0o700 if closed == "folder" else 0o600)
        message = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, run], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert message.stdout.strip().endswith("may not be read by user 65534: chmod -R a+rX outputs")
    finally:
        subprocess.run(["rm", "-r", made], check=True)
