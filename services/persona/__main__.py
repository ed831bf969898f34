"""Check a persona file, or create a new one.

python -m services.persona check FILE
python -m services.persona new NAME [--user NAME] [--pronouns she/her] [--out FILE]
"""

import argparse
import sys
from pathlib import Path

from services.errors import AdaError, ConfigError
from services.persona.checks import problems_in
from services.persona.persona import load_persona, read_table
from services.persona.pronouns import PRONOUNS
from services.persona.skeleton import write_skeleton


def main() -> int:
    """Entry point; returns 2 if there are problems, and prints each on its own line."""
    parser = argparse.ArgumentParser(prog="python -m services.persona", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="list every problem in a persona file")
    check.add_argument("file", type=Path)
    new = commands.add_parser("new", help="write a persona file to be filled in")
    new.add_argument("name", help="the persona's name")
    new.add_argument("--user", default="Sam", help="the name of the person who talks with the persona")
    new.add_argument("--pronouns", default="they/them", choices=[*PRONOUNS])
    new.add_argument("--out", type=Path, help="default: data/personas/<name>.toml")
    arguments = parser.parse_args()
    try:
        if arguments.command == "check":
            return _check(arguments.file)
        return _new(arguments)
    except AdaError as error:
        print(f"persona: {error}", file=sys.stderr)
        return 2


def _check(path: Path) -> int:
    problems = problems_in(read_table(path))
    for problem in problems:
        print(f"{path}: {problem}")
    if problems:
        return 2
    persona = load_persona(path)
    speakers = f"{persona.assistant_name} ({persona.pronouns}) and {persona.user_name}"
    print(f"{path}: {speakers}, facts: {len(persona.facts)}, no problems")
    return 0


def _new(arguments: argparse.Namespace) -> int:
    if not arguments.name.strip():
        raise ConfigError("a persona needs a name: make persona NAME=Ruth")
    path = write_skeleton(arguments.name.strip(), arguments.user, arguments.pronouns, arguments.out)
    print(f"{path}: fill it in, then")
    for target in (f"check-persona FILE={path}", f"conversations PERSONA={path}", f"train PERSONA={path}"):
        print(f"  make {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
