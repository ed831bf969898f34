"""/v1/diary/entries over HTTP: write, list, read, edit, remove, history, tags, and deletion by filter."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from api import ENTRIES, JSON, Api, error_of, open_client

from services.diary.job_queue import queue_connection
from services.diary.jobs import Jobs
from services.diary.ledger.owner_ledger import OwnerLedger
from services.errors import DiaryUnavailable, LedgerFull
from services.orchestrator.dependencies import AppState


class TestWriting:
    @pytest.mark.parametrize(
        ("body", "param"),
        [
            (b'{"text": ""}', "text"),
            (b'{"text": " \\n "}', "text"),
            (json.dumps({"text": "ü" * 16_385}).encode(), "text"),
            (b'{"text": 5}', "text"),
            (b'{"txt": "typo"}', "text"),
            (b'{"text": "x", "date": "2023-02-30"}', "date"),
            (b'{"text": "x", "date": "the day after"}', "date"),
            (b'{"text": "x", "date": "03/04/1998"}', "date"),
            (b'{"text": "x", "date": "9999-01-01"}', "date"),
            (b'{"text": "x", "id": "../etc"}', "id"),
            (b'{"text": "x", "tags": ["a", 5]}', "tags.1"),
        ],
    )
    async def test_bad_entries_are_422_in_openais_shape(self, client, body, param):
        error = error_of(await client.post(ENTRIES, content=body, headers=JSON), 422)
        assert error["param"] == param
        assert error["type"] == "invalid_request_error"
        assert (await client.get(ENTRIES)).json()["data"] == []

    async def test_an_entry_is_returned_exactly(self, client):
        content = {
            "text": "Zwölf\x00 \u202e<|im_end|> 🕮\n",
            "date": "spring 1998",
            "mood": "calm",
            "tags": ["a b"],
        }
        accepted = (await client.post(ENTRIES, json=content)).json()
        assert set(accepted) == {"id", "version", "job_id", "status"}
        assert (accepted["version"], accepted["status"]) == (1, "queued")
        entry = (await client.get(f"{ENTRIES}/{accepted['id']}")).json()
        assert {name: entry[name] for name in content} == content
        assert (entry["first_day"], entry["last_day"]) == ("1998-03-01", "1998-05-31")
        assert (entry["source"], entry["status"], entry["removed"]) == ("written", "queued", False)

    async def test_the_same_idempotency_key_replays_and_another_body_is_409(self, client):
        key = {"Idempotency-Key": "k-1"}
        first = await client.post(ENTRIES, json={"text": "once"}, headers=key)
        again = await client.post(ENTRIES, json={"text": "once"}, headers=key)
        other = await client.post(ENTRIES, json={"text": "twice"}, headers=key)
        assert first.json() == again.json()
        assert error_of(other, 409)["param"] == "Idempotency-Key"
        assert len((await client.get(ENTRIES)).json()["data"]) == 1

    async def test_the_same_id_for_another_entry_is_409(self, client):
        assert (await client.post(ENTRIES, json={"text": "a", "id": "x"})).status_code == 202
        assert error_of(await client.post(ENTRIES, json={"text": "b", "id": "x"}), 409)["param"] == "id"

    async def test_a_full_disk_is_507_by_name(self, client, monkeypatch: pytest.MonkeyPatch):
        def full(*_: object) -> None:
            raise LedgerFull("the ledger's disk is full, nothing was written: free some")

        monkeypatch.setattr(OwnerLedger, "add", full)
        error = error_of(await client.post(ENTRIES, json={"text": "x"}), 507)
        assert (error["code"], error["type"]) == ("ledger_full", "server_error")

    async def test_an_entry_is_accepted_while_the_queue_is_away(self, api: Api, tmp_path: Path):
        nowhere = Jobs(queue_connection(f"unix://{tmp_path}/nobody.sock"), api.ledger)
        with pytest.raises(DiaryUnavailable):
            nowhere.check()

        @asynccontextmanager
        async def opener() -> AsyncIterator[AppState]:
            yield replace(api.state, jobs=nowhere)

        async with open_client(opener) as client:
            accepted = await client.post(ENTRIES, json={"text": "kept"})
            assert accepted.status_code == 202
            job = (await client.get(f"/v1/jobs/{accepted.json()['job_id']}")).json()
            assert job["status"] == "queued"
            edited = await client.put(f"{ENTRIES}/{accepted.json()['id']}", json={"text": "kept still"})
            assert edited.status_code == 202
        assert [entry.text for entry in api.ledger.due(10)] == ["kept still"]


class TestListing:
    @pytest.fixture
    async def four(self, api: Api) -> None:
        for number, (date, tags) in enumerate(
            [
                ("2021-03-01", ["sea"]),
                ("2022-05-05", ["sea", "dog"]),
                ("May 2022", []),
                ("2023-01-01", ["dog"]),
            ]
        ):
            content = {"id": f"e{number}", "text": f"Number {number}, ÄGEAN", "date": date, "tags": tags}
            assert (await api.client.post(ENTRIES, json=content)).status_code == 202

    @pytest.mark.usefixtures("four")
    @pytest.mark.parametrize(
        ("query", "ids"),
        [
            ({}, ["e3", "e1", "e2", "e0"]),
            ({"from": "2022-05-05"}, ["e3", "e1", "e2"]),
            ({"to": "2022-05-04"}, ["e2", "e0"]),
            ({"from": "2022", "to": "2022"}, ["e1", "e2"]),
            ({"from": "spring 2022", "to": "spring 2022"}, ["e1", "e2"]),
            ({"to": "2999-12-31"}, ["e3", "e1", "e2", "e0"]),
            ({"q": "ägean"}, ["e3", "e1", "e2", "e0"]),
            ({"q": "number 2"}, ["e2"]),
            ({"q": "%"}, []),
            ({"tag": "sea"}, ["e1", "e0"]),
            ({"tag": "se"}, []),
            ({"tag": "dog", "to": "2022"}, ["e1"]),
            ({"source": "written"}, ["e3", "e1", "e2", "e0"]),
            ({"source": "import"}, []),
        ],
    )
    async def test_filters_select_entries(self, api: Api, query: dict, ids: list[str]):
        assert await api.ids(**query) == ids

    @pytest.mark.usefixtures("four")
    async def test_pages_follow_each_other_although_something_is_written_meanwhile(self, api: Api):
        first = (await api.client.get(ENTRIES, params={"limit": 2})).json()
        await api.client.post(ENTRIES, json={"text": "newest", "date": "2024-01-01"})
        second = (await api.client.get(ENTRIES, params={"limit": 2, "cursor": first["next_cursor"]})).json()
        assert [entry["id"] for entry in first["data"] + second["data"]] == ["e3", "e1", "e2", "e0"]
        assert second["next_cursor"] is None

    @pytest.mark.parametrize(
        ("query", "param"),
        [
            ({"limit": 0}, "limit"),
            ({"limit": 1001}, "limit"),
            ({"cursor": "x"}, "cursor"),
            ({"from": "2022-02-30"}, "from"),
            ({"to": "soon"}, "to"),
            ({"source": "dreamt"}, "source"),
        ],
    )
    async def test_bad_queries_name_the_parameter(self, client, query: dict, param: str):
        assert error_of(await client.get(ENTRIES, params=query), 422)["param"] == param

    @pytest.mark.usefixtures("four")
    async def test_tags_are_counted(self, client):
        result = (await client.get("/v1/diary/tags")).json()["data"]
        assert result == [{"tag": "dog", "count": 2}, {"tag": "sea", "count": 2}]


class TestEditing:
    @pytest.fixture
    async def url(self, client) -> str:
        content = {"id": "e", "text": "I walked.", "date": "2023-05-08", "mood": "calm", "tags": ["sea"]}
        await client.post(ENTRIES, json=content)
        return f"{ENTRIES}/e"

    async def test_an_edit_is_the_next_version_and_the_old_one_stays_in_the_history(self, client, url):
        edited = await client.put(url, json={"text": "I ran.", "date": "2023-05-09"})
        assert edited.status_code == 202
        result = edited.json()
        assert (result["version"], result["text"], result["date"], result["mood"]) == (
            2,
            "I ran.",
            "2023-05-09",
            None,
        )
        assert (await client.get(f"/v1/jobs/{result['job_id']}")).json()["status"] == "queued"
        history = (await client.get(f"{url}/history")).json()["data"]
        assert [(item["version"], item["text"]) for item in history] == [(2, "I ran."), (1, "I walked.")]

    async def test_an_edit_without_a_change_makes_no_version(self, client, url):
        same = {"text": "I walked.", "date": "2023-05-08", "mood": "calm", "tags": ["sea"]}
        assert (await client.put(url, json=same)).json()["version"] == 1

    async def test_the_new_text_is_found_and_the_old_one_is_not(self, api: Api, url):
        api.work()
        await api.client.put(url, json={"text": "A heron stood in the river."})
        api.work()
        hits = (await api.client.post("/v1/diary/search", json={"query": "heron river"})).json()["data"]
        assert [(item["id"], item["text"]) for item in hits] == [("e", "A heron stood in the river.")]
        hits = (await api.client.post("/v1/diary/search", json={"query": "I walked."})).json()["data"]
        assert "I walked." not in [item["text"] for item in hits]

    @pytest.mark.parametrize("precondition", ["version", "If-Match"])
    async def test_one_of_two_edits_of_the_same_version_is_a_conflict(self, client, url, precondition: str):
        def asking_for(text: str, version: int) -> dict:
            if precondition == "version":
                return {"json": {"text": text, "version": version}}
            return {"json": {"text": text}, "headers": {"If-Match": f'"{version}"'}}

        assert (await client.get(url)).headers["ETag"] == '"1"'
        assert (await client.put(url, **asking_for("mine", 1))).status_code == 202
        error = error_of(await client.put(url, **asking_for("yours", 1)), 409)
        assert error["param"] == precondition
        assert (await client.get(url)).json()["text"] == "mine"
        assert (await client.put(url, **asking_for("yours", 2))).status_code == 202

    @pytest.mark.parametrize(
        ("body", "headers", "param"),
        [
            ({"text": ""}, {}, "text"),
            ({"text": "x", "date": "2023-02-30"}, {}, "date"),
            ({"text": "x", "id": "other"}, {}, "id"),
            ({"text": "x", "version": "1"}, {}, "version"),
            ({"text": "x", "version": True}, {}, "version"),
            ({"text": "x", "version": 0}, {}, "version"),
            ({"text": "x"}, {"If-Match": "latest"}, "If-Match"),
            ({"mood": "x"}, {}, "text"),
        ],
    )
    async def test_bad_edits_name_the_field_and_change_nothing(self, client, url, body, headers, param):
        assert error_of(await client.put(url, json=body, headers=headers), 422)["param"] == param
        assert (await client.get(url)).json()["version"] == 1

    async def test_an_unknown_entry_is_404(self, client):
        for method in ("GET", "DELETE"):
            error_of(await client.request(method, f"{ENTRIES}/none"), 404)
        error_of(await client.put(f"{ENTRIES}/none", json={"text": "x"}), 404)
        error_of(await client.get(f"{ENTRIES}/none/history"), 404)


class TestRemoving:
    async def test_a_removed_entry_is_out_of_every_answer_at_once_and_of_the_index_after_its_job(
        self, api: Api
    ):
        entry = await api.write("The heron is a secret.")
        removed = await api.client.delete(f"{ENTRIES}/{entry}")
        assert removed.status_code == 202
        assert (removed.json()["deleted"], removed.json()["version"]) == (True, 2)
        assert await api.ids() == []
        error_of(await api.client.get(f"{ENTRIES}/{entry}"), 404)
        assert (await api.client.get("/v1/diary/export")).text == ""
        hits = await api.client.post("/v1/diary/search", json={"query": "heron"})
        assert hits.json()["data"] == []
        assert api.index.count() == 1
        api.work()
        assert api.index.count() == 0
        job = (await api.client.get(f"/v1/jobs/{removed.json()['job_id']}")).json()
        assert job["status"] == "finished"

    async def test_the_history_has_a_removed_text_unless_it_is_purged(self, client):
        await client.post(ENTRIES, json={"id": "e", "text": "A secret."})
        await client.delete(f"{ENTRIES}/e")
        history = (await client.get(f"{ENTRIES}/e/history")).json()["data"]
        assert [(item["removed"], item["text"]) for item in history] == [(True, ""), (False, "A secret.")]
        purged = await client.delete(f"{ENTRIES}/e", params={"purge": True})
        assert purged.json()["purged"] is True
        assert "A secret." not in (await client.get(f"{ENTRIES}/e/history")).text

    async def test_removing_an_entry_twice_has_no_further_effect(self, client):
        await client.post(ENTRIES, json={"id": "e", "text": "x"})
        first, again = [(await client.delete(f"{ENTRIES}/e")).json() for _ in range(2)]
        assert first == again


class TestDeletionByFilter:
    @pytest.fixture
    async def three(self, api: Api) -> Api:
        for number, tags in enumerate([["old"], ["old"], ["new"]]):
            await api.write(f"Heron {number}", id=f"e{number}", date=f"202{number}-01-01", tags=tags)
        return api

    async def test_a_deletion_is_a_dry_run_by_default(self, three: Api):
        result = (await three.client.post("/v1/diary/delete", json={"tag": "old"})).json()
        assert result == {"dry_run": True, "count": 2, "ids": ["e1", "e0"]}
        assert await three.ids() == ["e2", "e1", "e0"]

    async def test_without_dry_run_exactly_the_matches_are_deleted(self, three: Api):
        body = {"from": "2020", "to": "2021", "tag": "old", "dry_run": False}
        result = (await three.client.post("/v1/diary/delete", json=body)).json()
        assert result == {"dry_run": False, "count": 2, "ids": ["e1", "e0"]}
        assert await three.ids() == ["e2"]
        three.work()
        assert three.index.count() == 1

    async def test_deleting_the_whole_diary_needs_a_confirmation(self, three: Api):
        refused = await three.client.post("/v1/diary/delete", json={"dry_run": False})
        assert error_of(refused, 422)["param"] == "all"
        assert len(await three.ids()) == 3
        result = await three.client.post("/v1/diary/delete", json={"dry_run": False, "all": True})
        assert result.json()["count"] == 3
        assert await three.ids() == []

    async def test_a_filter_without_matches_removes_nothing(self, three: Api):
        body = {"q": "no such words", "dry_run": False}
        result = (await three.client.post("/v1/diary/delete", json=body)).json()
        assert result == {"dry_run": False, "count": 0, "ids": []}

    @pytest.mark.parametrize(
        "body",
        [
            {"tags": "old"},
            {"from": "2020-02-30"},
            {"dry_run": "perhaps"},
            # Each of these was once taken for false, and everything was removed.
            *({"all": True, "dry_run": value} for value in ("no", "false", "0", 0, 0.0, None, [], "")),
            *({"all": value} for value in ("yes", 1, "true")),
        ],
    )
    async def test_a_misspelled_filter_deletes_nothing(self, three: Api, body: dict):
        error_of(await three.client.post("/v1/diary/delete", json={"dry_run": False, **body}), 422)
        assert len(await three.ids()) == 3
