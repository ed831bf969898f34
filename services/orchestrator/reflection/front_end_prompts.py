"""Separates the turns of a conversation from the prompts that front ends add to it.

Front ends use the chat route for titles, tags, follow-up questions, summaries and impersonation. Those
prompts are recognized by their form, and only at the end of a request: a message that names the sections of
a task, or that requests a title, tags or a summary of a transcript that it embeds. A person's message that
has this form is not lost: it is part of the history of the next request, and is recorded then.
"""

import re
from collections.abc import Mapping, Sequence

from services.diary.reflection.reflections import Turn

# Characters at either end of a text that are searched: instructions are there, and the cost stays bounded.
EXAMINED = 4000

# A heading of a task, and one of its sections.
_TASK_HEADING = re.compile(r"\A\s*#{1,4}\s*\**(?:task|instructions?|objective)\b", re.I)
_SECTION = re.compile(
    r"^#{1,4}\s*\**(?:guidelines|rules|instructions|output|response format|examples?|chat history|context)\b"
    r"|<(?:chat_history|context|user_query)>",
    re.I | re.M,
)
# A transcript: an element that holds one, turns as JSON, or lines that begin with a speaker.
_ELEMENT = re.compile(
    r"<(?:chat_?history|conversation(?:_?history)?|transcript|dialogue|messages|chat(?:_?log)?)>", re.I
)
_JSON_TURN = re.compile(r"""["']role["']\s{0,4}:\s{0,4}["'](?:user|assistant|human|ai)["']""", re.I)
_SPEAKER = re.compile(r"^[>*\- \t]{0,8}(\w[\w .'-]{0,30}?)\*{0,2}[ \t]{0,4}:\*{0,2}[ \t]{0,4}\S", re.M)
_ROLES = {"user", "human", "assistant", "ai", "bot", "model"}
# A request to derive something from a conversation.
_ORDER = re.compile(
    r"\b(?:generate|create|write|provide|suggest|give|compose|produce|extract|classify|analy[sz]e|predict|identify"
    r"|propose|return|list|condense|come up with)\b.{0,200}?"
    r"\b(?:titles?|headlines?|names?|tags?|topics?|keywords?|labels?|summar(?:y|ies)|recap|synopsis"
    r"|follow[- ]?ups?|quer(?:y|ies)|questions?|suggestions?|next (?:messages?|repl(?:y|ies))|emojis?)\b"
    r"|\bsummari[sz]e\b",
    re.I | re.S,
)
_OF_CONVERSATION = re.compile(
    r"\b(?:the|this|our|following|above|entire|whole|previous|preceding)\s+(?:\w+\s+){0,2}"
    r"(?:conversations?|chats?|dialogues?|discussion|exchange|messages|transcript|story so far|roleplay)\b",
    re.I,
)
# A requirement that makes an answer readable by a program.
_FORM = re.compile(
    r"\bjson\b|\bno (?:other|extra|additional) (?:text|words|commentary)|\bnothing (?:else|but)\b"
    r"|\bonly (?:the|a|return|respond|output|reply|answer)\b"
    r"|\b(?:return|respond|output|reply|answer)\b[^.\n]{0,40}\bonly\b|\bwithout (?:quotes|quotation)\b"
    r"|\b\d+(?:\s?(?:-|–|to)\s?\d+)?[- ](?:words?|tags|keywords)\b|\bwords? or (?:less|fewer)\b",
    re.I,
)
_FOR_USER = re.compile(
    r"\b(?:your|the|user's) next (?:reply|message|response|turn)s?\b[^.\n]{0,60}"
    r"\b(?:point of view|perspective|as the user|for the user|on behalf of)\b",
    re.I,
)
# A nudge that a front end puts into a user's turn where a template has no system turns after the first.
_BRACKETED = re.compile(
    r"\s{0,8}\[\s{0,8}(?:continue|write|generate|start|begin|summari[sz]e|describe|reply|respond|answer|rewrite)\b"
    r"[^\[\]]*\]\s*",
    re.I,
)
_IGNORE = re.compile(
    r"\A\W{0,8}(?:ignore|disregard|pause)\b[^.\n]{0,60}\b(?:instructions?|roleplay|prompts?)\b", re.I
)


def conversation_in(turns: Sequence[Mapping[str, str]], answer: str) -> list[Turn]:
    """Return the turns of a request, and its answer, that belong to a conversation.

    System turns never belong to it. A front end's prompt does not either, nor does the answer to it.
    """
    dialogue = [
        {"role": turn["role"], "content": turn["content"]}
        for turn in turns
        if turn["role"] in ("user", "assistant") and turn["content"].strip() and not _is_nudge(turn)
    ]
    if _is_prompt(turns):
        return dialogue[:-1] if dialogue and dialogue[-1]["role"] == "user" else dialogue
    return [*dialogue, {"role": "assistant", "content": answer}] if answer.strip() else dialogue


def _is_prompt(turns: Sequence[Mapping[str, str]]) -> bool:
    """Whether a program wrote the request: it ends with a prompt, or without a user turn to answer."""
    for turn in reversed(turns):
        if turn["role"] == "assistant" and turn["content"].strip():
            return True
        if is_about_conversation(turn["content"]):
            return True
        if turn["role"] == "user" and turn["content"].strip():
            return _is_nudge(turn)
    return True


def _is_nudge(turn: Mapping[str, str]) -> bool:
    """Whether a user's turn consists of one instruction in brackets."""
    return turn["role"] == "user" and _BRACKETED.fullmatch(turn["content"][: 2 * EXAMINED]) is not None


def is_about_conversation(text: str) -> bool:
    """Whether a text is a program's prompt about a conversation, rather than a message within one."""
    if len(text) > 2 * EXAMINED:
        text = f"{text[:EXAMINED]}\n{text[-EXAMINED:]}"
    if _TASK_HEADING.search(text) and _SECTION.search(text):
        return True
    if _FOR_USER.search(text) or _IGNORE.search(text):
        return True
    if not _ORDER.search(text):
        return False
    if _FORM.search(text):
        return bool(_OF_CONVERSATION.search(text)) or len(_speakers(text)) > 1
    return _has_transcript(text)


def _has_transcript(text: str) -> bool:
    """Whether a text embeds a conversation in a form that programs use; people paste theirs with names."""
    return bool(
        _ELEMENT.search(text) or len(_JSON_TURN.findall(text)) > 1 or len(_ROLES & _speakers(text)) > 1
    )


def _speakers(text: str) -> set[str]:
    """Return the case-folded names before the colons of lines such as `User: hello`."""
    return {name.casefold() for name in _SPEAKER.findall(text)}
