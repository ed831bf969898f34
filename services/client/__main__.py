"""Chat with Ada in the terminal.

python -m services.client [--url http://127.0.0.1:8080]
"""

import argparse
import sys

from services.client.ada_chat import AdaChat, AdaError, InferenceConfig

HELP = "/diary <text> writes into her diary · /read shows it · /clear begins anew · quit leaves"


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="make chat", description=__doc__.splitlines()[0])
    parser.add_argument("--url", default=InferenceConfig.base_url, help="where Ada is")
    parser.add_argument("--key", default=InferenceConfig.api_key, help="your API key, if Ada asks")
    parser.add_argument("--max-new-tokens", type=int, default=InferenceConfig.max_new_tokens)
    arguments = parser.parse_args()
    config = InferenceConfig(
        base_url=arguments.url.rstrip("/"), api_key=arguments.key, max_new_tokens=arguments.max_new_tokens
    )
    try:
        with AdaChat(config) as ada:
            print(f"[{ada.disclosure()}]\n{HELP}\n")
            _talk(ada)
    except AdaError as error:
        print(f"chat: {error}", file=sys.stderr)
        return 1
    except (EOFError, KeyboardInterrupt):
        print()
    return 0


def _talk(ada: AdaChat) -> None:
    try:
        import readline  # noqa: F401  gives input() line editing and history
    except ImportError:
        pass
    while (line := input(f"{ada.config.user_name}: ").strip()) not in ("quit", "/quit", "exit"):
        try:
            _answer(ada, line)
        except AdaError as error:
            print(f"[{error}]")


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
    for text in ada.stream_response(line):
        print(text, end="", flush=True)
    diary = ada.about.get("diary")
    recalled = diary["entries"] if isinstance(diary, dict) else []
    memory = ", ".join(str(entry["date"]) for entry in recalled)
    print(f"\n[AI persona{f' · recalled {memory}' if memory else ''}]")


if __name__ == "__main__":
    sys.exit(main())
