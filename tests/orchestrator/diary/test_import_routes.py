"""/v1/diary/import and /v1/diary/export over HTTP: whole diaries in, and out again.

The readers of each format are tested in tests/diary/transfer/test_importing.py.
"""

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest
import uvicorn
from api import ENTRIES, Api, error_of, until
from redis import Redis

from services.diary.job_queue import diary_queue
from services.diary.ledger.ledger import Ledger
from services.diary.ledger.paging import EntryFilter
from services.diary.transfer.importer import MAX_REJECTS

IMPORT = "/v1/diary/import"
ROWS = [
    {"date": f"2023-05-{day:02}", "text": f"Day {day} of the heron.", "tags": ["t"]} for day in range(1, 4)
]
JSONL = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def form(content: bytes, name: str = "diary.jsonl", content_type: str = "application/octet-stream") -> dict:
    return {"files": {"file": (name, content, content_type)}}


async def texts(client: httpx.AsyncClient) -> list[str]:
    return [entry["text"] for entry in (await client.get(ENTRIES, params={"limit": 1000})).json()["data"]]


class TestSending:
    @pytest.mark.parametrize(
        "sent",
        [
            form(JSONL),
            {**form(JSONL, "diary.txt"), "params": {"format": "jsonl"}},
            {**form(JSONL, "blob", "application/x-ndjson")},
            {"content": JSONL, "headers": {"Content-Type": "application/x-ndjson"}},
            {"content": JSONL, "params": {"format": "jsonl"}},
            {"content": JSONL, "params": {"name": "diary.jsonl"}},
            form(json.dumps(ROWS).encode(), "ada_diary.json"),
            {"content": json.dumps({"entries": ROWS}), "headers": {"Content-Type": "application/json"}},
            form(b"date;text\n" + "\n".join(f"{r['date']};{r['text']}" for r in ROWS).encode(), "d.csv"),
            form("".join(f"# {r['date']}\n{r['text']}\n" for r in ROWS).encode(), "d.md"),
        ],
    )
    async def test_a_file_is_accepted_as_form_or_body_in_any_format(self, api: Api, sent: dict):
        answer = await api.client.post(IMPORT, **sent)
        assert answer.status_code == 202, answer.text
        result = answer.json()
        assert (result["accepted"], result["duplicates"], result["rejected"]) == (3, 0, [])
        assert (result["queued"], result["indexed"]) == (3, 0)
        assert await texts(api.client) == [row["text"] for row in reversed(ROWS)]

    async def test_the_job_and_the_report_of_an_import_have_its_progress(self, api: Api):
        result = (await api.client.post(IMPORT, **form(JSONL))).json()
        job = (await api.client.get(f"/v1/jobs/{result['job_id']}")).json()
        assert (job["kind"], job["status"], job["done"], job["total"]) == ("import", "queued", 0, 3)
        api.work()
        report = (await api.client.get(f"/v1/diary/imports/{result['import_id']}")).json()
        assert (report["name"], report["indexed"], report["queued"]) == ("diary.jsonl", 3, 0)
        job = (await api.client.get(f"/v1/jobs/{result['job_id']}")).json()
        assert (job["status"], job["done"]) == ("finished", 3)
        error_of(await api.client.get("/v1/diary/imports/none"), 404)

    async def test_one_job_is_queued_for_a_whole_import(self, api: Api, redis: Redis):
        result = (await api.client.post(IMPORT, **form(JSONL))).json()
        assert diary_queue(redis).job_ids == [result["job_id"]]

    async def test_a_body_in_pieces_is_reassembled(self, api: Api):
        limits = api.state.import_limits
        api.override(import_limits=replace(limits, upload=replace(limits.upload, write_bytes=7)))

        async def pieces() -> AsyncIterator[bytes]:
            for offset in range(0, len(JSONL), 5):
                yield JSONL[offset : offset + 5]

        answer = await api.client.post(IMPORT, content=pieces(), params={"format": "jsonl"})
        assert answer.json()["accepted"] == 3


