"""One card, one user: trainer and server each hold a lock while they use it.

Together they need more than a 16 GB card has, and whoever comes second would take the first one down.
"""

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from services.errors import ConfigError
from services.files import lock_descriptor

VARIABLE = "ADA_GPU_LOCK"
DEFAULT = ".cache/gpu.lock"


def lock_path(environment: Mapping[str, str], *, on_gpu: bool) -> Path | None:
    """Where the lock is: as the environment says, else the default on a GPU and nowhere without one."""
    path = environment.get(VARIABLE, DEFAULT if on_gpu else "")
    return Path(path).absolute() if path else None


def hold(path: Path, who: str) -> None:
    """Hold the card as `who` until this process and what it becomes by exec have ended.

    Raises ConfigError naming who has it. The lock is the kernel's, so a killed holder leaves none behind.
    """
    file = _opened(path)
    try:
        lock_descriptor(file)  # and not lock_file: exec must inherit it
    except BlockingIOError:
        holder = os.pread(file, 200, 0).decode(errors="replace").strip() or "somebody"
        os.close(file)
        raise ConfigError(
            f"the GPU is in use by {holder}: wait, or end that first "
            f"(`docker compose stop vllm`); two on one large card need {VARIABLE}= (empty) for both"
        ) from None
    os.ftruncate(file, 0)
    os.pwrite(file, f"the {who} since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC\n".encode(), 0)
    os.set_inheritable(file, True)


def _opened(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT)
        if os.fstat(file).st_uid == os.geteuid():
            os.fchmod(file, 0o666)  # whatever the umask: the other one runs as another user
        return file
    except OSError as error:
        raise ConfigError(f"{VARIABLE} {path}: {error.strerror}: give the path of a file") from None
