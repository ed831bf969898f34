"""Plans: the same for the same seed, varied, and fair to every fact.

.venv/bin/python -m pytest tests/trainer/synthetic/test_synthetic_plan.py
"""

from collections import Counter
from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from services.persona.persona import Fact, Persona
from trainer.synthetic.plan import MOODS, OPENINGS, plans

words = st.sampled_from(["Tom", "Nuala", "Sligo", "sea", "bread", "I", "went", "with", "to", "and"])
facts = st.lists(
    st.builds(
        Fact,
        date=st.integers(1900, 2030).map(str),
        topic=st.sampled_from(["family", "work", "place"]),
        text=st.lists(words, min_size=1, max_size=8).map(" ".join),
    ),
    min_size=1,
    max_size=25,
    unique=True,
).map(tuple)


@given(facts, st.integers())
def test_every_fact_is_used_before_any_is_used_a_second_time(facts: tuple[Fact, ...], seed: int):
    used: Counter[Fact] = Counter(dict.fromkeys(facts, 0))
    for plan in islice(plans(facts, seed), 3 * len(facts)):
        used.update(plan.facts)
        assert max(used.values()) - min(used.values()) <= 1
        assert 1 <= len(plan.facts) <= 3


@given(facts, st.integers(), st.integers(0, 40), st.integers(1, 5))
def test_a_plan_is_known_by_its_seed_and_number_alone(facts, seed: int, first: int, count: int):
    later = list(islice(plans(facts, seed), first, first + count))
    assert later == list(islice(plans(facts, seed), first + count))[first:]
    assert [plan.number for plan in later] == list(range(first, first + count))


def test_facts_in_one_plan_share_a_topic_or_a_name(persona: Persona):
    groups = [plan.facts for plan in islice(plans(persona.facts, 3407), 300) if len(plan.facts) > 1]
    assert len(groups) > 100
    for group in groups:
        topics = {fact.topic for fact in group}
        names = set.intersection(*({word.strip(",.;") for word in fact.text.split()} for fact in group))
        assert len(topics) < len(group) or any(name[0].isupper() for name in names)


def test_another_seed_gives_other_plans(persona: Persona):
    assert list(islice(plans(persona.facts, 1), 20)) != list(islice(plans(persona.facts, 2), 20))


def test_plans_vary_in_mood_opening_and_length(persona: Persona):
    many = list(islice(plans(persona.facts, 3407), 300))
    assert {plan.mood for plan in many} == set(MOODS)
    assert {plan.opening for plan in many} == set(OPENINGS)
    assert {plan.exchanges for plan in many} == {1, 2, 3, 4, 5}
    assert len({plan.answer_words for plan in many}) > 3
