"""Plans of conversations: the facts, the mood, the length and the opening of each."""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from services.persona.persona import Fact
from trainer.data.sources.foreign import DATE_WORDS

MOODS = (
    "at ease",
    "cheerful",
    "wistful",
    "tired",
    "teasing",
    "homesick",
    "worried",
    "proud",
    "a little cross",
    "tender",
    "restless",
    "thoughtful",
)
# Ada's words in one answer, from and to. Most talk is short.
ANSWER_WORDS = ((15, 40), (30, 70), (40, 90), (60, 120), (100, 180))
# How many of each hundred conversations have one exchange, two, three, four, five.
EXCHANGES = (15, 35, 25, 15, 10)
# How many of each hundred are about one fact, two, three.
FACTS = (40, 40, 20)
_INNER_CAPITAL = re.compile(r"(?<=[\w,;:] )[A-ZÀ-ÖØ-Þ][^\W\d_]+")


@dataclass(frozen=True)
class Opening:
    """How a conversation begins, as told to the model; `words` is the length range of the first line."""

    name: str
    situation: str
    words: tuple[int, int]


OPENINGS = (
    Opening(
        "letter", "{user} writes a letter: a greeting, some news, and near its end a question.", (50, 120)
    ),
    Opening("telephone", "{user} rings {assistant} up, and no time goes on greetings.", (4, 20)),
    Opening("out of the blue", "{user} asks a question out of the blue, without any greeting.", (4, 15)),
    Opening("own news", "{user} first tells of something that happened to {user} today.", (15, 50)),
    Opening("late at night", "{user} can't sleep and sends a short message in the night.", (5, 25)),
    Opening("reminded", "{user} saw something in the street that brought {assistant} to mind.", (10, 35)),
    Opening("unsure", "{user} half remembers something that {assistant} told, and asks about it.", (8, 30)),
    Opening("advice", "{user} has a small trouble and wants to know what {assistant} would do.", (15, 45)),
    Opening("old photograph", "{user} came across an old photograph or note while tidying up.", (10, 40)),
    Opening("after a silence", "{user} has not been in touch for a while and is sorry for it.", (10, 40)),
    Opening("how are you", "{user} asks how {assistant} is, and means it.", (4, 20)),
    Opening("in passing", "{user} sends one line between two other things.", (3, 12)),
)


@dataclass(frozen=True)
class Plan:
    """Conversation `number` of a seed; `answer_words` is the range for each of Ada's answers."""

    number: int
    facts: tuple[Fact, ...]
    mood: str
    exchanges: int
    answer_words: tuple[int, int]
    opening: Opening

    @property
    def topic(self) -> str:
        """The facts' topics, each once."""
        return ", ".join(dict.fromkeys(fact.topic for fact in self.facts))

    def as_json(self) -> dict[str, object]:
        """The plan as it is stored with the conversation."""
        return {
            "number": self.number,
            "facts": [f"{fact.date} {fact.topic}" for fact in self.facts],
            "exchanges": self.exchanges,
            "answer_words": list(self.answer_words),
            "opening": self.opening.name,
        }


def plans(facts: tuple[Fact, ...], seed: int) -> Iterator[Plan]:
    """Endless plans, the same for the same facts and seed; every fact is used before any is used again."""
    numbers = count()
    for turn in count():
        for group in _groups(facts, random.Random(f"{seed} facts {turn}")):
            yield _plan(next(numbers), group, seed)


def _plan(number: int, facts: tuple[Fact, ...], seed: int) -> Plan:
    draw = random.Random(f"{seed} plan {number}")
    return Plan(
        number=number,
        facts=facts,
        mood=draw.choice(MOODS),
        exchanges=draw.choices(range(1, len(EXCHANGES) + 1), EXCHANGES)[0],
        answer_words=draw.choice(ANSWER_WORDS),
        opening=draw.choice(OPENINGS),
    )


def _groups(facts: tuple[Fact, ...], draw: random.Random) -> Iterator[tuple[Fact, ...]]:
    """Every fact once, in groups of one to three that belong together."""
    remaining = list(facts)
    draw.shuffle(remaining)
    while remaining:
        group = [remaining.pop()]
        for _ in range(draw.choices(range(len(FACTS)), FACTS)[0]):
            nearest = max(remaining, key=lambda fact: _closeness(group[0], fact), default=group[0])
            if nearest is group[0] or not _closeness(group[0], nearest):
                break
            remaining.remove(nearest)
            group.append(nearest)
        yield tuple(sorted(group, key=lambda fact: fact.date))


def _closeness(first: Fact, second: Fact) -> int:
    """Twice the names that both facts share, plus one when they share a topic."""
    return 2 * len(_names(first) & _names(second)) + (first.topic == second.topic)


def _names(fact: Fact) -> set[str]:
    return set(_INNER_CAPITAL.findall(fact.text)) - DATE_WORDS
