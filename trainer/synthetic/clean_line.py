"""One speaker's line, without what models write around it."""

import re
import unicodedata

from services.chat_markup import TURN_BREAK, strip_reasoning

_BOLD = re.compile(r"\*\*(.+?)\*\*|__(.+?)__")
# *smiles and puts the cup down* where a sentence could stand; *really* inside one is emphasis.
_ACTION = re.compile(r"(?:(?<=[.!?…])[ \t]+|^[ \t]*)\*[^*\n]+\*(?=[ \t]*(?:$|[A-ZÀ-ÖØ-Þ]))", re.MULTILINE)
_EMPHASIS = re.compile(r"\*([^*\n]+)\*")
# (laughs) before a line or alone on one.
_ASIDE = re.compile(r"^[ \t]*\([a-zà-ÿ][^()\n]{0,60}\)[ \t]*", re.MULTILINE)
# [pauses], but not [your name]: that is a hole, and a hole is for the checks.
_BRACKET = re.compile(r"\[(?!your\b|my\b|insert\b|name\b|date\b)[a-zà-ÿ][^\[\]\n]{0,60}\]", re.IGNORECASE)
_SAYS = r"(?: (?:says?|said|asks?|asked|writes?|wrote|replies|replied|answers|answered))?"
_QUOTES = {'"': '"', "“": "”", "„": "“", "«": "»", "'": "'", "‘": "’", "`": "`"}


def clean_line(raw: str, own: tuple[str, ...], others: tuple[str, ...]) -> str:
    """The words of one speaker alone; empty when there are none.

    `own` are the names that may stand before the speaker's words, `others` those of whoever speaks next.
    Gone are thoughts, names, quotes around all of it, stage directions, and the other's turn.
    """
    text = _writable(raw)
    while (cleaned := _clean(text, own, others)) != text:
        text = cleaned
    return text


def _clean(text: str, own: tuple[str, ...], others: tuple[str, ...]) -> str:
    text = next(filter(str.strip, TURN_BREAK.split(strip_reasoning(text))), "")
    text = _BOLD.sub(lambda match: match[1] or match[2], text)
    text = _own_turn(text, own, others)
    text = _EMPHASIS.sub(r"\1", _ACTION.sub("", text))
    text = _BRACKET.sub("", _ASIDE.sub("", text))
    return _unquoted(_tidy(text))


def _writable(raw: str) -> str:
    """Without half surrogate pairs and control characters, which JSON may hold and no file should."""
    text = unicodedata.normalize("NFC", raw.encode("utf-8", "ignore").decode())
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) != "Cc")


def _own_turn(text: str, own: tuple[str, ...], others: tuple[str, ...]) -> str:
    """The first stretch that belongs to the speaker, where a model wrote several turns."""
    names = "|".join(map(re.escape, (*own, *others)))
    label = rf"(?:^|(?<=[.!?…\"”] ))[ \t]*[*_\"“]*({names})[*_]*{_SAYS}[ \t]*(?:\([^()\n]*\))?[ \t]*:[*_]*"
    unlabelled, *labelled = re.split(label, text, flags=re.IGNORECASE | re.MULTILINE)
    stretches = [(own[0], unlabelled), *zip(labelled[::2], labelled[1::2], strict=True)]
    mine = {name.lower() for name in own}
    return next((words for name, words in stretches if name.lower() in mine and words.strip()), "")


def _tidy(text: str) -> str:
    lines = [" ".join(line.split()) for line in text.splitlines()]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def _unquoted(text: str) -> str:
    """Without one pair of quotes around all of it; quotes that close inside are speech and stay."""
    closing = _QUOTES.get(text[:1])
    if len(text) > 1 and closing == text[-1:] and closing not in text[1:-1] and text[0] not in text[1:-1]:
        return text[1:-1].strip()
    return text
