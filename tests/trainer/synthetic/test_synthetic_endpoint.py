"""The endpoint: what servers take and refuse, over real HTTP.

.venv/bin/python -m pytest tests/trainer/synthetic/test_synthetic_endpoint.py
"""

import pytest
from model_server import ModelServer, completion
from starlette.responses import JSONResponse, PlainTextResponse, Response

from services.errors import AdaError, ConfigError, ModelUnavailable
from trainer.synthetic.endpoint import CompletionRequest, Endpoint
from trainer.synthetic.rejection_reasons import CUT_OFF, REFUSED, Rejected
from trainer.synthetic.stats import Stats

REQUEST = CompletionRequest(max_tokens=50, temperature=0.9, seed=7, stop=("\nDrew:",))
HELLO = [{"role": "user", "content": "Hello."}]


async def ask(server: ModelServer, answer: str | Response, times: int = 1) -> str:
    server.answer = answer if callable(answer) and not isinstance(answer, Response) else lambda _: answer
    async with Endpoint(server.url, "secret", Stats()) as endpoint:
        for _ in range(times):
            message = await endpoint.complete("novelist", HELLO, REQUEST)
    return message


async def failure(server: ModelServer, answer: Response) -> AdaError:
    with pytest.raises(AdaError) as error:
        await ask(server, answer)
    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)
    return error.value


def refusal(message: str, status: int = 400, **more: object) -> Response:
    return JSONResponse({"error": {"message": message, "type": "invalid", **more}}, status_code=status)


async def test_the_words_come_back_and_their_tokens_are_counted(server: ModelServer):
    server.answer = lambda _: "Hello yourself."
    stats = Stats()
    async with Endpoint(server.url, "secret", stats) as endpoint:
        assert await endpoint.models() == ["novelist", "other"]
        assert await endpoint.complete("novelist", HELLO, REQUEST) == "Hello yourself."
        assert await endpoint.complete("novelist", HELLO, REQUEST) == "Hello yourself."
    assert (stats.prompt_tokens, stats.answer_tokens) == (200, 20)
    assert server.keys == {"Bearer secret"}
    bodies = server.requests[0]
    assert (bodies["max_tokens"], bodies["seed"], bodies["stop"]) == (50, 7, ["\nDrew:"])


async def test_what_a_server_does_not_take_is_not_sent_again(server: ModelServer):
    def picky(body: dict) -> str | Response:
        if "max_tokens" in body:
            return refusal("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
        if "temperature" in body:
            return refusal("Unsupported value: 'temperature' does not support 0.9, with 'stop' or without.")
        if "seed" in body:
            detail = [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs"}]
            return JSONResponse({"detail": detail}, status_code=422)
        return "Fine."

    assert await ask(server, picky, times=2) == "Fine."
    assert len(server.requests) == 5
    bodies = server.requests[-1]
    assert (bodies["max_completion_tokens"], bodies["stop"]) == (50, ["\nDrew:"])
    assert not {"max_tokens", "temperature", "seed"} & bodies.keys()


async def test_a_prompt_that_is_too_long_is_one_conversations_trouble(server: ModelServer):
    message = "'max_tokens' is too large: 50. This model's maximum context length is 64 tokens."
    server.answer = lambda _: refusal(message)
    stats = Stats()
    async with Endpoint(server.url, "none", stats) as endpoint:
        with pytest.raises(Rejected) as rejected:
            await endpoint.complete("novelist", HELLO, REQUEST)
    assert rejected.value.reason == REFUSED
    assert message in stats.refusal
    assert len(server.requests) == 1


@pytest.mark.parametrize("reason", ["length", "content_filter"])
async def test_an_answer_that_was_cut_off_is_none(server: ModelServer, reason: str):
    with pytest.raises(Rejected) as rejected:
        await ask(server, completion("I was swim", reason))
    assert rejected.value.reason == CUT_OFF


async def test_an_answer_without_words_is_empty(server: ModelServer):
    assert await ask(server, completion(None)) == ""


async def test_a_wrong_key_is_told_without_the_key(server: ModelServer):
    error = await failure(server, refusal("Incorrect API key provided: secret", 401))
    assert isinstance(error, ConfigError)
    assert "refuses the key" in str(error)


async def test_an_unknown_model_is_told_with_what_is_served(server: ModelServer):
    error = await failure(server, refusal("The model `novelist` does not exist.", 404))
    assert "model novelist is not known" in str(error)
    assert "it serves novelist, other" in str(error)


@pytest.mark.parametrize(("status", "message"), [(429, "fewer requests"), (503, "fails with 503")])
async def test_a_busy_server_is_asked_again_and_then_told(server: ModelServer, status: int, message: str):
    answer = refusal("busy", status)
    answer.headers["retry-after-ms"] = "1"
    error = await failure(server, answer)
    assert isinstance(error, ModelUnavailable)
    assert message in str(error)
    assert len(server.requests) == 5


async def test_a_server_that_was_busy_once_is_no_trouble(server: ModelServer):
    busy = refusal("busy", 503)
    busy.headers["retry-after-ms"] = "1"
    assert await ask(server, lambda _: busy if len(server.requests) == 1 else "Fine.") == "Fine."


@pytest.mark.parametrize(
    "answer",
    [
        PlainTextResponse("<html>", media_type="text/html"),
        PlainTextResponse("{", media_type="application/json"),
        JSONResponse({"choices": None}),
        JSONResponse(["no"]),
    ],
)
async def test_a_server_of_another_kind_is_told(server: ModelServer, answer: Response):
    error = await failure(server, answer)
    assert "but not as OpenAI's" in str(error)


async def test_no_server_is_told_at_once(port: int):
    async with Endpoint(f"http://127.0.0.1:{port}/v1", "none", Stats()) as endpoint:
        with pytest.raises(ModelUnavailable, match="no server answers at"):
            await endpoint.models()


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8000", "ftp://host/v1", "http://", "http://host:port/v1", "http://[/"]
)
def test_what_is_no_address_is_told(url: str):
    with pytest.raises(ConfigError, match="is no address"):
        Endpoint(url, "none", Stats())
