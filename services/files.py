"""Files on disk: replacing one atomically, holding a lock, and what a damaged zip archive raises.

`services.deployment` imports this module on the system's Python, before anything is installed: on import it
needs the standard library alone.
"""

import fcntl
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from filelock import BaseFileLock

PART = ".part"  # how the name of an unfinished file or folder ends

# What zipfile and zlib raise for damaged bytes, found by setting every byte of an archive to every value.
# A wrong offset is a ValueError of the file underneath, an empty name an IndexError.
DAMAGED_ZIP = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    OSError,
    EOFError,
    ValueError,
    IndexError,
    RuntimeError,
    NotImplementedError,
)


def write_atomic(path: Path, content: str | bytes, *, mode: int | None = None) -> None:
    """Replace a file's content as `atomic_file` does; text is written as UTF-8."""
    with atomic_file(path, mode=mode) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def atomic_file(path: Path, *, mode: int | None = None) -> Iterator[BinaryIO]:
    """Open a file that takes the place of `path` at the end of the block, also across a power cut.

    Readers see the old content or the new, never a part. If the block raises, the old file stays.
    `mode` is the new file's; it is never readable by more than that. None: as the umask says. Raises OSError.
    """
    # The process id keeps processes apart that replace the same file at the same time.
    partial = path.with_name(f"{path.name}.{os.getpid()}{PART}")
    partial.unlink(missing_ok=True)
    try:
        created = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else 0o600)
        with open(created, "wb") as file:
            yield file
            file.flush()
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Flush a folder to disk: a new name survives a power cut only once its folder does."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def lock_file(path: Path) -> "BaseFileLock":
    """Lock a file until `release()` or the end of this process; a killed holder leaves no lock behind.

    Raises BlockingIOError when another process, or another caller in this one, holds the lock.
    """
    from filelock import FileLock, Timeout

    # The lock belongs to the process and not to one thread; a file whose presence is the lock (`soft`) would
    # outlive a killed holder.
    lock = FileLock(path, timeout=0, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        raise BlockingIOError(f"{path} is locked") from None
    return lock


def lock_descriptor(descriptor: int, *, wait: bool = False) -> None:
    """Lock an open file or folder until its last descriptor is closed. Raises BlockingIOError unless `wait`.

    For what `lock_file` can't do: the lock of a folder or of a file that holds data, one that a child process
    or exec inherits, and one on a Python without filelock.
    """
    fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
