"""What is fit to learn from: mended, of a length, in a language, and nobody's address or number in it.

.venv/bin/python -m pytest tests/trainer/data/test_cleaning.py
"""

import csv
import json
import multiprocessing
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.errors import ConfigError
from services.process.cpu_count import available_cpus
from trainer.config import TrainingConfig
from trainer.data.cleaning import (
    STAND_INS,
    TOO_LONG,
    TOO_SHORT,
    Cleaner,
    Cleaners,
    Scrubber,
    normalize,
)
from trainer.data.sample import Sample, alternating_turns, make_sample

ROOT = Path(__file__).parents[3]
SAMPLES = ROOT / "data" / "samples"
WALK = "I walked along the prom with Marta this morning and we talked about her bakery the whole way."


@pytest.fixture(scope="module")
def cleaner() -> Cleaner:
    return Cleaner(TrainingConfig())


@pytest.fixture(scope="module")
def scrubber() -> Scrubber:
    return Scrubber()


def telling(text: str, asking: str = "How was your day?", summary: str = "") -> Sample:
    return make_sample("journals", "file:1", (asking, "What did you do?"), text, summary)


def talk(*contents: str) -> Sample:
    return Sample("conversations", "file:1", alternating_turns(*contents))


def committed_texts() -> list[str]:
    """All that the project's own samples say."""
    texts = [json.loads(line)["text"] for line in (SAMPLES / "diary.jsonl").read_text().splitlines()]
    talks = json.loads((SAMPLES / "generated_conversations.json").read_text())
    texts += [turn["content"] for talk in talks for turn in talk["conversations"]]
    for name in ("hippocorpus.csv", "journal_entries.csv"):
        with (SAMPLES / name).open(encoding="utf-8", newline="") as file:
            texts += [row.get("story") or row["Answer"] for row in csv.DictReader(file)]
    return texts


# What belongs to somebody


@pytest.mark.parametrize(
    ("text", "leftover"),
    [
        ("Write to jane.doe+x@gmail.com, please.", "Write to name@example.com, please."),
        ("It was JANE@Foo.co.uk.", "It was name@example.com."),
        ("It was jane.com@foo.org.", "It was name@example.com."),
        ("See https://www.foo.com/a/b?c=1&d=2#e.", "See https://example.com."),
        ("See HTTP://LOCALHOST:8080/x!", "See https://example.com!"),
        ("See http://localhost/x", "See https://example.com"),
        ("Ask u/somebody", "Ask u/someone"),
        ("Ask @somebody", "Ask @someone"),
        ("Look, foo.org", "Look, example.com"),
        ("It is ::a", "It is 192.0.2.1"),
        ("(look: www.foo.org/~jane)", "(look: https://example.com)"),
        ("[my dog](https://imgur.com/gallery/abc)", "[my dog](https://example.com)"),
        ("On janedoe.com and foo.co.uk/x.", "On example.com and example.com."),
        ("youtu.be/abc, then bit.ly/3x", "example.com, then example.com"),
        ("Ask @drew_92 or u/some-body or /u/abc_d.", "Ask @someone or u/someone or u/someone."),
        ("Call 212-555-0187!", "Call 555-0100!"),
        ("Call (212) 555-0187 or +44 20 7946 0958.", "Call 555-0100 or 555-0100."),
        ("My number was 087 123 4567 then.", "My number was 555-0100 then."),
        ("It's +91 98765 43210, or 0412 345 678.", "It's 555-0100, or 555-0100."),
        ("Card 4111-1111-1111-1111.", "Card 4242 4242 4242 4242."),
        ("IBAN DE89370400440532013000.", "IBAN GB82 WEST 1234 5698 7654 32."),
        ("Social security 536-22-1234.", "Social security 987-65-4320."),
        ("My address is 10.1.2.3, or 2001:db8::7.", "My address is 192.0.2.1, or 192.0.2.1."),
    ],
)
def test_what_points_at_somebody_is_replaced_by_what_belongs_to_nobody(scrubber, text: str, leftover: str):
    assert scrubber.scrub(text) == leftover


