"""Chat with Ada in the terminal.

python -m services.client [--url http://127.0.0.1:8080]
"""

import argparse
import os
import sys

from services.client.ada_chat import AdaChat, AdaError, InferenceConfig, key_of, url_of
from services.client.reminder import Reminder

HELP = "/diary <text> writes into her diary · /read shows it · /clear begins anew · quit leaves"


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="make chat", description=__doc__.splitlines()[0])
    parser.add_argument("--url", default=url_of(os.environ), help="where Ada is; else ADA_URL or ADA_PORT")
    parser.add_argument(
        "--key", default=key_of(os.environ), help="your API key; better in the variable ADA_KEY"
    )
    parser.add_argument("--max-new-tokens", type=int, default=InferenceConfig.max_new_tokens)
    arguments = parser.parse_args()
    config = InferenceConfig(
        base_url=arguments.url, api_key=arguments.key, max_new_tokens=arguments.max_new_tokens
    )
    try:
        with AdaChat(config) as ada:
            Talk(ada).run()
    except AdaError as error:
        print(f"chat: {error}", file=sys.stderr)
        return 1
    except (EOFError, KeyboardInterrupt):
        print()
    return 0


class Talk:
    """A conversation in the terminal, which is told at its start and every three hours what Ada is."""

    def __init__(self, ada: AdaChat, reminder: Reminder | None = None) -> None:
        self._ada = ada
        self._reminder = reminder or Reminder()

    def run(self) -> None:
        """Until the user leaves. Raises AdaError when nobody is there at the start."""
        try:
            import readline  # noqa: F401  gives input() line editing and history
        except ImportError:
            pass
        disclosure = self._ada.disclosure()
        self._disclose(disclosure)
        print(f"{HELP}\n")
        while (line := self._line()) not in ("quit", "/quit", "exit"):
            try:
                _answer(self._ada, line)
            except AdaError as error:
                print(f"[{error}]")
            self._disclose(disclosure)

    def _line(self) -> str:
        return input(f"{self._ada.config.user_name}: ").strip()

    def _disclose(self, disclosure: str) -> None:
        if self._reminder.is_due():
            print(f"[{disclosure}]")
            self._reminder.shown()


def _answer(ada: AdaChat, line: str) -> None:
    command, _, rest = line.partition(" ")
    if command == "/diary" and rest.strip():
        entry = ada.add_diary_entry(rest.strip())
        print(f"[written into the diary as {entry['id']}]")
    elif command == "/read":
        for entry in ada.read_diary():
            print(f"[{entry['date']}] {entry['text']}")
    elif command == "/clear":
        ada.clear()
        print("[a new conversation]")
    elif line.startswith("/"):
        print(f"[{HELP}]")
    elif line:
        _stream(ada, line)


def _stream(ada: AdaChat, line: str) -> None:
    print(f"{ada.config.assistant_name}: ", end="", flush=True)
    try:
        for text in ada.stream_response(line):
            print(text, end="", flush=True)
    except KeyboardInterrupt:  # ends this answer, and with it its generation, but not the chat
        print("\n[AI persona · interrupted]")
        return
    diary = ada.about.get("diary")
    recalled = diary["entries"] if isinstance(diary, dict) else []
    memory = ", ".join(str(entry["date"]) for entry in recalled)
    print(f"\n[AI persona{f' · recalled {memory}' if memory else ''}]")
    if ada.dropped_turns:
        print(
            f"[the conversation is longer than the model reads at once: its {ada.dropped_turns} oldest turns "
            "are left out from now on · /clear begins anew]"
        )


if __name__ == "__main__":
    sys.exit(main())
