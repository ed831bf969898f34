"""The backstory: what the facts fix can't be said otherwise, and what they leave open can.

.venv/bin/python -m pytest tests/trainer/synthetic/test_backstory.py
"""

import json
from datetime import date
from pathlib import Path

import pytest

from services.persona.persona import Persona, load_persona
from trainer.synthetic.backstory import Backstory
from trainer.synthetic.rejection_reasons import check_line

SAMPLES = Path(__file__).parents[3] / "data" / "samples"
TODAY = date(2026, 11, 22)


@pytest.fixture
def backstory(persona: Persona) -> Backstory:
    return Backstory(persona, TODAY)


@pytest.mark.parametrize(
    ("words", "denied"),
    [
        ("My father, Jim, was a postman.", "name of the father"),
        ("My late father Jim was a postman.", "name of the father"),
        ("My dad was called Jim.", "name of the father"),
        ("My mam's name is Bridget.", "name of the mother"),
        ("I rang my brother Declan.", "name of the brother"),
        ("My granny was named Peig.", "name of the grandmother"),
        ("My niece is Saoirse, and she is four.", "name of the niece"),
        ("I've got a cat called Pixel.", "name of the cat"),
        ("Pixel, my cat, sat on it.", "name of the cat"),
        ("I was born in Sligo in 1988.", "year of birth"),
        ("I was born in June 1989, or so they say.", "month of birth"),
        ("My birthday's in June.", "month of birth"),
        ("I was born in Cork.", "place of birth or childhood"),
        ("I grew up in Dublin.", "place of birth or childhood"),
        ("I'm thirty-two now.", "age"),
        ("I'm 45, Drew.", "age"),
        ("My name is Emma.", "name of a speaker"),
        ("Yes. I'm Emma, and I bind books.", "name of a speaker"),
        ("Hello Michael, it was grand.", "name of a speaker"),
        ("Dear Drew,\n\nIt rained.\n\nLove,\nEmma", "name of a speaker"),
    ],
)
def test_words_that_deny_a_fact_are_found(backstory: Backstory, words: str, denied: str):
    assert backstory.contradiction(words) == denied


@pytest.mark.parametrize(
    "words",
    [
        "My father, Tom, was a postman, and my mother Maeve a nurse.",
        "My mother, Conor and I went to the sea. My mother, Conor, and I came back.",
        "My other grandmother Kate kept no hens, and my mother's brother Pat no bees.",
        "My sister Jane and I shared a room.",
        "My mother is Irish. My father, God rest him, was too.",
        "I was born in Sligo on 14 March 1989. I grew up in Strandhill.",
        "My brother was born in May 1992.",
        "I'm thirty-seven. I'm two rooms away. I'm forty minutes late.",
        "When I was nine I fell.",
        "I'm Irish. I'm Ada. Hello Drew, it rained.",
        "A neighbour's cat called Tiger came by.",
    ],
)
def test_words_that_deny_nothing_are_left_alone(backstory: Backstory, words: str):
    assert backstory.contradiction(words) == ""


def test_drew_may_not_give_her_people_other_names(backstory: Backstory):
    assert backstory.misnaming("How is your brother Declan?") == "name of the brother"
    assert backstory.misnaming("Hi Emma, how are you?") == "name of a speaker"
    assert backstory.misnaming("Hi Ada, how is your brother Conor, and my brother Sam sends love.") == ""


def test_no_fact_and_no_sample_contradicts_the_backstory_or_sounds_like_a_machine(backstory: Backstory):
    conversations = json.loads((SAMPLES / "generated_conversations.json").read_text(encoding="utf-8"))
    turns = [turn for conversation in conversations for turn in conversation["conversations"]]
    diary = (SAMPLES / "diary.jsonl").read_text(encoding="utf-8").splitlines()
    hers = [turn["content"] for turn in turns if turn["role"] == "assistant"]
    hers += [json.loads(line)["text"] for line in diary]
    hers += [fact.text for fact in backstory.persona.facts]
    his = [turn["content"] for turn in turns if turn["role"] == "user"]
    assert len(hers) > 150
    assert [words for words in hers if backstory.contradiction(words)] == []
    assert [words for words in his if backstory.misnaming(words)] == []
    for words in hers + his:
        check_line(words, (1, 1000))


def test_another_persona_brings_its_own_fixed_points(someone_else: Path):
    jonas = Backstory(load_persona(someone_else), TODAY)
    assert jonas.names == {"sister": {"Frauke"}, "dog": {"Skipper"}}
    assert jonas.contradiction("My sister Anna is a nurse.") == "name of the sister"
    assert jonas.contradiction("I was born in 1989.") == "year of birth"
    assert jonas.contradiction("My father, Jim, was a postman. I'm Jonas.") == ""
    assert jonas.contradiction("Hello Drew, I'm well.") == "name of a speaker"
    assert len(jonas.basics) == 3


def test_an_age_is_true_between_the_newest_fact_and_today(persona: Persona):
    later = Backstory(persona, date(2031, 6, 1))
    assert later.contradiction("I'm thirty-seven.") == ""
    assert later.contradiction("I'm forty-two.") == ""
    assert later.contradiction("I'm forty-three.") == "age"
