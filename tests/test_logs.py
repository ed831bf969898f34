"""services/logs.py: one form for every line, the request's id on each, and no words of others' exceptions."""

import asyncio
import gc
import io
import json
import logging

import pytest

from services import logs
from services.errors import DiaryUnavailable
from services.tracing import request_id

SECRET = "the heron's name"


def test_json_has_one_object_a_line_with_level_logger_request_and_what_was_added(log):
    token = request_id.set("req-1")
    logging.getLogger("ada.worker").info("indexed %d\nentries", 2, extra={"entries": 2})
    request_id.reset(token)
    [line] = log.lines("ada.worker")
    assert (line["level"], line["message"], line["request_id"], line["entries"]) == (
        "INFO", "indexed 2\nentries", "req-1", 2,
    )  # fmt: skip
    assert len(log.text.splitlines()) == 1


def test_text_ends_with_the_request_when_there_is_one(log):
    stream = io.StringIO()
    logs.set_up("text", "INFO", stream=stream)
    logging.getLogger("ada.worker").info("one")
    token = request_id.set("req-1")
    logging.getLogger("ada.worker").info("two")
    request_id.reset(token)
    assert [line.split(" ", 1)[1] for line in stream.getvalue().splitlines()] == [
        "ada.worker one", "ada.worker two [req-1]",
    ]  # fmt: skip


def test_libraries_are_heard_from_warnings_on(log):
    logging.getLogger("httpx").info("GET /")
    logging.getLogger("uvloop").error("a port is taken")
    assert "GET" not in log.text
    assert log.lines("uvloop")[0]["level"] == "ERROR"


async def test_asyncio_quotes_no_exception_that_nobody_waited_for(log):
    async def fails() -> None:
        raise ValueError(SECRET)

    task = asyncio.ensure_future(fails())
    await asyncio.wait({task})
    del task
    gc.collect()
    [line] = log.lines("asyncio")
    assert "never retrieved" in line["message"]
    assert "ValueError" in line["error"]
    assert SECRET not in log.text


class TestExceptions:
    @pytest.fixture(params=["text", "json"])
    def form(self, request: pytest.FixtureRequest) -> str:
        return request.param

    def _text_of(self, form: str, error: Exception, errors: str = "kinds") -> str:
        stream = io.StringIO()
        logs.set_up(form, "INFO", errors, stream=stream)
        try:
            raise error
        except Exception:
            logging.getLogger("ada.worker").exception("failed")
        return stream.getvalue()

    def test_of_others_only_the_kind_and_the_place_are_told(self, log, form):
        text = self._text_of(form, ValueError(SECRET))
        assert SECRET not in text
        assert "ValueError" in text
        assert "test_logs.py" in text

    def test_ours_are_told_whole_and_what_caused_them_is_not(self, log, form):
        ours = DiaryUnavailable("the ledger is away")
        ours.__cause__ = ExceptionGroup("both", [KeyError(SECRET)])
        text = self._text_of(form, ours)
        assert "DiaryUnavailable: the ledger is away" in text
        assert "KeyError" in text
        assert SECRET not in text

    def test_whole_is_a_choice(self, log, form):
        assert SECRET in self._text_of(form, ValueError(SECRET), "whole")


def test_a_line_of_json_is_never_torn_by_what_it_says(log):
    logging.getLogger("ada.x").info("%s", "a\u2028\ud800\x00")
    json.loads(log.text)
