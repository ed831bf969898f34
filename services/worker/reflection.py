"""Conversations become entries: Ada is asked, and what she writes is kept, once."""

import logging
from contextlib import suppress

from pydantic import ValidationError
from rq.timeouts import JobTimeoutException

from services.diary.entry import EntryDraft, Source
from services.diary.jobs import Jobs
from services.diary.ledger.ledger import Ledger
from services.diary.ledger.persona_record import PersonaRecord
from services.diary.reflection.reflections import Attempt, Reflection, Reflections, entry_text
from services.diary.transfer.row import rejection
from services.errors import DiaryUnavailable, EntryConflict, EntryRejected, ModelUnavailable, NotFound
from services.worker.completion_client import CompletionClient

log = logging.getLogger("ada.worker")
NOTHING_NEW = "all that was written stands in the diary already"


class ReflectionHandler:
    """Does the jobs of one kind: a reflection that is queued in the ledger is asked for and kept."""

    def __init__(self, ledger: Ledger, jobs: Jobs, author: CompletionClient) -> None:
        self._ledger = ledger
        self._jobs = jobs
        self._author = author
        self._reflections = Reflections(ledger)
        self._persona = PersonaRecord(ledger)

    def reflect(self, owner: str, reflection_id: str) -> None:
        """Let Ada write an entry from a conversation. Raises DiaryUnavailable.

        Whatever else goes wrong is this reflection's own: the attempt is counted, and the next one waits.
        """
        attempt = self._reflections.begin(owner, reflection_id)
        if attempt is None:
            log.info("reflection %s is not queued, nothing to write", reflection_id)
            return
        try:
            self._attempt(attempt)
        except DiaryUnavailable as error:
            with suppress(DiaryUnavailable):
                self._reflections.defer(attempt, str(error))
            raise
        except (ModelUnavailable, JobTimeoutException) as error:
            self._put_off(attempt, str(error))
        except (EntryRejected, ValidationError) as error:
            reason = rejection(error) if isinstance(error, ValidationError) else error
            self._reflections.mark_failed(attempt, str(reason))
            # vLLM's own words may repeat the conversation; they are in the ledger, for the owner.
            log.warning("reflection %s failed: %s", attempt.id, type(error).__name__)
        except Exception as error:  # the boundary of a reflection: counted, and readable by its job's id
            log.exception("reflection %s could not be written", attempt.id)
            self._put_off(attempt, f"an unforeseen error: {type(error).__name__}")

    def _attempt(self, attempt: Attempt) -> None:
        reflection = self._reflections.get(attempt.owner, attempt.id)
        entry_id = f"reflection-{reflection.id[:16]}"
        if self._is_written(reflection.owner, entry_id):
            self._reflections.mark_done(attempt, entry_id)
            return
        if refusal := self._persona.refusal():
            raise ModelUnavailable(refusal)  # another persona would answer: it may be tried later
        answer = self._author.write(reflection.request)
        text = entry_text(self._ledger.for_owner(reflection.owner), answer, reflection.request)
        if text:
            self._keep(reflection, EntryDraft(text=text, date=reflection.date, id=entry_id))
        else:
            self._reflections.mark_done(attempt, None, NOTHING_NEW)

    def _is_written(self, owner: str, entry_id: str) -> bool:
        """Whether a worker before this one got so far; an entry that was removed since is written, too."""
        try:
            self._ledger.current(owner, entry_id)
        except NotFound:
            return False
        return True

    def _put_off(self, attempt: Attempt, reason: str) -> None:
        state = self._reflections.defer(attempt, reason)
        log.warning("reflection %s is %s after attempt %d", attempt.id, state, attempt.attempts + 1)

    def _keep(self, reflection: Reflection, draft: EntryDraft) -> None:
        origin = {"turns": reflection.turns, "reflection": reflection.id}
        with suppress(EntryConflict):  # another worker was faster, and hers stands
            entry = self._ledger.for_owner(reflection.owner).add(
                draft, source=Source.REFLECTION, origin=origin
            )
            with suppress(DiaryUnavailable):  # the sweep will queue it
                self._jobs.submit(entry)
        self._reflections.mark_done(reflection, draft.id)
