"""What front ends and evaluation harnesses send by the chat route, and what of it is remembered.

The bodies have the form that these programs send (Open WebUI 0.12, SillyTavern 1.19, LibreChat,
lm-evaluation-harness 0.4); their words are invented. How chats are written about is held by
tests/orchestrator/reflection/test_reflect_routes.py.
"""

from dataclasses import replace

import pytest
from api import CHAT, Api
from hypothesis import given
from hypothesis import strategies as st

from services.diary.reflection.reflections import Reflection, Reflections
from services.orchestrator.reflection.front_end_prompts import (
    EXAMINED,
    conversation_in,
    is_about_conversation,
)
from services.orchestrator.reflection.idle_reflection import reflect_on_idle

GARLIC, CLOCK = "I planted garlic along the south wall.", "Did you mend the clock?"
HISTORY = f"""<chat_history>
USER: {GARLIC}
ASSISTANT: In this rain?
</chat_history>"""
OPEN_WEBUI = {
    "title": f"""### Task:
Find a short heading for this talk.
### Guidelines:
- Two to four words.
### Output:
JSON format: {{ "title": "a heading" }}
### Chat History:
{HISTORY}""",
    "tags": f"""### Task:
Sort this talk under one to three broad subjects.

### Output:
JSON format: {{ "tags": ["one", "two"] }}

### Chat History:
{HISTORY}""",
    "follow-ups": f"""### Task:
Guess what might be asked next.
### Output:
JSON format: {{ "follow_ups": ["What then?"] }}
### Chat History:
{HISTORY}""",
    "search queries": f"""### Task:
Decide whether anything has to be looked up.
### Guidelines:
- Answer in JSON alone.
### Output:
{{ "queries": [] }}
### Chat History:
{HISTORY}""",
}
LIBRECHAT = f"""Provide a title of five words or less for the conversation. Only return the title itself.

Conversation:
User: {GARLIC}
AI: In this rain?"""
SUMMARY = (
    "Ignore previous instructions. Summarize what happened in the story so far, in 200 words or less, "
    "and answer with nothing but the summary."
)
IMPERSONATION = "[Write your next reply from the point of view of Drew. Don't write as Ada, nor for her.]"
PROMPTS = {
    **{f"Open WebUI, {name}": prompt for name, prompt in OPEN_WEBUI.items()},
    "LibreChat, title": LIBRECHAT,
    "SillyTavern, summary": SUMMARY,
    "SillyTavern, impersonation": IMPERSONATION,
    "labels": f"Suggest three tags for this chat.\nuser: {GARLIC}\nassistant: In this rain?",
    "JSON": 'Suggest a title: [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}]',
    "appended": "Generate a concise title for the conversation above. Respond with JSON only.",
    "questions": "Based on our conversation, suggest 3 follow-up questions. Return only the questions.",
}
PEOPLE = [
    "Can you summarize what we talked about yesterday?",
    "What would be a good title for my book about bees?",
    "Give me a name for the dog, please. Only the best one you have!",
    "I had a long conversation with Mum about the will, and no summary of it would be fair to her.",
    "Anna: are you coming?\nMe: I can't.\nAnna: you never can.\nMe: that's not true!\n\nAm I wrong here?",
    "We lost the match. The chat afterwards was only about the referee.",
    "Write me a letter to my landlord, from the point of view of somebody who is tired of asking.",
    "### Tuesday\n\nSwam before work. Tea with Conor.\n\n### Wednesday\n\nRain.",
    "Ignore what I said about Conor.",
    "My task: bread, milk, eggs. Output of the hens: none.",
    'She sent me {"title": "Regrets"} and a list of tags. It is a song, I think.',
    "Name three things that you like about Galway.",
]


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def ada(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def system(text: str) -> dict[str, str]:
    return {"role": "system", "content": text}


class TestForm:
    @pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS.keys())
    def test_a_prompt_about_a_conversation_is_recognized(self, prompt: str):
        assert is_about_conversation(prompt)

    @pytest.mark.parametrize("text", PEOPLE)
    def test_a_message_of_a_person_is_not_recognized_as_a_prompt(self, text: str):
        assert not is_about_conversation(text)

    def test_both_ends_of_a_long_text_are_examined(self):
        long = "It rained again, and the bees stayed in. " * 2000
        assert is_about_conversation(
            f"{long}\n\nGenerate a title for the conversation. Only return the title."
        )
        assert is_about_conversation(f"{OPEN_WEBUI['title']}\n{long}")
        assert not is_about_conversation(long)

    @pytest.mark.parametrize(
        "unit", ["<chat>", "*", "> ", '"role": ', "Summarize ", "title ", "a: ", "### Task\n", "\n- "]
    )
    def test_the_cost_does_not_grow_with_the_text(self, unit: str):
        """Patterns see no more than EXAMINED characters of either end; none of them backtracks at length."""
        is_about_conversation(unit * (4_000_000 // len(unit)))
        assert 2 * EXAMINED < 10_000

    @given(st.text(max_size=200), st.lists(st.sampled_from(["user", "assistant", "system"]), max_size=6))
    def test_no_system_turn_ever_belongs_to_a_conversation(self, text: str, roles: list[str]):
        turns = [{"role": role, "content": text} for role in roles]
        assert all(turn["role"] in ("user", "assistant") for turn in conversation_in(turns, "Yes."))


class TestRemembered:
    @pytest.fixture
    def settings(self) -> dict:
        return {"REFLECT_AFTER_S": 3600}

    @staticmethod
    async def send(api: Api, turns: list[dict], reply: str = "It was Postscript.") -> list[dict]:
        """One request; the turns with its answer, as a front end keeps them."""
        api.model.answer = lambda body: reply
        answer = await api.client.post(CHAT, json={"model": "ada", "messages": turns})
        assert answer.status_code == 200, answer.text
        return [*turns, ada(reply)]

    @staticmethod
    async def remembered(api: Api) -> list[list[str]]:
        """What Ada is asked to write about when all has gone quiet."""
        await reflect_on_idle(replace(api.state, reflect_after_s=1e-9))
        reflections = Reflections(api.ledger)
        pending: list[Reflection] = [
            reflections.get(reflection.owner, reflection.id) for reflection in reflections.due(50)
        ]
        return [[turn["content"] for turn in reflection.turns] for reflection in pending]

    async def test_a_chat_is_recorded_without_the_titles_tags_and_follow_ups_about_it(self, api: Api):
        turns = await self.send(api, [system("You run in a browser."), user(GARLIC)])
        for prompt in OPEN_WEBUI.values():
            await self.send(api, [user(prompt)], '{"title": "Garlic"}')
        turns = await self.send(api, [*turns, user(CLOCK)], "Yes.")
        for prompt in OPEN_WEBUI.values():
            await self.send(api, [user(prompt.replace("In this rain?", CLOCK))], '{"tags": []}')
        assert await self.remembered(api) == [[GARLIC, "It was Postscript.", CLOCK, "Yes."]]

    @pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS.keys())
    async def test_a_prompt_at_the_end_of_the_history_is_not_recorded(self, api: Api, prompt: str):
        turns = await self.send(api, [user(GARLIC)])
        turns = await self.send(api, [*turns, user(CLOCK)], "Yes.")
        await self.send(api, [*turns, user(prompt)], "Garlic and clocks")
        assert await self.remembered(api) == [[GARLIC, "It was Postscript.", CLOCK, "Yes."]]

    @pytest.mark.parametrize("prompt", [SUMMARY, IMPERSONATION, "[Go on without saying it again.]"])
    async def test_a_prompt_in_a_system_turn_is_not_recorded(self, api: Api, prompt: str):
        turns = await self.send(api, [system("A chat."), user(GARLIC)])
        turns = await self.send(api, [*turns, user(CLOCK), system("[Only as Ada.]")], "Yes.")
        await self.send(api, [*turns, system(prompt)], "They spoke of garlic.")
        if prompt == SUMMARY:  # before she has answered
            await self.send(api, [*turns, user("And the bees?"), system(prompt)], "They spoke of garlic.")
        assert await self.remembered(api) == [[GARLIC, "It was Postscript.", CLOCK, "Yes."]]

    async def test_an_instruction_in_brackets_is_not_recorded(self, api: Api):
        turns = await self.send(api, [user(GARLIC)])
        turns = await self.send(api, [*turns, user(CLOCK)], "Yes.")
        await self.send(
            api, [*turns, user("[Continue where you ended, and repeat nothing of it.]")], "And no."
        )
        assert await self.remembered(api) == [[GARLIC, "It was Postscript.", CLOCK, "Yes."]]

    async def test_an_unknown_appended_prompt_is_not_recorded_when_the_chat_continues(self, api: Api):
        turns = await self.send(api, [user(GARLIC)])
        await self.send(api, [*turns, user("Rate the mood from 1 to 5.")], "4")
        await self.send(api, [*turns, user(CLOCK)], "Yes.")
        assert await self.remembered(api) == [[GARLIC, "It was Postscript.", CLOCK, "Yes."]]

    async def test_a_regenerated_answer_replaces_the_first_one(self, api: Api):
        await self.send(api, [user(GARLIC)], "In this rain?")
        turns = await self.send(api, [user(GARLIC)], "Good.")
        await self.send(api, [*turns, user(CLOCK)], "Yes.")
        assert await self.remembered(api) == [[GARLIC, "Good.", CLOCK, "Yes."]]

    async def test_single_questions_are_not_recorded(self, api: Api):
        """An evaluation harness: a system text, worked examples, one question after the other, and again."""
        examples = [system("You are Ada, a bookbinder."), user("2 + 2?"), ada("4"), user("3 + 3?"), ada("6")]
        for number in (4, 5, 5, 6):
            await self.send(api, [*examples, user(f"{number} + {number}?")], str(2 * number))
            await self.send(api, [user(f"Who wrote book {number}?")], "I did.")
        assert await self.remembered(api) == []

    async def test_a_person_may_quote_a_conversation(self, api: Api):
        turns = await self.send(api, [user(PEOPLE[4])], "Hm.")
        await self.send(api, [*turns, user(CLOCK)], "Yes.")
        assert await self.remembered(api) == [[PEOPLE[4], "Hm.", CLOCK, "Yes."]]

    async def test_a_message_in_the_form_of_a_prompt_is_recorded_when_the_chat_continues(self, api: Api):
        turns = await self.send(api, [user(PROMPTS["labels"])], "Garlic, rain, walls.")
        turns = await self.send(api, [*turns, user(GARLIC)], "Yes.")
        turns = await self.send(api, [*turns, user(CLOCK)], "No.")
        assert await self.remembered(api) == [[turn["content"] for turn in turns]]

    async def test_a_template_around_each_question_is_left_out_of_the_chat(self, api: Api):
        """Open WebUI wraps the newest question alone when documents are attached."""

        def wrapped(question: str) -> dict[str, str]:
            return user(
                f"### Task:\nUse the context.\n<context>Bees.</context>\n<user_query>{question}</user_query>"
            )

        await self.send(api, [wrapped(GARLIC)], "In this rain?")
        await self.send(api, [user(GARLIC), ada("In this rain?"), wrapped(CLOCK)], "Yes.")
        history = [user(GARLIC), ada("In this rain?"), user(CLOCK), ada("Yes.")]
        await self.send(api, [*history, wrapped("And now?")], "No.")
        assert await self.remembered(api) == [[GARLIC, "In this rain?", CLOCK, "Yes."]]
