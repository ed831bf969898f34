"""The backstory: what a persona's facts fix about names, birth and age, and lines that contradict it.

Only plain patterns are recognised: "my father, Tom", "I was born in Sligo in 1989", "I'm
thirty-seven". Whatever the facts leave open is free, and what they say in other ways is for the judge.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from itertools import chain

from services.persona.persona import Fact, Persona
from trainer.data.sources.foreign import DATE_WORDS, MONTHS

_ROLES = {
    "father": "father dad daddy da papa",
    "mother": "mother mum mam mom mammy mummy mama",
    "brother": "brother",
    "sister": "sister",
    "grandmother": "grandmother grandma granny gran nan nana",
    "grandfather": "grandfather grandad granddad grandpa",
    "niece": "niece",
    "nephew": "nephew",
    "aunt": "aunt auntie aunty",
    "uncle": "uncle",
    "cousin": "cousin",
    "husband": "husband",
    "wife": "wife",
    "partner": "partner boyfriend girlfriend",
    "daughter": "daughter",
    "son": "son",
    "cat": "cat",
    "dog": "dog",
    "apprentice": "apprentice",
}
_ROLE_OF = {word: role for role, words in _ROLES.items() for word in words.split()}
# Capitalised, and no name of anybody.
_OTHERWISE = "Irish English British Scottish Welsh American French German Polish Italian Spanish European"
_OTHERWISE += " Catholic Protestant Christian God Lord Jesus Christmas Easter"
_NO_NAMES = DATE_WORDS | set(_OTHERWISE.split())

_NAME = r"(?P<name>[A-ZÀ-ÖØ-Þ][^\W\d_]+)"
_ROLE = rf"(?:(?!other\b)[a-zà-ÿ-]+ ){{0,2}}(?P<role>{'|'.join(_ROLE_OF)})"


def _kin_patterns(whose: str) -> tuple[re.Pattern[str], ...]:
    """Ways to say who somebody is. "My mother, Conor and I" is a list, "my mother's mother" somebody else."""
    person = rf"\b(?i:{whose}) {_ROLE}"
    apposition_ends = r"(?=[,.;:!?)])(?!, and\b)"
    ways = (
        rf"{person} {_NAME}",
        rf"{person}, {_NAME}{apposition_ends}",
        rf"{person},? (?:(?:is|was) )?(?:called|named) {_NAME}",
        rf"{person} (?:is|was) {_NAME}(?=[,.;:!?])",
        rf"{person}['’]s (?:first )?name (?:is|was) {_NAME}",
        rf"{_NAME}, {person}{apposition_ends}",
        rf"\b(?:I|You)(?:['’]ve got| have| have got) (?:a|one) {_ROLE} (?:called|named) {_NAME}",
    )
    return tuple(map(re.compile, ways))


_MY_KIN, _YOUR_KIN = _kin_patterns("my|our"), _kin_patterns("your")
_MONTHS = {name: number for number, name in enumerate(MONTHS, 1)}
_MONTH = rf"(?P<month>{'|'.join(_MONTHS)})"
_BORN = re.compile(r"\bI was born\b[^.!?]*")
_BIRTHDAY = re.compile(rf"\b[Mm]y birthday(?:['’]s| is| falls)\b[^.!?]{{0,20}}\b{_MONTH}\b")
_HOME = re.compile(r"\bI (?:was born|grew up)(?: and [a-z]+)? (?:in|near|outside) (?P<town>[A-ZÀ-ÖØ-Þ]\w+)")
_CAPITALISED = re.compile(r"\b[A-ZÀ-ÖØ-Þ]\w+")

_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_ONES = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
_NUMBERS = {
    **{tens: 20 + 10 * index for index, tens in enumerate(_TENS)},
    **{f"{t}-{o}": 21 + 10 * i + j for i, t in enumerate(_TENS) for j, o in enumerate(_ONES)},
}
_AGE = re.compile(
    rf"\bI(?:['’]m| am) (?:only |just |now |already )?(?P<age>[1-9]\d|{'|'.join(_NUMBERS)})"
    r"(?= years old| now\b| this year|[.,;!?])"
)
_OWN_NAME = re.compile(rf"\b(?:[Mm]y name(?:['’]s| is)|(?:^|(?<=[.!?] ))I(?:['’]m| am)) {_NAME}")
_SIGNED = re.compile(rf"\b(?i:love|yours|regards|wishes|sincerely|hugs),?\s*\n\s*{_NAME}\W*\Z")
_GREETED = re.compile(rf"\A(?:[Mm]y )?(?:[Dd]ear(?:est)?|Hi|Hello|Hey|Hiya),? {_NAME}\s*[,!.?—\n]")


@dataclass(frozen=True)
class Backstory:
    """A persona's fixed points; `today` bounds the age that she may give."""

    persona: Persona
    today: date

    @cached_property
    def names(self) -> dict[str, set[str]]:
        """Names by role, such as father: Tom."""
        names: dict[str, set[str]] = defaultdict(set)
        for fact in self.persona.facts:
            for role, name in _kin(fact.text, _MY_KIN):
                names[role].add(name)
        return dict(names)

    @cached_property
    def birth(self) -> Fact | None:
        """The fact of her birth."""
        return next((fact for fact in self.persona.facts if _BORN.search(fact.text)), None)

    @cached_property
    def basics(self) -> tuple[Fact, ...]:
        """The facts that fix something here; a writer needs them whatever the topic is."""
        return tuple(
            fact
            for fact in self.persona.facts
            if _BORN.search(fact.text) or _HOME.search(fact.text) or any(_kin(fact.text, _MY_KIN))
        )

    def contradiction(self, words: str) -> str:
        """What a line of the persona's contradicts, in a few words; empty when nothing."""
        contradictions = chain(
            self._wrong_kin(words, _MY_KIN),
            self._wrong_birth(words),
            self._wrong_age(words),
            self._wrong_speakers(words, self.persona.assistant_name, self.persona.user_name),
        )
        return next(contradictions, "")

    def misnaming(self, words: str) -> str:
        """Which name a line of the user's gets wrong; the persona might go along with it. Empty when none."""
        names = self.persona.user_name, self.persona.assistant_name
        return next(chain(self._wrong_kin(words, _YOUR_KIN), self._wrong_speakers(words, *names)), "")

    def _wrong_kin(self, words: str, patterns: tuple[re.Pattern[str], ...]) -> Iterator[str]:
        for role, name in _kin(words, patterns):
            if role in self.names and name not in self.names[role]:
                yield f"name of the {role}"

    def _wrong_birth(self, words: str) -> Iterator[str]:
        if self.birth is None:
            return
        year, _, rest = self.birth.date.partition("-")
        months = [match["month"] for match in _BIRTHDAY.finditer(words)]
        for sentence in _BORN.findall(words):
            months += re.findall(rf"\b{_MONTH}\b", sentence)
            if set(re.findall(r"\b(?:18|19|20)\d\d\b", sentence)) - {year}:
                yield "year of birth"
        if rest and any(_MONTHS[month] != int(rest[:2]) for month in months):
            yield "month of birth"
        if {match["town"] for match in _HOME.finditer(words)} - self._home - DATE_WORDS:
            yield "place of birth or childhood"

    @cached_property
    def _home(self) -> set[str]:
        texts = " ".join(fact.text for fact in self.persona.facts if _HOME.search(fact.text))
        return set(_CAPITALISED.findall(texts))

    def _wrong_age(self, words: str) -> Iterator[str]:
        """Between her age at the newest fact and her age today, a year more or less at most."""
        if self.birth is None:
            return
        born, newest = int(self.birth.date[:4]), max(fact.date for fact in self.persona.facts)
        possible = range(int(newest[:4]) - born - 1, self.today.year - born + 1)
        for match in _AGE.finditer(words):
            age = _NUMBERS.get(match["age"]) or int(match["age"])
            if age not in possible:
                yield "age"

    def _wrong_speakers(self, words: str, speaker: str, other: str) -> Iterator[str]:
        for pattern, expected in ((_OWN_NAME, speaker), (_SIGNED, speaker), (_GREETED, other)):
            for match in pattern.finditer(words):
                if match["name"] not in {*_NO_NAMES, *expected.split()}:
                    yield "name of a speaker"


def _kin(text: str, patterns: tuple[re.Pattern[str], ...]) -> Iterator[tuple[str, str]]:
    """(role, name) wherever the text says who somebody is."""
    for pattern in patterns:
        for match in pattern.finditer(text):
            if match["name"] not in _NO_NAMES:
                yield _ROLE_OF[match["role"]], match["name"]