@pytest.mark.parametrize(
    "text",
    [
        "in 1998",
        "about 3,500 people",
        "from 1998 to 2004, or 1998-2004",
        "in the year 1640; which is long ago",
        "on 07.07.1966, at 21.07.1997 14:30, on 10/12/2015, on 2015-10-12, on 14-03-1989, on june 13 2019",
        "between 12:30 and 14:45, 9-5",
        "$1,250,000 or €300.000.000",
        "I ran 10,000 steps and 42.195 km, my best was 3:14:15.92",
        "years: 1989 2008 2017 2019",
        "room 2041, bus 7, platform 9 3/4, order 1189-2230-31",
        "I went home.My sister said so.It was good...the best day.So there",
        "I had no info.Info came later",
        "a.k.a. e.g. i.e. U.S.A. p.m. St.Patrick C.S.Lewis Mr.Darcy",
        "version 1.2.3, node.js, 5.00/yr, and/or, w/o, r/tifu",
        "meet @ the park, @home, @work",
        "a score of 21-15 21-18, a ratio of 16:9, aspect 4:3",
        "eleven volumes from 1884 to 1931",
    ],
)
def test_years_amounts_and_full_stops_without_a_space_are_left_alone(scrubber, text: str):
    assert scrubber.scrub(text) == text


def test_nothing_in_the_committed_samples_is_taken_for_somebodys(scrubber):
    assert [text for text in committed_texts() if scrubber.scrub(text) != text] == []


@pytest.mark.parametrize("stand_in", STAND_INS.values())
def test_what_stands_in_is_not_replaced_again(scrubber, stand_in: str):
    assert scrubber.scrub(f"It was {stand_in}, or so I think.") == f"It was {stand_in}, or so I think."


@settings(deadline=None)
@given(
    text=st.text(),
    before=st.sampled_from(["", "write to ", "(", "it's "]),
    after=st.sampled_from(["", " now", ")", "!"]),
)
def test_no_address_stays_whatever_stands_around_it(scrubber, text: str, before: str, after: str):
    assert "jane@gmail.com" not in scrubber.scrub(f"{text} {before}jane@gmail.com{after} {text}")


def test_drews_questions_and_the_gist_are_scrubbed_like_the_telling(cleaner):
    sample = cleaner.clean(telling(WALK, asking="Did jane@gmail.com write?", summary="Call 212-555-0187."))
    assert sample.turns[0]["content"] == sample.prompt_variants[0] == "Did name@example.com write?"
    assert sample.summary == "Call 555-0100."


def test_scrubbing_can_be_turned_off():
    text = f"{WALK} Write to jane@gmail.com."
    assert Cleaner(TrainingConfig(scrub_pii=False)).clean(telling(text)).answer == text


def test_presidio_brings_no_torch_into_a_process_and_asks_no_network():
    program = """
import sys
asked = []
NETWORK = ("socket.connect", "socket.getaddrinfo")
sys.addaudithook(lambda event, _: asked.append(event) if event in NETWORK else None)
from trainer.data.cleaning import Scrubber
print(Scrubber().scrub("Write to jane@gmail.com."))
print("torch" in sys.modules, "transformers" in sys.modules, asked)
import torch
"""
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout == "Write to name@example.com.\nFalse False []\n"


# Mending


@pytest.mark.parametrize(
    ("broken", "mended"),
    [
        ("cafÃ© in GdaÅ„sk", "café in Gdańsk"),
        ("Tom &amp; Jerry &lt;3 &amp;#x200B;", "Tom & Jerry <3"),
        ("&eacute;clairs <i>&quot;yes&quot;</i>", 'éclairs <i>"yes"</i>'),
        ("one\r\ntwo\rthree", "one\ntwo\nthree"),
        ("one \t two\u00a0three ", "one two three"),
        ("one  \n\n \n\n\n  two", "one\n\ntwo"),
        ("a\x00b\u200bc\ufeff", "abc"),
    ],
)
def test_broken_text_is_mended(broken: str, mended: str):
    assert normalize(broken) == mended


@given(st.text())
def test_mended_text_has_one_kind_of_space_line_end_and_blank_line(text: str):
    mended = normalize(text)
    assert mended == mended.strip()
    assert not any(run in mended for run in ("\r", "\t", "\u00a0", "  ", " \n", "\n ", "\n\n\n"))


def test_the_committed_samples_lose_nothing_but_doubled_spaces_and_curled_quotes():
    straight = str.maketrans("‘’“”", "''\"\"")
    texts = committed_texts()
    assert [normalize(text).split() for text in texts] == [text.translate(straight).split() for text in texts]


# Length


@pytest.mark.parametrize(("words", "outcome"), [(7, TOO_SHORT), (8, None), (1200, None), (1201, TOO_LONG)])
def test_a_telling_has_min_words_to_max_words(words: int, outcome: str | None):
    cleaned = Cleaner(TrainingConfig(language="")).clean(telling("word " * words))
    assert cleaned == outcome if outcome else isinstance(cleaned, Sample)


