"""Which commit of Ada's own repository this is."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]


def code_revision(environment: Mapping[str, str], root: Path = ROOT) -> str:
    """The commit, with `-dirty` where tracked files differ from it; empty without git or a checkout.

    An archive that is unpacked inside another repository has no commit: that one's says nothing of Ada.
    """
    if not (root / ".git").exists():
        return ""
    # A hook's GIT_DIR would name another repository.
    own = {name: value for name, value in environment.items() if not name.startswith("GIT_")}
    describe = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        git = subprocess.run(describe, capture_output=True, text=True, check=False, env=own)
    except OSError:
        return ""
    return git.stdout.strip()
