"""The folder of the embedded index: whose turn it is there, and which of its folders is searched.

INDEX_PATH/lock       held by the one process that has the index open
INDEX_PATH/current    names the folder that is searched; replaced atomically
INDEX_PATH/<model>-<dimension>-f<format>~<number>/
"""

import re
import shutil
from pathlib import Path

from services.diary.index.types import numbered_collection
from services.errors import DiaryUnavailable
from services.files import lock_file, write_atomic

_OURS = re.compile(r".+-\d+(-f\d+~\d+)?")  # the first format had neither a format nor a number


class IndexDirectory:
    """INDEX_PATH, held by this process until `close`."""

    def __init__(self, folder: Path, name: str) -> None:
        """Take the folder, making it when it is not there. Raises DiaryUnavailable.

        `name` is that of this embedding model's collections.
        """
        self.folder = folder
        self._name = name
        self._current = folder / "current"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = lock_file(folder / "lock")
        except BlockingIOError:
            raise DiaryUnavailable(f"the diary's index in {folder} is open in another process") from None
        except OSError as error:
            raise DiaryUnavailable(f"the diary's index can't be opened: {error}") from None

    def current(self) -> str:
        """The name of the folder that is searched; empty when there is none yet. Raises DiaryUnavailable."""
        try:
            return self._current.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return ""
        except (OSError, ValueError) as error:
            raise DiaryUnavailable(f"the diary's index can't be read: {error}") from None

    def own(self) -> Path:
        """The folder that is searched if it is this model's and of this format, else a fresh one."""
        current = self.current()
        return self.folder / current if current.startswith(f"{self._name}~") else self.fresh()

    def fresh(self, taken: str = "") -> Path:
        """A folder that is not there, numbered after `taken`."""
        path = self.folder / numbered_collection(self._name, taken)
        shutil.rmtree(path, ignore_errors=True)  # of a reindexing that was cut short
        return path

    def point_at(self, path: Path) -> None:
        """From now on `path` is what is searched, even after a crash. Raises DiaryUnavailable."""
        try:
            write_atomic(self._current, path.name)
        except OSError as error:
            raise DiaryUnavailable(f"the diary's index can't be switched: {error}") from None

    def sweep(self) -> None:
        """Delete the folders that are not searched: of a reindexing that was cut short, of older formats."""
        kept = self.current()
        for config in self.folder.glob("*/edge_config.json"):
            if config.parent.name != kept and _OURS.fullmatch(config.parent.name):
                shutil.rmtree(config.parent, ignore_errors=True)

    def close(self) -> None:
        """Let another process have it."""
        self._lock.release()
