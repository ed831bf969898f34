"""Chat with Ada in the terminal.

python -m services.client [--url http://127.0.0.1:8080]
"""

import argparse
import os
import sys
from collections.abc import Callable

from services.client.ada_chat import AdaChat, AdaClientError, InferenceConfig, key_of, timezone_of, url_of
from services.client.reminder import Reminder
from services.client.terminal import message_reader, tolerate_any_bytes
from services.printable import printable


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="make chat", description=__doc__.splitlines()[0])
    parser.add_argument("--url", default=url_of(os.environ), help="Ada's URL; default: ADA_URL or ADA_PORT")
    parser.add_argument(
        "--key", default=key_of(os.environ), help="your API key; safer in the variable ADA_KEY"
    )
    parser.add_argument("--max-new-tokens", type=int, default=InferenceConfig.max_new_tokens)
    parser.add_argument(
        "--timezone", default=timezone_of(os.environ), help="time zone for dates; default: this machine's"
    )
    arguments = parser.parse_args()
    tolerate_any_bytes()
    config = InferenceConfig(
        base_url=arguments.url,
        api_key=arguments.key,
        max_new_tokens=arguments.max_new_tokens,
        timezone=arguments.timezone,
    )
    try:
        with AdaChat(config) as ada:
            ChatSession(ada).run()
    except AdaClientError as error:
        print(printable(f"chat: {error}"), file=sys.stderr)
        return 1
    except (EOFError, KeyboardInterrupt):
        print()
    return 0


class ChatSession:
    """A conversation in the terminal; the disclosure is shown at its start and every three hours."""

    def __init__(
        self, ada: AdaChat, reminder: Reminder | None = None, read: Callable[[str], str] | None = None
    ) -> None:
        self._ada = ada
        self._reminder = reminder or Reminder()
        self._read = read
        self._user, self._assistant = ada.config.user_name, ada.config.assistant_name

    def run(self) -> None:
        """Chat until the user quits. Raises AdaClientError when Ada can't be reached at the start."""
        disclosure = self._ada.disclosure()
        self._learn_names()
        self._disclose(disclosure)
        _say(f"{self._help()}\n")
        read = self._read or message_reader(footer=printable(disclosure))
        while (message := read(printable(f"{self._user}: ")).strip()) not in ("quit", "/quit", "exit"):
            try:
                self._answer(message)
            except AdaClientError as error:
                _say(f"[{error}]")
            self._disclose(disclosure)

    def _learn_names(self) -> None:
        """Use the served persona's names, unless the config sets others for display."""
        try:
            served = self._ada.persona()
        except AdaClientError:  # no adapter yet: the first question reports it
            return
        if self._user == InferenceConfig.user_name:
            self._user = served.get("user_name", self._user)
        if self._assistant == InferenceConfig.assistant_name:
            self._assistant = served.get("name", self._assistant)

    def _help(self) -> str:
        diary = f"/diary <text> writes into {self._assistant}'s diary"
        return f"{diary} · /read shows it · /clear begins anew · quit leaves"

    def _disclose(self, disclosure: str) -> None:
        if self._reminder.is_due():
            _say(f"[{disclosure}]")
            self._reminder.shown()

    def _answer(self, message: str) -> None:
        command, *rest = message.split(maxsplit=1)[:2] or [""]
        if command == "/diary" and rest:
            entry = self._ada.add_diary_entry(rest[0])
            _say(f"[written into the diary as {entry['id']}]")
        elif command == "/read":
            for entry in self._ada.read_diary():
                _say(f"[{entry['date']}] {entry['text']}")
        elif command == "/clear":
            self._ada.clear()
            _say("[a new conversation]")
        elif message.startswith("/"):
            _say(f"[{self._help()}]")
        elif message:
            self._stream(message)

    def _stream(self, message: str) -> None:
        _say(f"{self._assistant}: ", end="")
        try:
            for text in self._ada.stream_response(message):
                _say(text, end="")
        except KeyboardInterrupt:  # stops this answer and its generation, but not the chat
            _say("\n[AI persona · interrupted]")
            return
        diary = self._ada.about.get("diary")
        recalled = diary["entries"] if isinstance(diary, dict) else []
        memory = ", ".join(str(entry["date"]) for entry in recalled)
        _say(f"\n[AI persona{f' · recalled {memory}' if memory else ''}]")
        if self._ada.dropped_turns:
            _say(
                "[the conversation is longer than the model reads at once: its "
                f"{self._ada.dropped_turns} oldest turns are left out from now on · /clear begins anew]"
            )


def _say(text: str, end: str = "\n") -> None:
    print(printable(text), end=end, flush=True)


if __name__ == "__main__":
    sys.exit(main())
