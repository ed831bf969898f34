"""A file that is sent, as multipart form or as the body itself, on disk before anything is read from it.

Temporary files lie where TMPDIR says; a file of 100 MB takes as much room there, and none in memory.
"""

import errno
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from fastapi import HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.types import Message

from services.errors import EntryRejected, LedgerFull

MOST_BYTES = 2**30
PIECE = 1 << 20  # bytes written to disk at a time


@dataclass(frozen=True)
class Upload:
    """The file, from its beginning; name and content type may be empty."""

    file: BinaryIO
    name: str
    content_type: str


@asynccontextmanager
async def upload(request: Request) -> AsyncIterator[Upload]:
    """The file in a request's body.

    Raises EntryRejected when there is none, LedgerFull, and HTTPException when it is too large.
    """
    limited = Request(request.scope, _Limited(request).receive)
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
    """A request's body that ends with an error when it is too large."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._size = 0

    async def receive(self) -> Message:
        message = await self._request.receive()
        self._size += len(message.get("body", b""))
        if self._size > MOST_BYTES:
            raise HTTPException(413, f"the file is larger than {MOST_BYTES >> 20} MiB: split it")
        return message


@contextmanager
def _disk_full_named() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        folder = tempfile.gettempdir()
        raise LedgerFull(f"the disk for uploads ({folder}) is full, nothing was taken: free some") from error