def test_a_telling_without_spaces_is_too_long_however_few_its_words(cleaner):
    assert cleaner.clean(telling(f"{WALK} {'x' * 30_000}")) == TOO_LONG


def test_a_conversation_may_be_as_short_or_long_as_it_is(cleaner):
    assert isinstance(cleaner.clean(talk("Tea?", "Yes.")), Sample)
    assert isinstance(cleaner.clean(talk("Tell me all.", f"{WALK} " * 200)), Sample)


def test_a_conversation_with_nothing_left_in_a_turn_is_too_short(cleaner):
    assert cleaner.clean(talk("Tea?", "Yes.", "\u200b&#x200B;", "Milk?")) == TOO_SHORT


# Language


@pytest.mark.parametrize(
    "text",
    [
        "Gestern waren wir am Meer und haben am Abend mit Freunden Fisch gegessen und viel gelacht.",
        "Ayer fuimos a la playa con mis hermanos y comimos pescado hasta que se hizo de noche.",
        "Вчера мы ездили на море с друзьями.",
        "昨日は友達と海に行って、魚を食べました。とても楽しかったです。",
        "Hier, nous sommes allés à la mer.",
        "Ich bin heute sehr müde.",
        "Bhí lá maith againn cois farraige.",
    ],
)
def test_another_language_is_left_out_long_or_short(cleaner, text: str):
    assert cleaner.clean(talk("How was it?", text)) == "not en"


@pytest.mark.parametrize(
    "text",
    [
        *("Yes.", "No.", "Ha!", "…", "👍", "Coffee.", "Vellum.", "lol idk", "so tired rn", "123 456 789"),
        "Schubert, the B flat.",
        "Pepperoni pizza from Angelo's Pizza Parlour.",
        "Knocknarea, Strandhill, Sligo, Galway, Dublin.",
        "Dia duit, Drew. How are you?",
        "Sláinte! Here's to Conor and Aoife.",
        WALK,
    ],
)
def test_names_and_one_word_answers_pass_for_english(cleaner, text: str):
    assert isinstance(cleaner.clean(talk("And then?", text)), Sample)


def test_all_committed_conversations_and_tellings_are_fit(cleaner):
    outcomes = [cleaner.clean(telling(text)) for text in committed_texts() if len(text.split()) >= 8]
    assert [outcome for outcome in outcomes if isinstance(outcome, str)] == []


def test_another_language_can_be_wanted_or_any():
    german = talk("Und?", "Gestern waren wir am Meer und haben am Abend mit Freunden Fisch gegessen.")
    for language in ("de", ""):
        assert isinstance(Cleaner(TrainingConfig(language=language)).clean(german), Sample)
    assert Cleaner(TrainingConfig(language="de")).clean(telling(WALK)) == "not de"


def test_a_language_that_nobody_speaks_is_named():
    with pytest.raises(ConfigError, match="language: 'qq' can't be recognised"):
        Cleaner(TrainingConfig(language="qq"))


# Many samples


@settings(deadline=None)
@given(texts=st.lists(st.text(), min_size=2, max_size=4))
def test_whatever_a_sample_says_it_is_cleaned_or_left_out_for_a_reason(cleaner, texts: list[str]):
    sample = talk(*texts[: len(texts) // 2 * 2])
    cleaned = cleaner.clean(sample)
    assert cleaned in (TOO_SHORT, "not en") or [turn["role"] for turn in cleaned.turns] == [
        turn["role"] for turn in sample.turns
    ]


def test_processes_give_what_one_process_gives_in_the_same_order_and_end():
    samples = [telling(f"{WALK} It was day {n}.") for n in range(210)]
    samples[5] = telling("Too short.")
    samples[-1] = replace(samples[-1], summary="jane@gmail.com")
    config = TrainingConfig()
    with Cleaners(config, min_parallel=200, min_per_process=100) as cleaners:
        all_samples = list(cleaners.clean(samples))
        assert len(multiprocessing.active_children()) == (
            min(available_cpus(), 2) if available_cpus() > 1 else 0
        )
        few = list(cleaners.clean(samples[:10]))
    assert multiprocessing.active_children() == []
    alone = Cleaner(config)
    assert all_samples == [alone.clean(sample) for sample in samples]
    assert all_samples[5] == TOO_SHORT
    assert few == all_samples[:10]
