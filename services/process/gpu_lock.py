"""The GPU lock: the trainer and the model server each hold it while they use the card.

Together they need more than a 16 GB card has, and the second process would make the first run out of memory.
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
    """Return the lock's path: ADA_GPU_LOCK if it is set, else the default on a GPU and None without one."""
    path = environment.get(VARIABLE, DEFAULT if on_gpu else "")
    return Path(path).absolute() if path else None


def hold(path: Path, holder: str) -> None:
    """Hold the card until this process, or the program it replaces itself by with exec, has ended.

    `holder` names the process in the error of the next one. Raises ConfigError naming the present holder. The
    kernel owns the lock, so a killed holder leaves none behind.
    """
    file = _opened(path)
    try:
        lock_descriptor(file)  # and not lock_file: exec must inherit it
    except BlockingIOError:
        present = os.pread(file, 200, 0).decode(errors="replace").strip() or "another process"
        os.close(file)
        raise ConfigError(
            f"the GPU is in use by {present}: wait, or end it first "
            f"(`docker compose stop vllm`); two on one large card need {VARIABLE}= (empty) for both"
        ) from None
    os.ftruncate(file, 0)
    os.pwrite(file, f"the {holder} since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC\n".encode(), 0)
    os.set_inheritable(file, True)


def _opened(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT)
        if os.fstat(file).st_uid == os.geteuid():
            os.fchmod(file, 0o666)  # whatever the umask: the other process runs as another user
        return file
    except OSError as error:
        raise ConfigError(f"{VARIABLE} {path}: {error.strerror}: give the path of a file") from None
