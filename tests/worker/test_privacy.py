"""What jobs say of themselves: kinds and places of errors, and no word of a diary, in the log and in Redis.

.venv/bin/python -m pytest tests/worker/test_privacy.py
"""

import logging

import pytest
from fakes import PickyEmbedder
from redis import Redis
from rq.job import Job

from services.diary.job_queue import diary_queue
from services.worker import tasks

SECRET = "the heron's name is Augustine"


class QuotingEmbedder(PickyEmbedder):
    """Fails, and says what it was given."""

    def embed_documents(self, texts):
        raise ValueError(f"what is this? {texts}")


def in_redis(connection: Redis) -> str:
    """All that Redis holds, as text; a job's exception is kept compressed."""
    connection.config_set("rdbcompression", "no")
    raw = b"".join(connection.dump(key) or b"" for key in connection.keys("*"))
    compressed = [connection.hget(key, "exc_info") for key in connection.keys("rq:job:*")]
    errors = [result.exc_string or "" for job in Job.fetch_many(names(connection), connection) if job
            for result in job.results()]  # fmt: skip
    return raw.decode("utf-8", "replace") + "".join(errors) + str(compressed)


def names(connection: Redis) -> list[str]:
    """The ids of all jobs that are there."""
    keys = [key.decode().split(":") for key in connection.keys("rq:job:*")]
    return [parts[2] for parts in keys if len(parts) == 3]


def plain_log(level: int = logging.DEBUG) -> None:
    """Every logger heard from `level` on."""
    for name in ("", "rq", "rq.worker", "rq.job", "rq.queue", "ada", "httpx", "httpcore", "redis"):
        logging.getLogger(name).setLevel(level)


class TestJobs:
    @pytest.fixture(autouse=True)
    def everything_is_heard(self, log):
        before = {name: logging.getLogger(name).level for name in ("rq", "httpx", "httpcore", "redis")}
        plain_log()
        yield
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)

    @pytest.mark.parametrize("path", ["services.worker.tasks.reindex", "tests.nowhere.no_such_function"])
    def test_a_job_that_fails_tells_neither_the_log_nor_redis_what_was_written(
        self, harness, until, log, path: str, monkeypatch: pytest.MonkeyPatch
    ):
        def raising(*_: object) -> None:
            raise ValueError(f"what is this? {SECRET}")

        monkeypatch.setattr(harness.handlers, "reindex", raising)
        queue = diary_queue(harness.queue)
        job = queue.enqueue(path, job_id="failing", failure_ttl=60)
        with harness.running():
            until(lambda: job.get_status(refresh=True) == "failed")
        assert "job failing failed" in log.text
        assert "heron" not in log.text
        assert "Augustine" not in in_redis(harness.queue)
        assert job.latest_result() is not None

    def test_an_import_and_an_entry_that_fail_do_not_either(self, harness, until, log):
        harness.build(QuotingEmbedder())
        entry = harness.accept(SECRET)
        import_id = harness.import_texts([f"{SECRET} again"])
        harness.jobs.submit_import("ada", import_id)
        with harness.running():
            until(lambda: harness.current(entry).attempts)
            until(lambda: not diary_queue(harness.queue).job_ids)
        assert "ValueError" in log.text
        assert "heron" not in log.text
        assert "Augustine" not in in_redis(harness.queue)


class TestHandlers:
    def test_an_error_of_one_job_lets_the_next_one_be_done(
        self, harness, log, monkeypatch: pytest.MonkeyPatch
    ):
        """Only while the ledger or the index is away would every job fail."""
        entry = harness.add("It rained.")

        def raising(*_: object) -> None:
            raise KeyError(SECRET)

        with monkeypatch.context() as patch:
            patch.setattr(harness.handlers, "index_import", raising)
            tasks.index_import("ada", "some-import")
        tasks.index_entry("ada", entry.id, 1)
        assert harness.indexed() == [(entry.id, 1)]
        assert "heron" not in log.text
