"""Builds the request that makes Ada write a diary entry about a conversation."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.diary.reflection.reflections import Reflection, Turn
from services.errors import DiaryUnavailable
from services.orchestrator.dependencies import AppState
from services.orchestrator.http.json_body import Json
from services.orchestrator.vllm.context_window import TOKENS_PER_TURN, ContextWindow
from services.orchestrator.vllm.token_counter import TokenCounter
from services.persona.persona import Persona
from services.persona.prompt import build_messages

log = logging.getLogger("ada.orchestrator")
ANSWER_TOKENS = 600
CONTEXT_TOKENS = 4096  # assumed when the model server does not report its context length
INSTRUCTION = (
    "Our talk ends here. Now write the entry of this day in your diary about it: in the first person, in "
    "your own words, a few sentences, from this talk alone. Write down nothing that was not said in it. No "
    "title, no date and no greeting: only the entry itself."
)


@dataclass(frozen=True)
class UpstreamReflectionRequest:
    """The body of a chat completion, and the number of turns in it, counted from the last turn."""

    body: Json
    turns: int


def dialogue_turns(messages: Sequence[Mapping[str, str]]) -> list[Turn]:
    """Return the turns of the user and Ada. System turns, and with them recalled entries, are left out."""
    speakers = ("user", "assistant")
    return [
        {"role": message["role"], "content": message["content"]}
        for message in messages
        if message["role"] in speakers and message["content"].strip()
    ]


async def build_reflection_request(
    persona: Persona, turns: Sequence[Turn], window: ContextWindow, tokens: TokenCounter
) -> UpstreamReflectionRequest:
    """Build the request for an entry about these turns, or about the last ones that fit into the context."""
    framing = [persona.system_text, INSTRUCTION]
    room = (await window.length() or CONTEXT_TOKENS) - ANSWER_TOKENS
    room -= sum(await tokens.counts(framing)) + TOKENS_PER_TURN * (len(framing) + 1)
    turns_in_request = await _last_that_fit([_encodable(turn) for turn in turns], room, tokens)
    conversation = [*turns_in_request, {"role": "user", "content": INSTRUCTION}]
    body: Json = {
        "model": "ada",
        "messages": build_messages(persona, conversation),
        "max_tokens": ANSWER_TOKENS,
        "temperature": 0.7,
        "top_p": 0.8,
    }
    return UpstreamReflectionRequest(body, len(turns_in_request))


def submit_reflection(state: AppState, reflection: Reflection) -> None:
    """Queue a reflection. Without the queue, it waits in the ledger until the outbox relay queues it."""
    if reflection.state != "queued":
        return
    try:
        state.jobs.submit_reflection(reflection.owner, reflection.id)
    except DiaryUnavailable as error:
        log.warning("reflection %s waits in the ledger: %s", reflection.id, error)


def _encodable(turn: Turn) -> Turn:
    """Make a turn encodable as UTF-8: a model's answer may contain half a surrogate pair."""
    return {**turn, "content": turn["content"].encode("utf-8", "replace").decode("utf-8")}


async def _last_that_fit(turns: Sequence[Turn], room: int, tokens: TokenCounter) -> list[Turn]:
    fitting: list[Turn] = []
    for turn in reversed(turns):
        number = await tokens.count(turn["content"]) + TOKENS_PER_TURN
        if number > room and not fitting:  # a single turn that is too long for the model is cut to its end
            characters = len(turn["content"]) * max(room, 1) // number
            return [{**turn, "content": turn["content"][-characters:]}]
        if number > room:
            break
        fitting.insert(0, turn)
        room -= number
    return fitting
