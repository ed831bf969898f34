"""Uploaded files: written to disk, as a multipart form or as the body itself, before they are read.

Temporary files are in TMPDIR; a file of 100 MB takes as much space there, and no memory. They have no name,
so that nothing of them remains when the process is killed.
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

SILENCE_S = 30.0  # between two pieces
DISK_CHECK_BYTES = 16 << 20  # the free space is checked each time that so much has arrived
RETRY_AFTER_S = 5.0  # for an import that finds no slot


@dataclass(frozen=True)
class Upload:
    """The file, at its beginning. Name and content type may be empty."""

    file: BinaryIO
    name: str
    content_type: str


@dataclass(frozen=True)
class UploadLimits:
    """Bytes and seconds of one upload, bytes that it must leave free on its disk, and bytes of one write."""

    max_bytes: int
    timeout_s: float
    free_bytes: int = MIN_FREE_BYTES
    write_bytes: int = 1 << 20


@dataclass(frozen=True)
class ImportLimits:
    """The limits of all imports together, and of each upload."""

    slots: "ImportSlots"
    upload: UploadLimits


class ImportSlots:
    """Limits how many imports run at once. One without a slot is refused before its body is read."""

    def __init__(self, max_imports: int, max_per_owner: int) -> None:
        self._max_imports = max_imports
        self._max_per_owner = max_per_owner
        self._running: Counter[str] = Counter()

    @contextmanager
    def slot(self, owner: str) -> Iterator[None]:
        """One import of this owner. Only for the event loop's thread. Raises RateLimited."""
        if self._running[owner] >= self._max_per_owner:
            raise RateLimited(
                f"{self._max_per_owner} of your imports are running (IMPORTS_AN_OWNER): "
                "send this one when they are done",
                RETRY_AFTER_S,
            )
        if self._running.total() >= self._max_imports:
            raise RateLimited(
                f"{self._max_imports} imports are running (IMPORTS_AT_ONCE): send this one again later",
                RETRY_AFTER_S,
            )
        self._running[owner] += 1
        try:
            yield
        finally:
            self._running[owner] -= 1
            if not self._running[owner]:
                del self._running[owner]


@asynccontextmanager
async def receive_upload(request: Request, limits: UploadLimits) -> AsyncIterator[Upload]:
    """The file in a request's body.

    Raises EntryRejected when there is none, LedgerFull, and HTTPException when it is too large or too slow.
    """
    limited = Request(request.scope, _LimitedUpload(request, limits).receive)
    with translated_errors():
        if request.headers.get("content-type", "").startswith("multipart/form-data"):
            async with limited.form(max_files=1, max_fields=10) as form:
                yield _file_in(list(form.values()))
        else:
            with tempfile.TemporaryFile(prefix="ada-") as file:
                await _write(limited.stream(), file, limits.write_bytes)
                yield Upload(file, "", request.headers.get("content-type", ""))


def _file_in(values: list[UploadFile | str]) -> Upload:
    for value in values:
        if isinstance(value, UploadFile):
            return Upload(value.file, value.filename or "", value.content_type or "")
    raise EntryRejected("the form contains no file: send one in the field `file`", "file")


async def _write(chunks: AsyncIterator[bytes], file: BinaryIO, write_bytes: int) -> None:
    buffer = bytearray()
    async for chunk in chunks:
        buffer += chunk
        if len(buffer) >= write_bytes:
            await run_in_threadpool(file.write, bytes(buffer))
            buffer.clear()
    file.write(buffer)
    file.seek(0)


class _LimitedUpload:
    """Receives a body, and raises when it is too large or too slow, or when the disk is full."""

    def __init__(self, request: Request, limits: UploadLimits) -> None:
        self._request = request
        self._limits = limits
        self._content_length = int(request.headers.get("content-length", 0))
        self._deadline = time.monotonic() + limits.timeout_s
        self._size = 0
        self._checked_at = -1  # the size at the last check of the disk

    async def receive(self) -> Message:
        if max(self._size, self._content_length) > self._limits.max_bytes:
            raise _too_large(self._limits.max_bytes)
        self._check_disk()
        try:
            async with asyncio.timeout(min(SILENCE_S, self._deadline - time.monotonic())):
                message = await self._request.receive()
        except TimeoutError:
            limit = f"{self._limits.timeout_s:g} s (IMPORT_TIMEOUT_S), or nothing arrived for {SILENCE_S:g} s"
            reason = f"the file did not arrive within {limit}: send it again, or in parts"
            raise HTTPException(408, reason, {"Connection": "close"}) from None
        self._size += len(message.get("body", b""))
        if self._size > self._limits.max_bytes:
            raise _too_large(self._limits.max_bytes)
        return message

    def _check_disk(self) -> None:
        if self._checked_at >= 0 and self._size - self._checked_at < DISK_CHECK_BYTES:
            return
        self._checked_at = self._size
        folder = tempfile.gettempdir()
        required = self._limits.free_bytes + max(self._content_length - self._size, 0)
        if shutil.disk_usage(folder).free < required:
            raise LedgerFull(
                f"the disk for uploads ({folder}) has less than {required >> 20} MiB free, nothing "
                "was imported: free some space"
            )


def _too_large(max_bytes: int) -> HTTPException:
    return HTTPException(413, f"the file is larger than {max_bytes >> 20} MiB (IMPORT_MAX_BYTES): split it")


@contextmanager
def translated_errors() -> Iterator[None]:
    """Raises LedgerFull for a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        folder = tempfile.gettempdir()
        raise LedgerFull(
            f"the disk for uploads ({folder}) is full, nothing was imported: free some space"
        ) from error
