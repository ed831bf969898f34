"""/v1/jobs, /v1/diary/reindex and /v1/diary/verify over HTTP."""

import pytest
from api import ENTRIES, Api, error_of
from redis import Redis

from services.diary.index.types import EntryKey
from services.diary.job_queue import diary_queue


class TestJobs:
    async def test_a_job_is_queued_then_finished_and_an_unknown_one_is_404(self, api: Api):
        job = (await api.client.post(ENTRIES, json={"text": "x", "id": "e"})).json()["job_id"]
        body = (await api.client.get(f"/v1/jobs/{job}")).json()
        assert (body["id"], body["kind"], body["status"], body["entry_id"]) == (job, "entry", "queued", "e")
        api.work()
        assert (await api.client.get(f"/v1/jobs/{job}")).json()["status"] == "finished"
        for name in ("none", job.replace("-v1", "-v2"), "x" + job[1:], "0" * 12 + job[12:]):
            error_of(await api.client.get(f"/v1/jobs/{name}"), 404)

    async def test_a_failed_job_is_listed_with_its_reason_and_can_be_retried(self, api: Api, redis: Redis):
        job = (await api.client.post(ENTRIES, json={"text": "x"})).json()["job_id"]
        (entry,) = api.ledger.due(1)
        api.ledger.mark_failed(entry, "ValueError: illegible")
        diary_queue(redis).empty()
        (dead,) = (await api.client.get("/v1/jobs", params={"status": "failed"})).json()["data"]
        assert (dead["id"], dead["reason"]) == (job, "ValueError: illegible")
        assert (await api.client.get("/v1/jobs")).json()["data"] == [dead]
        assert (await api.client.get(f"{ENTRIES}/{entry.id}")).json()["reason"] == "ValueError: illegible"
        retried = await api.client.post(f"/v1/jobs/{job}/retry")
        assert (retried.status_code, retried.json()["status"]) == (202, "queued")
        assert diary_queue(redis).job_ids == [job]
        api.work()
        assert (await api.client.get("/v1/jobs")).json()["data"] == []
        error_of(await api.client.post(f"/v1/jobs/{job}/retry"), 409)

    async def test_jobs_are_listed_by_status_page_by_page(self, api: Api):
        names = [(await api.client.post(ENTRIES, json={"text": f"{n}"})).json()["job_id"] for n in range(3)]
        listed, cursor = [], None
        while True:
            query = {"status": "queued", "limit": 2, **({"cursor": cursor} if cursor else {})}
            page = (await api.client.get("/v1/jobs", params=query)).json()
            listed += [job["id"] for job in page["data"]]
            if (cursor := page["next_cursor"]) is None:
                break
        assert sorted(listed) == sorted(names)
        assert (await api.client.get("/v1/jobs", params={"status": "started"})).json()["data"] == []
        api.work()
        finished = (await api.client.get("/v1/jobs", params={"status": "finished"})).json()["data"]
        assert sorted(job["id"] for job in finished) == sorted(names)

    @pytest.mark.parametrize(
        ("query", "param"),
        [({"status": "lost"}, "status"), ({"cursor": "x"}, "cursor"), ({"limit": 0}, "limit")],
    )
    async def test_bad_lists_name_the_parameter(self, client, query: dict, param: str):
        assert error_of(await client.get("/v1/jobs", params=query), 422)["param"] == param


class TestTheIndex:
    async def test_a_reindexing_is_queued_once(self, api: Api, redis: Redis):
        for _ in range(2):
            answer = await api.client.post("/v1/diary/reindex")
            assert (answer.status_code, answer.json()) == (202, {"job_id": "reindex", "status": "queued"})
        assert diary_queue(redis).job_ids == ["reindex"]
        assert (await api.client.get("/v1/jobs/reindex")).json()["kind"] == "reindex"

    async def test_ledger_and_index_are_equal_or_each_difference_is_named(self, api: Api):
        entry = await api.write("The heron.")
        await api.write("The goldfish.")
        equal = (await api.client.get("/v1/diary/verify")).json()
        assert equal == {"equal": True, "data": []}
        api.index.delete([EntryKey("local", entry)])
        body = (await api.client.get("/v1/diary/verify")).json()
        assert body["equal"] is False
        assert [(difference["entry_id"], difference["kind"]) for difference in body["data"]] == [
            (entry, "missing")
        ]