class TestBrokenRows:
    async def test_each_broken_row_is_reported_with_its_line_and_stops_no_other(self, api: Api):
        broken = [b'{"text": ', b'{"date": "2023-05-01"}', b'{"text": "x", "date": "1998-02-30"}', b"caf\xe9"]
        content = b"\n".join([JSONL.splitlines()[0], *broken, JSONL.splitlines()[1]])
        result = (await api.client.post(IMPORT, **form(content))).json()
        assert result["accepted"] == 2
        assert [row["line"] for row in result["rejected"]] == [2, 3, 4, 5]
        reasons = ["not JSON", "no text", "28 days", "not UTF-8"]
        assert all(part in row["reason"] for part, row in zip(reasons, result["rejected"], strict=True))
        report = (await api.client.get(f"/v1/diary/imports/{result['import_id']}")).json()
        assert report["rejected"] == result["rejected"]

    async def test_the_first_thousand_broken_rows_are_reported_and_the_rest_counted(self, api: Api):
        content = b"{}\n" * (MAX_REJECTS + 50) + JSONL
        result = (await api.client.post(IMPORT, **form(content))).json()
        assert (result["accepted"], result["rejected_count"], len(result["rejected"])) == (
            3,
            1050,
            MAX_REJECTS,
        )
        assert result["rejected"][-1]["line"] == MAX_REJECTS

    async def test_ids_of_other_entries_are_reported_in_the_order_of_lines(self, api: Api):
        await api.client.post(ENTRIES, json={"id": "taken", "text": "mine"})
        content = b'{"text": "yours", "id": "taken"}\n{}\n{"text": "new"}\n'
        result = (await api.client.post(IMPORT, **form(content))).json()
        assert result["accepted"] == 1
        assert [row["line"] for row in result["rejected"]] == [1, 2]
        assert "id" in result["rejected"][0]["reason"]
        assert "mine" in await texts(api.client)

    async def test_guessed_and_omitted_values_are_reported(self, api: Api):
        result = (await api.client.post(IMPORT, **form(b'{"text": "x", "weather": "fine"}\n'))).json()
        assert (result["undated"], result["ignored_fields"]) == (1, ["weather"])

    @pytest.mark.parametrize(
        ("sent", "param", "reason"),
        [
            (form(b""), "file", "empty"),
            ({"content": b"", "params": {"format": "csv"}}, "file", "empty"),
            (form(JSONL.decode().encode("utf-16")), "file", "UTF-16"),
            (form(b"a,b\n1,2\n", "d.csv"), "file", "head"),
            (form(JSONL, "d.json"), "file", "format=jsonl"),
            (form(JSONL, "d.docx"), "format", "jsonl, json, csv or md"),
            ({"content": JSONL}, "format", "jsonl, json, csv or md"),
            ({**form(JSONL), "params": {"format": "xml"}}, "format", "jsonl, json, csv or md"),
            ({"data": {"file": "no file"}, "files": {"x": ("", b"")}}, "file", "no file"),
        ],
    )
    async def test_a_useless_file_is_refused_as_a_whole_and_leaves_no_trace(
        self, api: Api, redis: Redis, sent: dict, param: str, reason: str
    ):
        error = error_of(await api.client.post(IMPORT, **sent), 422)
        assert error["param"] == param
        assert reason in error["message"]
        assert await texts(api.client) == []
        assert diary_queue(redis).job_ids == []

    async def test_a_broken_form_is_400_in_openais_shape(self, client):
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        error_of(await client.post(IMPORT, content=b"--y\r\nnonsense", headers=headers), 400)


