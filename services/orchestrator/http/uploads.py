"""A file that is sent, as multipart form or as the body itself, on disk before anything is read from it.

Temporary files lie where TMPDIR says; a file of 100 MB takes as much room there, and none in memory. They
have no name, so that nothing of them is left when the process is killed.
"""

import asyncio
import errno
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from fastapi import HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.types import Message

from services.diary.ledger.ledger import MIN_FREE_BYTES
from services.errors import EntryRejected, LedgerFull, RateLimited

PIECE = 1 << 20  # bytes written to disk at a time
SILENCE_S = 30.0  # between two pieces
LOOK_EVERY = 16 << 20  # bytes after which the disk is looked at again
RETRY_AFTER_S = 5.0  # for an import that finds no slot


@dataclass(frozen=True)
class Upload:
    """The file, from its beginning; name and content type may be empty."""

    file: BinaryIO
    name: str
    content_type: str


@dataclass(frozen=True)
class UploadLimits:
    """Bytes and seconds that one upload may take, and bytes that it must leave free on its disk."""

    most_bytes: int
    timeout_s: float
    free_bytes: int = MIN_FREE_BYTES


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


@asynccontextmanager
async def upload(request: Request, limits: UploadLimits) -> AsyncIterator[Upload]:
    """The file in a request's body.

    Raises EntryRejected when there is none, LedgerFull, and HTTPException when it is too large or too slow.
    """
    limited = Request(request.scope, _Limited(request, limits).receive)
    with _disk_full_named():
        if request.headers.get("content-type", "").startswith("multipart/form-data"):
            async with limited.form(max_files=1, max_fields=10) as form:
                yield _of_form(list(form.values()))
        else:
            with tempfile.TemporaryFile(prefix="ada-") as file:
                await _write(limited.stream(), file)
                yield Upload(file, "", request.headers.get("content-type", ""))


def _of_form(values: list[UploadFile | str]) -> Upload:
    for value in values:
        if isinstance(value, UploadFile):
            return Upload(value.file, value.filename or "", value.content_type or "")
    raise EntryRejected("the form holds no file: send one in the field `file`", "file")


async def _write(pieces: AsyncIterator[bytes], file: BinaryIO) -> None:
    held = bytearray()
    async for piece in pieces:
        held += piece
        if len(held) >= PIECE:
            await run_in_threadpool(file.write, bytes(held))
            held.clear()
    file.write(held)
    file.seek(0)


class _Limited:
    """A request's body that ends with an error when it is too large, too slow, or finds no room."""

    def __init__(self, request: Request, limits: UploadLimits) -> None:
        self._request = request
        self._limits = limits
        self._told = int(request.headers.get("content-length", 0))
        self._ends = time.monotonic() + limits.timeout_s
        self._size = 0
        self._looked_at = -1  # bytes that had come when the disk was looked at

    async def receive(self) -> Message:
        if max(self._size, self._told) > self._limits.most_bytes:
            raise _too_large(self._limits.most_bytes)
        self._look_at_disk()
        try:
            async with asyncio.timeout(min(SILENCE_S, self._ends - time.monotonic())):
                message = await self._request.receive()
        except TimeoutError:
            within = f"{self._limits.timeout_s:g} s (IMPORT_TIMEOUT_S), or {SILENCE_S:g} s passed in silence"
            reason = f"the file did not come within {within}: send it again, or in parts"
            raise HTTPException(408, reason, {"Connection": "close"}) from None
        self._size += len(message.get("body", b""))
        if self._size > self._limits.most_bytes:
            raise _too_large(self._limits.most_bytes)
        return message

    def _look_at_disk(self) -> None:
        if self._looked_at >= 0 and self._size - self._looked_at < LOOK_EVERY:
            return
        self._looked_at = self._size
        folder = tempfile.gettempdir()
        missing = self._limits.free_bytes + max(self._told - self._size, 0)
        if shutil.disk_usage(folder).free < missing:
            raise LedgerFull(
                f"the disk for uploads ({folder}) has less than {missing >> 20} MiB free, nothing was taken: "
                "free some"
            )


def _too_large(most: int) -> HTTPException:
    return HTTPException(413, f"the file is larger than {most >> 20} MiB (IMPORT_MAX_BYTES): split it")


@contextmanager
def _disk_full_named() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        folder = tempfile.gettempdir()
        raise LedgerFull(f"the disk for uploads ({folder}) is full, nothing was taken: free some") from error
