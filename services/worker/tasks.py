"""The jobs, as RQ calls them by the paths in services/diary/jobs.py.

A job that could not be done ends all the same: what it was about waits in the ledger, and the sweep
queues it again. A process employs one desk before it starts to work.
"""

import logging
import time
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
REST_S = 5.0  # for so long no job is tried after the index or the ledger was away
_TURNS = 1_000_000  # an import may take; RQ wants a number
_employed: list[JobHandlers] = []
Done = TypeVar("Done")


def register_handlers(desk: JobHandlers) -> None:
    """Make `desk` the one at which this process' jobs are done."""
    _employed[:] = [desk]


def index_entry(owner: str, entry_id: str, version: int) -> None:
    """Bring the index to one version of an entry."""
    _do("index entry", lambda desk: desk.index_entry(owner, entry_id, version))


def index_import(owner: str, import_id: str) -> Retry | None:
    """Bring the index to an import's entries; a Retry puts the job behind the others for its next turn."""
    has_more = _do("index import", lambda desk: desk.index_import(owner, import_id))
    return Retry(max=_TURNS) if has_more else None


def reflect(owner: str, reflection_id: str) -> None:
    """Let Ada write an entry from a conversation."""
    _do("reflect", lambda desk: desk.reflect(owner, reflection_id))


def reindex() -> int:
    """Fill a new index beside the one that is searched, and switch to it; returns how many entries it has.

    Unlike the other jobs it fails when it could not be done: no row in the ledger waits for it.
    """
    try:
        with carrying("reindex", _meta()):
            return _employee().reindex(lambda done: _note(done=done))
    except Exception as error:
        _note(reason=_reason(error))
        raise


def _note(**meta: object) -> None:
    """Where `Jobs.report` reads it; a queue that is away stops nobody."""
    if job := get_current_job():
        job.meta.update(meta)
        with suppress(RedisError):
            job.save_meta()  # type: ignore[no-untyped-call]


def _meta() -> dict[str, object]:
    """What the job in hand took along from the request that queued it."""
    job = get_current_job()
    return dict(job.meta) if job else {}


def _do(name: str, work: Callable[[JobHandlers], Done]) -> Done | None:
    """The boundary of a job: what goes wrong is recorded, and the next job begins."""
    desk = _employee()
    if time.monotonic() < desk.rests_until:
        return None
    with carrying(name, _meta()):
        try:
            return work(desk)
        except JobTimeoutException as error:
            _put_off(desk, str(error))
        except (DiaryUnavailable, ConfigError) as error:  # so would every other job fail
            log.warning("put off: %s", error)
            desk.rests_until = time.monotonic() + REST_S
        except Exception as error:  # this job's own: RQ would log, and keep in Redis, what it says
            log.exception("%s failed", name)
            _put_off(desk, _reason(error))
    return None


def _reason(error: Exception) -> str:
    """What may be told of an error outside of the ledger: what another's exception says may be an entry."""
    return str(error) if isinstance(error, AdaError) else type(error).__name__


def _put_off(desk: JobHandlers, reason: str) -> None:
    """Count the attempt of the entries in hand; while the ledger is away they stay as they are."""
    try:
        desk.defer(reason)
    except DiaryUnavailable as error:
        log.warning("put off: %s", error)


def _employee() -> JobHandlers:
    if not _employed:
        raise ConfigError("nobody is employed in this process: start services.worker")
    return _employed[0]