class TestLimits:
    """Imports are bounded in number, bytes, seconds and disk, and end with their client."""

    @pytest.fixture
    def settings(self) -> dict[str, object]:
        return {"IMPORT_MAX_BYTES": 1024, "IMPORT_TIMEOUT_S": 0.2, "IMPORTS_AT_ONCE": 3}

    async def test_a_file_that_is_too_large_is_413_and_names_the_setting(self, client):
        large = JSONL * 10
        for sent in (form(large), {"content": large, "params": {"format": "jsonl"}}):
            error = error_of(await client.post(IMPORT, **sent), 413)
            assert "IMPORT_MAX_BYTES" in error["message"]
        assert await texts(client) == []

    async def test_one_import_too_many_is_a_429_per_owner_and_in_total(self, api: Api):
        slots = api.state.import_limits.slots
        with slots.slot("local"), slots.slot("local"):
            answer = await api.client.post(IMPORT, **form(JSONL))
            assert "IMPORTS_AN_OWNER" in error_of(answer, 429)["message"]
            assert int(answer.headers["Retry-After"]) >= 1
        with slots.slot("a"), slots.slot("b"), slots.slot("c"):
            assert "IMPORTS_AT_ONCE" in error_of(await api.client.post(IMPORT, **form(JSONL)), 429)["message"]
        assert (await api.client.post(IMPORT, **form(JSONL))).status_code == 202

    async def test_an_endless_upload_is_a_408_and_releases_its_slot(self, api: Api):
        async def pieces() -> AsyncIterator[bytes]:
            yield JSONL
            await asyncio.Event().wait()

        request = api.client.post(IMPORT, content=pieces(), params={"format": "jsonl"})
        assert "IMPORT_TIMEOUT_S" in error_of(await request, 408)["message"]
        assert (await api.client.post(IMPORT, **form(JSONL))).json()["accepted"] == 3

    async def test_a_disk_without_room_is_507_before_anything_is_read(self, api: Api):
        limits = api.state.import_limits
        api.override(import_limits=replace(limits, upload=replace(limits.upload, free_bytes=1 << 60)))
        for sent in (form(JSONL), {"content": JSONL, "params": {"format": "jsonl"}}):
            assert "free some" in error_of(await api.client.post(IMPORT, **sent), 507)["message"]

    async def test_an_upload_has_no_named_file_on_the_disk(self, api: Api, tmp_path, monkeypatch):
        """So nothing of it is left there, however the process ends."""
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        seen = []

        async def pieces() -> AsyncIterator[bytes]:
            yield JSONL
            seen.append([path.name for path in tmp_path.iterdir() if path.name.startswith("ada-")])

        await api.client.post(IMPORT, content=pieces(), params={"format": "jsonl"})
        assert seen == [[]]


class TestTwice:
    async def test_the_same_file_adds_nothing(self, api: Api):
        for accepted, duplicates in ((3, 0), (0, 3)):
            result = (await api.client.post(IMPORT, **form(JSONL))).json()
            assert (result["accepted"], result["duplicates"]) == (accepted, duplicates)
        assert len(await texts(api.client)) == 3

    async def test_the_same_idempotency_key_repeats_the_first_answer(self, api: Api):
        key = {"Idempotency-Key": "k"}
        content = JSONL + b"{}\n"
        first, again = [
            (await api.client.post(IMPORT, **form(content), headers=key)).json() for _ in range(2)
        ]
        assert first == again
        assert first["accepted"] == 3
        assert [row["line"] for row in first["rejected"]] == [4]

    async def test_another_file_or_an_entry_under_the_same_key_is_409(self, api: Api):
        key = {"Idempotency-Key": "k"}
        await api.client.post(IMPORT, **form(JSONL), headers=key)
        other = await api.client.post(IMPORT, **form(JSONL[:-1]), headers=key)
        assert error_of(other, 409)["param"] == "Idempotency-Key"
        error_of(await api.client.post(ENTRIES, json={"text": "x"}, headers=key), 409)
        await api.client.post(ENTRIES, json={"text": "x"}, headers={"Idempotency-Key": "e"})
        error_of(await api.client.post(IMPORT, **form(JSONL), headers={"Idempotency-Key": "e"}), 409)


