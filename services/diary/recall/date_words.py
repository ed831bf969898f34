"""Decides whether a word that can name a month, a season or a year does so in its context.

"May", "march", "august", "fall" and "spring" are ordinary words too, and a year is a number like any other:
"this may hurt", "march 4 miles", "in 2000 words". The words before and after decide, and for months the
capital letter. In doubt the word is no date: a missed date costs a preference, a false one hides the answer.
"""

import re

AMBIGUOUS_MONTHS = frozenset({"may", "march", "august", "mar", "jan"})
AMBIGUOUS_SEASONS = frozenset({"spring", "fall"})
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
_NEXT = re.compile(r"[ ]?((?:[^\W_]|['-])+)")
_MORE_NUMBERS = re.compile(r"(?: ?[-–] ?| or | and | to | of )\d[\d.,]*(?: more)?")
_CLAUSE_ENDS = re.compile(r" ?(?:[^\w\s'-]|$)|'s\b(?! )")


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


# Words that can follow a date, because they begin another part of the sentence.
_FUNCTION_WORDS = _set(
    "a an the this that these those my your his her its our their some any no every each all both "
    "i you he she it we they me him us them who whom whose which what when where why how "
    "and or but nor so if because while as than though although until till since before after during "
    "at in on of to from with without by for about into over under near between through around against "
    "is are was were am be been being did do does done has have had will would can could shall should might "
    "not never ever also too again still only just already there here then now once like "
    "last next early late again yesterday today tonight"
)
# Words that follow the modal verb "may" and not the month "May".
_PRONOUNS = _set("i you he she it we they")
_AFTER_MODAL = _PRONOUNS | _set("be not have also never only just well even ever still do")
_PREPOSITIONS = _set(
    "in on of during since until till by before after from to between and or for over around through about "
    "early late mid last next this"
)
_PARTS = _set(
    "end beginning start middle first second third fourth fifth last half part most all rest whole ides "
    "month days day week weeks weekend morning evening night afternoon heat cold rain storms heart height"
)
_PARTS |= {f"{number}{ending}" for number in range(1, 32) for ending in ("st", "nd", "rd", "th")}
_AUXILIARIES = _set("did does do will would can could has have had is was are were may might should must")
_POSSESSIVES = _set("your my his her their our its a an")
_SEASON_COMPOUNDS = _set(
    "holiday holidays term months vacation break weather semester season day days evening evenings night "
    "nights morning mornings afternoon afternoons week weeks weekend weekends solstice equinox time"
)
_SEASONAL_OBJECTS = _set(
    "coat coats boots boot clothes dress dresses jacket jackets shoes shoe tyres tires wheat squash sports "
    "palace olympics garden house jasmine savory sale sales school camp camps job jobs"
)
_UNITS = _set(
    "word page metre meter foot feet mile step yard inch inches m km kg g mg ml l cm mm ft lb lbs oz "
    "euro dollar pound pence lire yen kroner crowns rupee kilo kilos gram tonne ton litre liter piece "
    "day week month year hour minute second hours people men women children mice geese sheep fish cattle "
    "percent per times more odd other degrees bc bce"
)
# Words that end in s and are not plurals.
_NO_PLURALS = _set(
    "was is has does this his its as us yes always perhaps besides sometimes afterwards towards upwards "
    "nowadays thus across ours yours hers theirs unless christmas whereas plus less minus versus what's "
    "it's that's who's let's does's"
)
_INJURY = re.compile(
    r"\b(?:hurt\w*|injur\w+|br[eo]ak\w*|broken?|bruis\w+|sprain\w*|hip|leg|arm|ankle|wrist|ladder|stairs|bones?)\b"
)


def counts_something(after: str) -> bool:
    """Whether the number that ends where `after` begins counts things: "2000 words", "1999 small steps"."""
    if re.match(r"(?:[.,:]\d|-[^\W\d]| ?[%°€$£])", after):
        return True
    if further := _MORE_NUMBERS.match(after):
        after = after[further.end() :]
    for _ in range(2):  # there may be one adjective
        match = _NEXT.match(after)
        if match is None:
            return False
        word = match[1]
        if word.casefold() in _UNITS:
            return True
        if not (word.islower() or word.isupper()) or word.casefold() in _FUNCTION_WORDS:
            return False
        if _is_plural(word.casefold()):
            return True
        after = after[match.end() :]
    return False


