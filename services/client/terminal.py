"""Terminal input: reads messages, whatever bytes and line breaks they contain."""

import codecs
import re
import sys
import textwrap
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prompt_toolkit.key_binding.key_processor import KeyPressEvent

_SURROGATES = re.compile("[\ud800-\udfff]")  # how Python represents bytes that it can't decode


def tolerate_any_bytes() -> None:
    """Decode invalid bytes as U+FFFD, and print a question mark for characters that can't be encoded.

    A C locale claims ASCII, but nearly all terminals with such a locale use UTF-8.
    """
    for stream in filter(None, (sys.stdin, sys.stdout, sys.stderr)):  # a closed stream is None
        encoding = "utf-8" if codecs.lookup(stream.encoding).name == "ascii" else None
        stream.reconfigure(encoding=encoding, errors="replace")


def message_reader(footer: str) -> Callable[[str], str]:
    """Return a function that shows a prompt and returns the next message; it raises EOFError at the end.

    On a terminal, a pasted message may have several lines, and `footer` is shown below while the user types.
    From a pipe or a file, each line is a message.
    """
    if all(stream and stream.isatty() for stream in (sys.stdin, sys.stdout)):
        return _prompt(footer)
    return lambda prompt: _characters(_line(prompt))


def _line(prompt: str) -> str:
    if sys.stdin is None:
        raise EOFError
    return input(prompt)


def _prompt(footer: str) -> Callable[[str], str]:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.application import get_app
    from prompt_toolkit.key_binding import KeyBindings

    keys = KeyBindings()
    keys.add("enter")(_enter)
    keys.add("escape", "enter")(lambda event: event.current_buffer.insert_text("\n"))

    def toolbar() -> str:
        return textwrap.fill(footer, get_app().output.get_size().columns)

    session: PromptSession[str] = PromptSession(multiline=True, key_bindings=keys, bottom_toolbar=toolbar)
    return lambda prompt: _characters(session.prompt(prompt))


def _enter(event: "KeyPressEvent") -> None:
    """Send the message, unless more text is already waiting: an unbracketed paste."""
    if any(_is_text(pressed.data) for pressed in event.app.key_processor.input_queue):
        event.current_buffer.insert_text("\n")
    else:
        event.current_buffer.validate_and_handle()


def _is_text(data: str) -> bool:
    """False for escape sequences, such as the terminal's report of its cursor position."""
    return not data.startswith("\x1b") and data != ""


def _characters(text: str) -> str:
    return _SURROGATES.sub("\ufffd", text)
