"""A resumable store of generated conversations: JSONL while the run goes on, then added to the output file.

`<out>.part.jsonl` gets one line per finished conversation, so that a run may be killed at any time. The
output file, which the trainer reads, is replaced atomically at the end and keeps all its earlier content.
"""

import errno
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from services.errors import ConfigError
from services.files import lock_descriptor, sync_folder, write_atomic
from trainer.data.sample import is_utf8

Item = dict[str, Any]


class OutputStore:
    """The conversations of one run by their plans' numbers, from `first` on; locked until the run ends.

    Raises ConfigError when a file has another format, is locked by another run, or can't be written.
    """

    def __init__(self, out: Path, seed: int, persona_sha256: str) -> None:
        self.out = out.resolve()  # a link stays a link
        self.path = self.out.with_name(f"{self.out.name}.part.jsonl")
        self.completed: dict[int, Item] = {}
        self.given_up: set[int] = set()
        self.published = _published(self.out)
        self._header: Item = {"seed": seed, "persona": persona_sha256, "first": _first(self.published, seed)}
        with translated_errors(self.path):
            self._file = _open_alone(self.path)
        try:
            self._resume(list(self._lines()))
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> "OutputStore":
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_empty():
            self.path.unlink(missing_ok=True)
        self._file.close()

    @property
    def first(self) -> int:
        """The number of the run's first plan; earlier plans are published."""
        return int(self._header["first"])

    @property
    def finished(self) -> set[int]:
        """The numbers of the plans that need no more work."""
        return {*self.completed, *self.given_up}

    def save(self, number: int, item: Item) -> None:
        """Append a finished conversation to the part file."""
        self._append({"number": number, "item": item})
        self.completed[number] = item

    def give_up(self, number: int) -> None:
        """Append that this plan was given up."""
        self._append({"number": number})
        self.given_up.add(number)

    def publish(self) -> None:
        """Add the completed conversations to the output file, then remove the part file.

        A run that is killed in between finds its conversations published, and adds none twice.
        """
        items = _published(self.out)  # somebody may have added to it meanwhile
        present = set(_numbers(items, self._header["seed"]))
        new = [self.completed[number] for number in sorted(self.completed) if number not in present]
        with translated_errors(self.out):
            if new:
                _replace(self.out, [*items, *new])
            self.path.unlink()

    def _resume(self, lines: list[Item]) -> None:
        """Take over the lines of an earlier run, whose first line is the header; it must match this run's."""
        if not lines:
            return
        earlier, own = lines[0], self._header
        if (earlier.get("seed"), earlier.get("persona")) != (own["seed"], own["persona"]):
            raise ConfigError(
                f"{self.path} was begun with another --seed or --persona: go on with those, or move it away"
            )
        self._header = earlier
        for line in lines[1:]:
            if "item" in line:
                self.completed[line["number"]] = line["item"]
            else:
                self.given_up.add(line["number"])

    def _lines(self) -> Iterator[Item]:
        """The file's lines; a last one that a kill or a full disk tore is removed from the file."""
        content = self._file.read()
        whole = content[: content.rfind(b"\n") + 1]
        with translated_errors(self.path):
            self._file.truncate(len(whole))
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                yield _checked(json.loads(line), number)
            except ValueError:
                raise ConfigError(f"{self.path}, line {number} is damaged: move the file away") from None

    def _append(self, line: Item) -> None:
        lines = [self._header, line] if self._is_empty() else [line]
        content = b"".join(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in lines)
        with translated_errors(self.path):
            if self._file.write(content) < len(content):  # the system writes what there is room for
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file.fileno())

    def _is_empty(self) -> bool:
        return os.fstat(self._file.fileno()).st_size == 0


def _checked(line: object, number: int) -> Item:
    """A line with the fields that it must have. Raises ValueError."""
    field = "first" if number == 1 else "number"
    if not isinstance(line, dict) or not isinstance(line.get(field), int):
        raise ValueError
    return line


def _open_alone(path: Path) -> BinaryIO:
    """Open and lock the part file, unbuffered; its name survives a power cut too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+b", buffering=0)
    try:
        lock_descriptor(file.fileno())
    except BlockingIOError:
        file.close()
        raise ConfigError(f"{path} is being written by another run: wait for it, or end it") from None
    sync_folder(path.parent)
    file.seek(0)
    return file


def _published(out: Path) -> list[Item]:
    """The conversations in the output file. Raises ConfigError when it holds anything else."""
    if out.suffix.lower() == ".jsonl":
        raise ConfigError(f"--out {out} is named like a file of one object a line: name it .json")
    remedy = 'it must be [{"conversations": [...]}, ...] to be added to. Move it away, or set --out'
    try:
        items = json.loads(out.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError(f"{out} can't be read ({error.strerror})") from None
    except ValueError as error:
        where = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise ConfigError(f"{out}{where} is not JSON in UTF-8: {remedy}") from None
    if not isinstance(items, list):
        raise ConfigError(f"{out} holds no list: {remedy}")
    for number, item in enumerate(items):
        if not isinstance(item, dict) or not _are_turns(item.get("conversations")):
            raise ConfigError(f"{out}, conversation {number}: {remedy}")
    return items


def _are_turns(turns: object) -> bool:
    return isinstance(turns, list) and all(
        isinstance(turn, dict) and isinstance(turn.get("role"), str) and isinstance(turn.get("content"), str)
        for turn in turns
    )


def _numbers(items: list[Item], seed: int) -> Iterator[int]:
    """The numbers of the plans of this seed among published conversations."""
    for item in items:
        plan = item.get("plan")
        if item.get("seed") == seed and isinstance(plan, dict) and isinstance(plan.get("number"), int):
            yield plan["number"]


def _first(items: list[Item], seed: int) -> int:
    return 1 + max(_numbers(items, seed), default=-1)


def _replace(out: Path, items: list[Item]) -> None:
    """Replace the file atomically; it keeps its permissions."""
    mode = stat.S_IMODE(out.stat().st_mode) if out.exists() else None
    write_atomic(out, _as_json(items), mode=mode)


def _as_json(items: list[Item]) -> str:
    text = json.dumps(items, ensure_ascii=False, indent=2) + "\n"
    # A file of the user's may hold half a surrogate pair, which only an escape can write.
    return text if is_utf8(text) else json.dumps(items, indent=2) + "\n"


@contextmanager
def translated_errors(path: Path) -> Iterator[None]:
    """Raise an OSError of the block as a ConfigError that names `path` and the remedy."""
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"{path} can't be written ({error.strerror}): make room or repair it, then run the same command "
            "again; what was finished is kept"
        ) from None
