"""Prompts for the user's line, for the persona's line, and for the judge."""

from collections.abc import Iterable, Sequence

from services.persona.persona import Fact, Persona
from trainer.data.sample import Turn
from trainer.synthetic.plan import Plan

# From and to, for what Drew says after his first line.
REPLY_WORDS = (3, 30)

_DREW = """This is a scene of a novel in dialogue. You are {user}, an old friend of {assistant}'s.
{known}
{situation}
In this scene the talk is about a part of {assistant}'s life that {assistant} once told you of:
{facts}
{assistant} is {mood} today. You want to hear {assistant} tell of it: ask or hint, and leave the telling to \
{assistant}. Speak the way friends do, go into what {assistant} said last, and bring up no new names.
Write only the words that {user} says or writes, {low} to {high} of them: no name before them, no quotation \
marks, no stage directions, nothing of {assistant}'s answer.{ending}"""

_ADA = """{system}

What is true of your life:
{facts}

You are {mood} today. Answer {user} in {low} to {high} words, in the first person, from your own life. \
Small things of every day may be made up; relatives, names, dates, places and work may not, and nothing may \
go against what stands above. It is a scene of a novel: nobody in it is an assistant or a machine.
Write only the words that {assistant} says or writes: no name before them, no quotation marks, no stage \
directions, no lists, nothing of {user}'s.{ending}"""

_JUDGE = """These are facts from the life of {assistant}, in {assistant}'s own words:
{facts}

This is a conversation:
{conversation}

Does anything in {assistant}'s words contradict a fact? What the facts say nothing about contradicts nothing.
Answer yes or no, then the fact's number."""

_ENDING = " These are the last words of the scene: bring it to a natural end."


def drew_messages(persona: Persona, plan: Plan, turns: Sequence[Turn]) -> list[Turn]:
    """The prompt for Drew's next line; `turns` is the conversation so far and ends with Ada."""
    low, high = drew_words(plan, turns)
    names = {"user": persona.user_name, "assistant": persona.assistant_name}
    prompt = _DREW.format(
        **names,
        known=_listed(
            f"{persona.assistant_name} says of you: “{fact.text}”"
            for fact in persona.facts
            if persona.user_name in fact.text
        ),
        situation=plan.opening.situation.format(**names),
        facts=_listed(f"{persona.assistant_name}: “{fact.text}”" for fact in plan.facts),
        mood=plan.mood,
        low=low,
        high=high,
        ending=_ENDING if _is_last(plan, turns) else "",
    )
    # For a model that writes the user's lines, the roles are swapped; templates want a user turn first.
    swapped = {"user": "assistant", "assistant": "user"}
    begin = {"role": "user", "content": "Begin."}
    dialogue = [{"role": swapped[turn["role"]], "content": turn["content"]} for turn in turns]
    return [{"role": "system", "content": prompt}, begin, *dialogue]


def drew_words(plan: Plan, turns: Sequence[Turn]) -> tuple[int, int]:
    """How many words Drew's next line may have, from and to."""
    return REPLY_WORDS if turns else plan.opening.words


def ada_messages(persona: Persona, plan: Plan, basics: tuple[Fact, ...], turns: Sequence[Turn]) -> list[Turn]:
    """The prompt for Ada's next line; `turns` is the conversation so far and ends with Drew."""
    low, high = plan.answer_words
    prompt = _ADA.format(
        system=persona.system_text,
        user=persona.user_name,
        assistant=persona.assistant_name,
        facts=_listed(f"- {fact.text}" for fact in known_facts(plan, basics)),
        mood=plan.mood,
        low=low,
        high=high,
        ending=_ENDING if _is_last(plan, turns) else "",
    )
    return [{"role": "system", "content": prompt}, *turns]


def judge_messages(
    persona: Persona, plan: Plan, basics: tuple[Fact, ...], turns: Iterable[Turn]
) -> list[Turn]:
    """One question on the whole conversation."""
    names = {"user": persona.user_name, "assistant": persona.assistant_name}
    facts = known_facts(plan, basics)
    prompt = _JUDGE.format(
        assistant=persona.assistant_name,
        facts=_listed(f"{number}. {fact.text}" for number, fact in enumerate(facts, start=1)),
        conversation=_listed(f"{names[turn['role']]}: {turn['content']}" for turn in turns),
    )
    return [{"role": "user", "content": prompt}]


def known_facts(plan: Plan, basics: tuple[Fact, ...]) -> tuple[Fact, ...]:
    """The basic facts, then those that the conversation is about, each once."""
    return tuple(dict.fromkeys((*basics, *plan.facts)))


def _is_last(plan: Plan, turns: Sequence[Turn]) -> bool:
    return len(turns) // 2 == plan.exchanges - 1


def _listed(lines: Iterable[str]) -> str:
    return "\n".join(lines)
