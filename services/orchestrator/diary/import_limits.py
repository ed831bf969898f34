"""How many imports are taken at once: of each owner, and in all."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from services.errors import RateLimited
from services.orchestrator.diary.uploads import UploadLimits

RETRY_AFTER_S = 5.0


@dataclass(frozen=True)
class ImportLimits:
    """What all imports together, and each of them, may take."""

    slots: "ImportSlots"
    upload: UploadLimits


class ImportSlots:
    """Hands out slots; whoever finds none is refused at once, before the body is read, and queues nothing."""

    def __init__(self, most: int, most_an_owner: int) -> None:
        self._most = most
        self._most_an_owner = most_an_owner
        self._taken: Counter[str] = Counter()

    @contextmanager
    def slot(self, owner: str) -> Iterator[None]:
        """One import of this owner's. For the event loop's thread. Raises TooMuch."""
        if self._taken[owner] >= self._most_an_owner:
            raise RateLimited(
                f"{self._most_an_owner} imports of yours are being read (IMPORTS_AN_OWNER): "
                "send this one when they are done",
                RETRY_AFTER_S,
            )
        if self._taken.total() >= self._most:
            raise RateLimited(
                f"{self._most} imports are being read (IMPORTS_AT_ONCE): send this one again", RETRY_AFTER_S
            )
        self._taken[owner] += 1
        try:
            yield
        finally:
            self._taken[owner] -= 1
            if not self._taken[owner]:
                del self._taken[owner]
