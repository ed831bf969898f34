"""The directory of the embedded index: which process has it open, and which subdirectory is searched.

INDEX_PATH/lock       locked by the one process that has the index open
INDEX_PATH/current    the name of the subdirectory that is searched; replaced atomically
INDEX_PATH/<model>-<dimension>-f<format>~<number>/
"""

import re
import shutil
from pathlib import Path

from services.diary.index.collection_names import numbered_collection
from services.errors import DiaryUnavailable
from services.files import lock_file, write_atomic

_INDEX_NAME = re.compile(r".+-\d+(-f\d+~\d+)?")  # the first format had neither a format nor a number


class IndexDirectory:
    """INDEX_PATH, locked by this process until `close`."""

    def __init__(self, folder: Path, name: str) -> None:
        """Lock `folder`, and create it if it is missing. Raises DiaryUnavailable.

        `name` is the collection name of the embedding model.
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
        """The name of the subdirectory that is searched; "" when there is none. Raises DiaryUnavailable."""
        try:
            return self._current.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return ""
        except (OSError, ValueError) as error:
            raise DiaryUnavailable(f"the diary's index can't be read: {error}") from None

    def own(self) -> Path:
        """The subdirectory that is searched if it has this model and format, else a new one."""
        current = self.current()
        return self.folder / current if current.startswith(f"{self._name}~") else self.fresh()

    def fresh(self, previous: str = "") -> Path:
        """A subdirectory that does not exist, with the number after `previous`."""
        path = self.folder / numbered_collection(self._name, previous)
        shutil.rmtree(path, ignore_errors=True)  # left by a reindexing that was interrupted
        return path

    def point_at(self, path: Path) -> None:
        """Search `path` from now on, even after a crash. Raises DiaryUnavailable."""
        try:
            write_atomic(self._current, path.name)
        except OSError as error:
            raise DiaryUnavailable(f"the diary's index can't be switched: {error}") from None

    def delete_others(self) -> None:
        """Delete what is not searched: subdirectories of interrupted reindexing and of older formats."""
        current = self.current()
        for config in self.folder.glob("*/edge_config.json"):
            if config.parent.name != current and _INDEX_NAME.fullmatch(config.parent.name):
                shutil.rmtree(config.parent, ignore_errors=True)

    def close(self) -> None:
        """Release the lock."""
        self._lock.release()
