"""Whether two passages of a diary contradict each other, as the served base model sees it."""

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
_PAIRS_FAULT = (400, 413, 422)  # the passages are too long for the model, or hold what it does not take
# vLLM is held to one of these words. Left free, SmolLM2 ended each of ten answers before its first word.
_VERDICTS = {
    "CONTRADICT": Verdict.CONTRADICTS,
    "AGREE": Verdict.AGREES,
    "UNRELATED": Verdict.UNRELATED,
}


async def classify(engine: VllmClient, pair: Pair) -> Verdict:
    """The verdict on a pair. A contradiction is asked for twice, in either order, and must be found twice:
    small models tend to answer by place.

    Raises NoVerdict where it is the pair's own fault, else ModelUnavailable or ModelRefused.
    """
    verdict = await _ask(engine, pair.a.date, pair.a_passage, pair.b.date, pair.b_passage)
    if verdict is not Verdict.CONTRADICTS:
        return verdict
    return await _ask(engine, pair.b.date, pair.b_passage, pair.a.date, pair.a_passage)


async def _ask(engine: VllmClient, a_date: str, a: str, b_date: str, b: str) -> Verdict:
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
        return _read(await engine.complete(CHAT, body))
    except UpstreamError as error:
        if error.status in _PAIRS_FAULT:
            raise NoVerdict(f"{error} to a question about a pair of passages") from error
        raise


def _read(answer: Json) -> Verdict:
    match answer:
        case {"choices": [{"message": {"content": str(said)}}, *_]} if said in _VERDICTS:
            return _VERDICTS[said]
    raise NoVerdict("the model server was asked for a verdict and gave none")