def _is_plural(word: str) -> bool:
    return len(word) > 3 and word.endswith("s") and not word.endswith("ss") and word not in _NO_PLURALS


def month_before_year(word: str, before: str) -> bool:
    """Whether `word` is a month or a season in "<word> in 2021" or "<word> last year"."""
    if word.casefold() not in AMBIGUOUS_MONTHS | AMBIGUOUS_SEASONS:
        return True
    return _is_capital(word, before) or _last_word(before) in _PREPOSITIONS | {"the"}


def month_after_day(word: str, ordinal: bool, joined: bool, before: str, after: str) -> bool:
    """Whether `word` is a month in "4 <word>", with `ordinal` "4th <word>", with `joined` "4 of <word>"."""
    if joined or word.casefold() not in AMBIGUOUS_MONTHS:
        return True
    if _first_word(after) in _AFTER_MODAL - _PRONOUNS:
        return False
    is_named = ordinal or _last_word(before) in _PREPOSITIONS
    return word.istitle() or (is_named and _is_clause_end(after))


def month_before_day(word: str, ordinal: bool, joined: bool, before: str, after: str) -> bool:
    """Whether `word` is a month in "<word> 4", with `ordinal` "<word> 4th", with `joined` "<word> the 4"."""
    if counts_something(after):
        return False
    if word.casefold() not in AMBIGUOUS_MONTHS:
        return True
    if joined and not ordinal:
        return False
    if _is_capital(word, before):
        return True
    is_named = ordinal or word.istitle() or _last_word(before) in _PREPOSITIONS
    return is_named and _is_clause_end(after)


def is_name_alone(word: str, which: str, the: bool, before: str, after: str) -> bool:
    """Whether `word` is a month or a season in "<which> <word>": "in May", "last fall", "this spring"."""
    if re.match(r"'s\b", after):
        return False
    low = word.casefold()
    if low in AMBIGUOUS_MONTHS:
        return _month_alone(word, which, the, before, after)
    if low in AMBIGUOUS_SEASONS:
        return _season_alone(low, which, the, before, after)
    return _first_word(after) not in _SEASONAL_OBJECTS or low not in {"summer", "autumn", "winter"}


def _month_alone(word: str, which: str, the: bool, before: str, after: str) -> bool:
    if the:
        return False  # "during the march"
    if word.istitle():
        return which != "that" or _is_clause_end(after)
    if which == "this" and word.casefold() != "march" and _CLAUSE_ENDS.match(after):
        return True  # no verb and no adjective ends a sentence
    if which in ("this", "that") or (which == "last" and _last_word(before) in _POSSESSIVES | {"the"}):
        return False
    if which == "of" and _last_word(before) not in _PARTS:
        return False
    if which in ("early", "late") and _first_word(after) in _AFTER_MODAL:
        return False
    return _is_clause_end(after)


def _season_alone(low: str, which: str, the: bool, before: str, after: str) -> bool:
    if which == "last":
        return _last_word(before) not in _POSSESSIVES | {"the"}
    if which == "of" and _last_word(before) not in _PARTS:
        return False
    if low == "fall" and the and _INJURY.search(f"{before} {after}".casefold()):
        return False
    if _first_word(after) == "of" or _first_word(after) in ("from", "off", "down", "into", "onto", "through"):
        return False
    if _first_word(after) in _SEASON_COMPOUNDS:
        return True
    if which in ("this", "that") and _last_word(before) in _AUXILIARIES and not _is_clause_end(after):
        return False
    return _is_clause_end(after)


def _is_clause_end(after: str) -> bool:
    """Whether the phrase ends before `after`: the sentence ends, or another part of it begins."""
    if _CLAUSE_ENDS.match(after):
        return True
    match = _NEXT.match(after)
    if match is None or match[1].casefold() in _FUNCTION_WORDS or match[1].isdigit():
        return True
    return match[1][0].isupper() and (len(match[1]) == 1 or not match[1].isupper())  # a name, or "I"


def _is_capital(word: str, before: str) -> bool:
    """Whether the word is capitalised, and not only because it begins a sentence."""
    return word.istitle() and bool(before.strip()) and before.rstrip()[-1] not in '.!?…:"“'


def _last_word(before: str) -> str:
    words = _WORD.findall(before[-40:])
    return words[-1].casefold() if words else ""


def _first_word(after: str) -> str:
    match = _NEXT.match(after)
    return match[1].casefold() if match else ""
