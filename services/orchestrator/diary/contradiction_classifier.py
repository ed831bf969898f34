"""Classifies whether two passages of a diary contradict each other, with the served base model."""

from services.diary.conflicts import Pair, Verdict
from services.errors import NoVerdict, UpstreamError
from services.orchestrator.http.json_body import Json
from services.orchestrator.vllm.client import CHAT, VllmClient
from services.persona.prompt import neutral_messages

_QUESTION = """Two passages from one person's diary.

A, written of {a_date}:
{a}

B, written of {b_date}:
{b}

Do A and B contradict each other, so that they can't both be true, their dates considered? Answer with one \
word: CONTRADICT, AGREE or UNRELATED."""
_PAIR_ERRORS = (400, 413, 422)  # the passages are too long for the model, or contain what it rejects
# Structured output restricts vLLM to these words. Without it, SmolLM2 ended ten of ten answers before a word.
_VERDICTS = {
    "CONTRADICT": Verdict.CONTRADICTS,
    "AGREE": Verdict.AGREES,
    "UNRELATED": Verdict.UNRELATED,
}


async def classify(vllm: VllmClient, pair: Pair) -> Verdict:
    """The verdict on a pair. A contradiction must be confirmed with the passages in the other order, because
    small models tend to answer by position.

    Raises NoVerdict when the pair is at fault, else ModelUnavailable or UpstreamError.
    """
    verdict = await _ask(vllm, pair.a.date, pair.a_passage, pair.b.date, pair.b_passage)
    if verdict is not Verdict.CONTRADICTS:
        return verdict
    return await _ask(vllm, pair.b.date, pair.b_passage, pair.a.date, pair.a_passage)


async def _ask(vllm: VllmClient, a_date: str, a: str, b_date: str, b: str) -> Verdict:
    question = _QUESTION.format(a_date=a_date, a=a, b_date=b_date, b=b)
    body: Json = {
        "model": "base",
        "messages": neutral_messages([{"role": "user", "content": question}]),
        "max_tokens": 8,
        "temperature": 0.0,
        "structured_outputs": {"choice": list(_VERDICTS)},
        "chat_template_kwargs": {"enable_thinking": False},
    }
    try:
        return _verdict(await vllm.complete(CHAT, body))
    except UpstreamError as error:
        if error.status in _PAIR_ERRORS:
            raise NoVerdict(f"{error} for a question about a pair of passages") from error
        raise


def _verdict(answer: Json) -> Verdict:
    match answer:
        case {"choices": [{"message": {"content": str(word)}}, *_]} if word in _VERDICTS:
            return _VERDICTS[word]
    raise NoVerdict("the model server returned no verdict")
