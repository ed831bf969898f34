"""A zip of notes, as Obsidian's vaults, Logseq's journals and Day One's exports come: each file by its name.

The bounds are for archives that were made to do harm. Nothing is unpacked to disk: each file is read as it is
decompressed, and the bytes that come out are counted.
"""

import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import IO, Any, BinaryIO, cast

from services.diary.transfer.formats import Format, format_of
from services.diary.transfer.headings import heading_of_name
from services.diary.transfer.row import Reject, Row
from services.errors import EntryRejected
from services.files import DAMAGED_ZIP

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1
_NEEDS_A_DAY = "its name is no day and no heading in it is: call it 2023-05-08.md, or write # 2023-05-08"
Read = Callable[[BinaryIO, Format, str], Iterator[Row | Reject]]


@dataclass(frozen=True)
class ZipLimits:
    """The bounds of an archive; sizes in bytes."""

    directory_bytes: int = 4 << 20  # of the archive's own list of files, which is read into memory
    files: int = 20_000
    unpacked_bytes: int = 1 << 30  # of all files that are read
    free_bytes: int = 8 << 20  # may come out of any archive
    ratio: int = 50  # unpacked to packed size, of an archive out of which more comes

    def budget(self, size: int) -> int:
        """How many bytes may come out of an archive of this size."""
        return min(self.unpacked_bytes, max(self.free_bytes, self.ratio * size))


LIMITS = ZipLimits()


def read_zip(file: BinaryIO, read: Read, limits: ZipLimits = LIMITS) -> Iterator[Row | Reject]:
    """Yield the rows of all files of a known format in an archive; others, and hidden ones, are skipped.

    Raises EntryRejected for a file that is no archive, or one that is out of bounds.
    """
    try:
        archive = zipfile.ZipFile(cast(IO[bytes], _Bounded(file, limits.directory_bytes)))
    except DAMAGED_ZIP as error:
        raise EntryRejected(f"the file is no zip archive that can be read: {error}", "file") from None
    with archive:
        members = [member for member in archive.infolist() if _is_readable(member)]
        if not members:
            raise EntryRejected("the archive holds no .md, .txt, .json, .jsonl or .csv file", "file")
        if len(members) > limits.files:
            raise EntryRejected(f"the archive has more than {limits.files} files: split it", "file")
        budget = _Budget(limits.budget(_size(file)))
        for member in sorted(members, key=lambda member: member.filename):
            for row in _rows(archive, member, read, budget):
                yield replace(row, file=member.filename[-200:])


def _size(file: BinaryIO) -> int:
    offset = file.tell()
    size = file.seek(0, 2)
    file.seek(offset)
    return size


def _is_readable(member: zipfile.ZipInfo) -> bool:
    if not member.filename:
        return False
    path = PurePosixPath(member.filename)
    hidden = any(part.startswith((".", "__MACOSX")) for part in path.parts)
    return not member.is_dir() and not hidden and _form(member) is not None


def _form(member: zipfile.ZipInfo) -> Format | None:
    try:
        form = format_of(None, member.filename, "")
    except EntryRejected:
        return None
    return None if form is Format.ZIP else form


def _rows(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, read: Read, budget: "_Budget"
) -> Iterator[Row | Reject]:
    if member.flag_bits & _ENCRYPTED or member.compress_type not in _METHODS:
        yield Reject(1, "it is encrypted, or compressed in another way than deflate: pack it again")
        return
    form = _form(member)
    assert form is not None
    try:
        with _translated_damage():
            opened = archive.open(member)
        with opened:
            yield from _of_file(read(cast(BinaryIO, _Counted(opened, budget)), form, member.filename), member)
    except EntryRejected as error:
        if budget.is_spent:
            raise
        yield Reject(1, str(error))


@contextmanager
def _translated_damage() -> Iterator[None]:
    try:
        yield
    except DAMAGED_ZIP as error:
        raise EntryRejected(f"it is damaged: {error}", "file") from None


def _of_file(rows: Iterator[Row | Reject], member: zipfile.ZipInfo) -> Iterator[Row | Reject]:
    """A page of a vault that is no day is refused as a whole, and not once for each of its parts."""
    first = next(rows, None)
    if isinstance(first, Reject) and first.line == 1 and _is_page(first, member):
        first = replace(first, reason=_NEEDS_A_DAY)
    if first is not None:
        yield first
    yield from rows


def _is_page(first: Reject, member: zipfile.ZipInfo) -> bool:
    is_note = _form(member) is Format.MARKDOWN and heading_of_name(member.filename) is None
    return is_note and first.reason.startswith("it stands before the first heading")


class _Budget:
    """Bytes that may still come out of the archive."""

    def __init__(self, left: int) -> None:
        self._left = left

    @property
    def is_spent(self) -> bool:
        """Whether more came out than may."""
        return self._left < 0

    def take(self, number: int) -> None:
        """Raises EntryRejected when it is spent."""
        self._left -= number
        if self.is_spent:
            raise EntryRejected("the archive holds far more than its size lets expect: split it", "file")


class _Counted:
    """A file of the archive whose bytes are taken from the budget."""

    def __init__(self, file: IO[bytes], budget: _Budget) -> None:
        self._file = file
        self._budget = budget

    def read(self, size: int = -1) -> bytes:
        with _translated_damage():
            piece = self._file.read(size)
        return self._charged(piece)

    def readline(self, size: int = -1) -> bytes:
        with _translated_damage():
            piece = self._file.readline(size)
        return self._charged(piece)

    def seek(self, offset: int) -> int:
        with _translated_damage():
            return self._file.seek(offset)

    def tell(self) -> int:
        return self._file.tell()

    def _charged(self, piece: bytes) -> bytes:
        self._budget.take(len(piece))
        return piece


class _Bounded:
    """The uploaded file with a limit for a single read, because zipfile reads the list of files in one."""

    def __init__(self, file: BinaryIO, limit: int) -> None:
        self._file = file
        self._limit = limit

    def read(self, size: int = -1) -> bytes:
        content = self._file.read(min(size, self._limit + 1) if size >= 0 else self._limit + 1)
        if len(content) > self._limit:
            raise EntryRejected("the archive's list of files is too long: split it", "file")
        return content

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
