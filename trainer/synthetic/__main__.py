"""Generates conversations of a fictional persona, as training data for it.

python -m trainer.synthetic --number 500 [--url http://127.0.0.1:8000/v1] [--model NAME] [--key-env NAME]

Any OpenAI-compatible model writes them, from the persona's backstory. The persona is invented, and so are the
conversations: they teach a model its identity, for research on AI identity. They must not be presented as the
words of a real person; whatever speaks as the persona discloses that it is an AI.
"""

import argparse
import asyncio
import os
import sys
from datetime import date
from itertools import islice
from pathlib import Path

from tqdm import tqdm

from services.errors import AdaError, ConfigError
from services.persona.manifest import file_sha256
from services.persona.persona import DEFAULT_PERSONA, Persona, load_persona
from services.printable import printable
from trainer.data.sources.foreign import ForeignConversations
from trainer.synthetic.backstory import Backstory
from trainer.synthetic.endpoint import Endpoint
from trainer.synthetic.near_duplicates import NearDuplicates
from trainer.synthetic.output_store import OutputStore
from trainer.synthetic.plan import plans
from trainer.synthetic.stats import Stats
from trainer.synthetic.writer import Models, Writer


def main() -> int:
    """Entry point; a mistake of the user's is one line on stderr and exit code 2."""
    arguments = _arguments()
    try:
        stats = run(arguments)
    except AdaError as error:
        print(printable(f"author: {error}"), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("author: interrupted; what was finished is kept, the same command goes on", file=sys.stderr)
        return 130
    print(printable(stats.table()))
    return 0


def run(arguments: argparse.Namespace) -> Stats:
    """One whole run, from the plans to the published file. Raises AdaError."""
    persona = load_persona(arguments.persona)
    if not persona.facts:
        raise ConfigError(f"{arguments.persona} has no [[facts]]: there is nothing to talk about")
    with OutputStore(arguments.out, arguments.seed, file_sha256(arguments.persona)) as store:
        _check_persona(arguments.out, store, persona)
        stats = Stats(arguments.number, resumed=len(store.completed), given_up=len(store.given_up))
        asyncio.run(_write(arguments, persona, store, stats))
        store.publish()
    return stats


def _check_persona(out: Path, store: OutputStore, persona: Persona) -> None:
    """Raise ConfigError when the output file holds another persona's conversations."""
    foreign = ForeignConversations(persona)
    verdict = ""
    try:
        for item in store.published:
            foreign.check(item)
    except ConfigError as error:
        verdict = str(error)
    if verdict := verdict or foreign.verdict():
        name = persona.assistant_name
        raise ConfigError(
            f"{out}: {verdict}. For those of {name} name another file by --out, or move this away"
        )


async def _write(arguments: argparse.Namespace, persona: Persona, store: OutputStore, stats: Stats) -> None:
    last = store.first + arguments.number
    wanted = islice(plans(persona.facts, arguments.seed), store.first, last)
    todo = [plan for plan in wanted if plan.number not in store.finished]
    if not todo:
        return
    existing = [*store.published, *store.completed.values()]
    duplicates = NearDuplicates(item["conversations"] for item in existing)
    async with Endpoint(arguments.url, _key(arguments.key_env), stats) as endpoint:
        models = await _models(arguments, endpoint)
        writer = Writer(
            persona, Backstory(persona, date.today()), endpoint, models, arguments.seed, duplicates
        )
        done = arguments.number - len(todo)
        # On a terminal only: in a log every step would be a line.
        with tqdm(
            total=arguments.number, initial=done, desc=printable(models.author), unit="conv", disable=None
        ) as bar:

            def finished() -> None:
                bar.set_postfix_str(f"{stats.rejections.total()} thrown away", refresh=False)
                bar.update()

            await writer.write(todo, store, stats, arguments.concurrency, finished)


async def _models(arguments: argparse.Namespace, endpoint: Endpoint) -> Models:
    """The chosen models; by default the first that the server lists, which is also the judge."""
    served = await endpoint.models()
    author = arguments.model or next(iter(served), None)
    if author is None:
        raise ConfigError(
            f"{arguments.url} lists no models: name one with --model, and see that it ends in /v1"
        )
    return Models(author, "" if arguments.no_judge else arguments.judge_model or author, arguments.max_tokens)


def _key(name: str | None) -> str:
    if name is None:
        return "none"
    if not os.environ.get(name):
        raise ConfigError(f"--key-env {name}: no such variable is set")
    return os.environ[name]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m trainer.synthetic", description=__doc__.splitlines()[0])
    parser.add_argument("--number", type=_count, required=True, help="how many new conversations")
    parser.add_argument("--out", type=Path, default=Path("data/generated_conversations.json"))
    parser.add_argument("--persona", type=Path, default=DEFAULT_PERSONA)
    parser.add_argument("--url", default="http://127.0.0.1:8000/v1", help="an OpenAI-compatible server")
    parser.add_argument("--model", help="who writes (default: the first that the server lists)")
    parser.add_argument("--judge-model", help="who looks for contradictions (default: who writes)")
    parser.add_argument("--no-judge", action="store_true", help="let the rules alone look for them")
    parser.add_argument("--key-env", metavar="NAME", help="environment variable that holds the API key")
    parser.add_argument("--seed", type=int, default=3407)
    parser.add_argument("--concurrency", type=_count, default=4, help="conversations at once")
    parser.add_argument(
        "--max-tokens",
        type=_count,
        default=0,
        help="for each line (default: what the plan needs); a model that thinks first needs thousands",
    )
    return parser.parse_args()


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