class TestExport:
    @pytest.fixture
    async def written(self, api: Api) -> list[dict]:
        entries = [
            {"id": "a", "text": "# 2023-01-01\r\n\x00 \u202e\\# x\n\n", "date": "spring 1998", "mood": "-->"},
            {"id": "b", "text": "  The heron.  ", "date": "2023-05-08T10:00:00+02:00", "tags": ["t,u", "\n"]},
        ]
        for entry in entries:
            await api.client.post(ENTRIES, json=entry)
        return entries

    @pytest.mark.parametrize("format_", ["jsonl", "json", "md"])
    async def test_a_diary_exported_purged_and_imported_is_the_same_diary(
        self, api: Api, written: list[dict], format_: str
    ):
        exported = await api.client.get("/v1/diary/export", params={"format": format_})
        assert exported.headers["Content-Disposition"] == f'attachment; filename="ada_diary.{format_}"'
        before = (await api.client.get(ENTRIES)).json()["data"]
        for entry in written:
            await api.client.delete(f"{ENTRIES}/{entry['id']}", params={"purge": True})
        result = await api.client.post(IMPORT, **form(exported.content, f"ada_diary.{format_}"))
        assert (result.json()["accepted"], result.json()["rejected"]) == (2, [])
        after = (await api.client.get(ENTRIES)).json()["data"]
        same = ("id", "text", "date", "first_day", "last_day", "mood", "tags")
        assert [[entry[name] for name in same] for entry in after] == [
            [entry[name] for name in same] for entry in before
        ]
        assert {entry["source"] for entry in after} == {"import"}

    async def test_existing_entries_are_not_imported_again(self, api: Api, written: list[dict]):
        exported = (await api.client.get("/v1/diary/export")).content
        result = (await api.client.post(IMPORT, **form(exported))).json()
        assert (result["accepted"], result["duplicates"]) == (0, 2)

    @pytest.mark.usefixtures("written")
    async def test_a_filter_selects_the_exported_entries(self, client):
        exported = (await client.get("/v1/diary/export", params={"to": "1999"})).text
        assert [json.loads(line)["id"] for line in exported.splitlines()] == ["a"]

    @pytest.mark.parametrize(("format_", "empty"), [("jsonl", ""), ("json", "[]\n"), ("md", "")])
    async def test_an_empty_diary_is_an_empty_file(self, client, format_: str, empty: str):
        assert (await client.get("/v1/diary/export", params={"format": format_})).text == empty

    async def test_another_format_is_422(self, client):
        answer = await client.get("/v1/diary/export", params={"format": "docx"})
        assert error_of(answer, 422)["param"] == "format"


class TestPurge:
    async def test_the_answer_reports_what_remains_to_be_erased(self, api: Api):
        await api.client.post(ENTRIES, json={"id": "e", "text": "A secret."})
        api.work()
        url = f"{ENTRIES}/e"
        result = (await api.client.delete(url, params={"purge": True})).json()
        assert (result["purged"], result["erasure"]) == (True, {"complete": False, "pending": ["index"]})
        api.work()
        result = (await api.client.delete(url, params={"purge": True})).json()
        assert result["erasure"] == {"complete": True, "pending": []}

    async def test_a_removal_without_purge_erases_nothing(self, api: Api):
        await api.client.post(ENTRIES, json={"id": "e", "text": "No secret."})
        assert (await api.client.delete(f"{ENTRIES}/e")).json()["erasure"] is None


async def test_an_import_ends_when_its_client_disconnects_and_retains_its_entries(
    server: uvicorn.Server, port: int, ledger: Ledger, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO", "ada.orchestrator")
    body = b"".join(b'{"text": "row %d"}\n' % n for n in range(600)) + b"{}\n" * 2_000_000
    head = f"POST {IMPORT}?format=jsonl HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head.encode() + body)
    await writer.drain()
    await until(lambda: ledger.for_owner("local").count(EntryFilter()) == 500)
    writer.close()
    await until(lambda: "client of an import disconnected" in caplog.text)
    (entry,) = ledger.for_owner("local").page(EntryFilter(), 1).entries
    assert entry.import_id
    assert ledger.for_owner("local").import_report(entry.import_id).ended_at is None
    assert ledger.for_owner("local").count(EntryFilter()) == 500
