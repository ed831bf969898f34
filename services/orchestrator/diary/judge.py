"""Whether two passages of a diary contradict each other, as the served base model sees it."""

import re

from services.diary.conflicts import Pair, Verdict
from services.orchestrator.engine.vllm import Engine, Json
from services.persona.prompt import neutral_messages

_QUESTION = """Two passages from one person's diary.

A, written of {a_date}:
{a}

B, written of {b_date}:
{b}

Do A and B contradict each other, so that they can't both be true, their dates considered? Answer with one \
word: CONTRADICT, AGREE or UNRELATED."""
_THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)
_DENIED = re.compile(
    r"\b(?:no|not|don'?t|doesn'?t|never|without)\b[^.]{0,30}\b(?:contradict|conflict)", re.ASCII
)
_SAID = (
    (re.compile(r"unrelated|different subject|neither|not related"), Verdict.UNRELATED),
    (re.compile(r"contradict|conflict|\byes\b"), Verdict.CONTRADICTS),
    (re.compile(r"agree|consistent|compatible|\bno\b"), Verdict.AGREES),
)


async def judge(engine: Engine, pair: Pair) -> Verdict:
    """The verdict on a pair. A contradiction is asked for twice, in either order, and must be found twice:
    small models tend to answer by place. Raises ModelUnavailable or ModelRefused."""
    verdict = await _ask(engine, pair.a.date, pair.a_passage, pair.b.date, pair.b_passage)
    if verdict is not Verdict.CONTRADICTS:
        return verdict
    return await _ask(engine, pair.b.date, pair.b_passage, pair.a.date, pair.a_passage)


def read_verdict(answer: str) -> Verdict:
    """What an answer says, by the first of the words that it was asked for; none of them is UNRELATED."""
    said = _THOUGHT.sub("", answer).casefold()
    if _DENIED.search(said):
        return Verdict.AGREES
    found = [(match.start(), verdict) for word, verdict in _SAID if (match := word.search(said))]
    return min(found, default=(0, Verdict.UNRELATED))[1]


async def _ask(engine: Engine, a_date: str, a: str, b_date: str, b: str) -> Verdict:
    question = _QUESTION.format(a_date=a_date, a=a, b_date=b_date, b=b)
    body: Json = {
        "model": "base",
        "messages": neutral_messages([{"role": "user", "content": question}]),
        "max_tokens": 8,
        "temperature": 0.0,
        "chat_template_kwargs": {"enable_thinking": False},
    }
    answer = await engine.complete(body)
    return read_verdict(_content(answer))


def _content(answer: Json) -> str:
    match answer:
        case {"choices": [{"message": {"content": str(content)}}, *_]}:
            return content
    return ""
