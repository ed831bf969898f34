"""The terminal: what a person types comes in as messages, whatever bytes and line breaks it holds."""

import codecs
import re
import sys
import textwrap
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prompt_toolkit.key_binding.key_processor import KeyPressEvent

_SURROGATES = re.compile("[\ud800-\udfff]")  # what Python makes of bytes that it can't decode


def tolerate_any_bytes() -> None:
    """Let a byte that is no text become U+FFFD, and a character that can't be shown a question mark.

    A C locale says ASCII; the terminals that have it are nearly all of UTF-8.
    """
    for stream in filter(None, (sys.stdin, sys.stdout, sys.stderr)):  # a closed one is none
        encoding = "utf-8" if codecs.lookup(stream.encoding).name == "ascii" else None
        stream.reconfigure(encoding=encoding, errors="replace")


def message_reader(footer: str) -> Callable[[str], str]:
    """A function that shows a prompt and returns the next message; it raises EOFError at the end.

    On a terminal a message may be pasted with several lines, and `footer` stands under it while it is typed.
    From a pipe or a file a message is a line.
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
    """Send the message, unless more text is there already: a paste that the terminal did not bracket."""
    if any(_is_text(pressed.data) for pressed in event.app.key_processor.input_queue):
        event.current_buffer.insert_text("\n")
    else:
        event.current_buffer.validate_and_handle()


def _is_text(data: str) -> bool:
    """Not so the terminal's own answer to where its cursor is, which may come in between."""
    return not data.startswith("\x1b") and data != ""


def _characters(text: str) -> str:
    return _SURROGATES.sub("\ufffd", text)
