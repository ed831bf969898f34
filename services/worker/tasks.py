"""The job functions, which RQ calls by the paths in services/diary/jobs.py.

A job that could not be done ends all the same: the ledger still waits for its entries, and the outbox relay
queues them again. A process registers its handlers before it starts to work.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from redis.exceptions import RedisError
from rq import Retry
from rq.job import get_current_job
from rq.timeouts import JobTimeoutException

from services.errors import AdaError, ConfigError, DiaryUnavailable
from services.tracing import carrying
from services.worker.handlers import JobHandlers

log = logging.getLogger("ada.worker")
_MAX_TURNS = 1_000_000  # of an import; RQ needs a number
_handlers: JobHandlers | None = None
Result = TypeVar("Result")


def register_handlers(handlers: JobHandlers | None) -> None:
    """Let these handlers run the jobs of this process from now on; None unregisters them."""
    global _handlers
    _handlers = handlers


def index_entry(owner: str, entry_id: str, version: int) -> None:
    """Bring the index up to one version of an entry."""
    _run("index entry", lambda handlers: handlers.index_entry(owner, entry_id, version))


def index_import(owner: str, import_id: str) -> Retry | None:
    """Bring the index up to the entries of an import, for one turn.

    Returns a Retry when there is more: it puts the job behind the others in the queue.
    """
    has_more = _run("index import", lambda handlers: handlers.index_import(owner, import_id))
    return Retry(max=_MAX_TURNS) if has_more else None


def reflect(owner: str, reflection_id: str) -> None:
    """Let Ada write an entry from a conversation."""
    _run("reflect", lambda handlers: handlers.reflect(owner, reflection_id))


def reindex() -> int:
    """Fill a new index while the old one is searched, and switch to it; returns the number of its entries.

    Unlike the other jobs this one fails when it could not be done, because no row in the ledger waits for it.
    """
    try:
        with carrying("reindex", _job_meta()):
            return _registered_handlers().reindex(lambda done: _update_meta(done=done))
    except Exception as error:
        _update_meta(reason=_reason(error))
        raise


def _run(name: str, work: Callable[[JobHandlers], Result]) -> Result | None:
    """Run a job. This is the boundary of its errors: they are recorded, and the next job begins."""
    handlers = _registered_handlers()
    if handlers.is_paused():
        return None
    with carrying(name, _job_meta()):
        try:
            return work(handlers)
        except JobTimeoutException as error:
            _defer(handlers, str(error))
        except (DiaryUnavailable, ConfigError) as error:  # every other job would fail, too
            log.warning("jobs are paused: %s", error)
            handlers.pause()
        except Exception as error:  # of this job alone; RQ would log its message and store it in Redis
            log.exception("%s failed", name)
            _defer(handlers, _reason(error))
    return None


def _defer(handlers: JobHandlers, reason: str) -> None:
    """Count an attempt at the current batch; while the ledger is away its entries stay as they are."""
    try:
        handlers.defer(reason)
    except DiaryUnavailable as error:
        log.warning("a failed attempt could not be counted: %s", error)


def _reason(error: Exception) -> str:
    """The error as it may be logged: the message of a library's exception may hold an entry's text."""
    return str(error) if isinstance(error, AdaError) else type(error).__name__


def _registered_handlers() -> JobHandlers:
    if _handlers is None:
        raise ConfigError(
            "this process has no job handlers: start the worker with `python -m services.worker`"
        )
    return _handlers


def _job_meta() -> dict[str, object]:
    """What the request that queued the current job sent along."""
    job = get_current_job()
    return dict(job.meta) if job else {}


def _update_meta(**meta: object) -> None:
    """Store where `Jobs.report` reads it. Continues while the queue is away."""
    if job := get_current_job():
        job.meta.update(meta)
        with suppress(RedisError):
            job.save_meta()  # type: ignore[no-untyped-call]
