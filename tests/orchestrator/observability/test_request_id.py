"""X-Request-Id: taken or made, on every answer, in the log, at vLLM, and with a job into Redis."""

import pytest
from api import CHAT, ENTRIES, HELLO, Api, FailingLimits
from redis import Redis

from services.diary.job_queue import JobQueue
from services.tracing import request_id

GOOD = ["a", "req-1.2_3", "x" * 128]
BAD = ["", "x" * 129, "a b", "a\tb", "ä".encode(), "a;b", '{"a":1}']


@pytest.mark.parametrize("given", GOOD)
async def test_the_request_id_of_a_client_is_returned(client, given: str):
    answer = await client.get("/healthz", headers={"X-Request-Id": given})
    assert answer.headers.get_list("X-Request-Id") == [given]


@pytest.mark.parametrize("given", BAD)
async def test_a_request_id_that_is_unsafe_in_a_log_is_replaced(client, given: str | bytes):
    answer = await client.get("/healthz", headers={"X-Request-Id": given})
    assert answer.headers["X-Request-Id"].startswith("req-")
    assert len(answer.headers["X-Request-Id"]) == 36


async def test_a_request_without_an_id_gets_a_new_one(client):
    made = {(await client.get("/healthz")).headers["X-Request-Id"] for _ in range(3)}
    assert len(made) == 3


async def test_every_answer_has_a_request_id_even_a_refusal_or_a_crash(api: Api):
    headers = {"X-Request-Id": "mine"}
    for method, path, status in (("GET", "/nowhere", 404), ("DELETE", CHAT, 405), ("POST", CHAT, 400)):
        answer = await api.client.request(method, path, json={}, headers=headers)
        assert (answer.status_code, answer.headers["X-Request-Id"]) == (status, "mine")
    api.override(rate_limits=FailingLimits())
    crash = await api.client.post(CHAT, json=HELLO, headers=headers)
    assert (crash.status_code, crash.headers["X-Request-Id"]) == (500, "mine")


async def test_vllm_gets_the_request_id_with_a_suffix(api: Api):
    await api.client.post(CHAT, json=HELLO, headers={"X-Request-Id": "mine"})
    assert api.model.headers[-1]["X-Request-Id"].startswith("mine-")


async def test_the_request_id_is_reset_after_the_request(client):
    await client.get("/healthz", headers={"X-Request-Id": "mine"})
    assert request_id.get() == ""


async def test_a_job_has_the_request_id_and_no_text_of_the_entry(api: Api, redis: Redis):
    sent = await api.client.post(ENTRIES, json={"text": "heron"}, headers={"X-Request-Id": "mine"})
    assert JobQueue(redis).request_ids([sent.json()["job_id"], "none"]) == ["mine"]
    jobs = [redis.hgetall(key) for key in redis.keys("rq:job:*")]
    assert jobs
    assert "heron" not in str(jobs)
