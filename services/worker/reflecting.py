"""Conversations become entries: Ada is asked, and what she writes is kept, once."""

import logging
from contextlib import suppress

from services.diary.entry import EntryDraft, Source
from services.diary.jobs import Jobs
from services.diary.ledger import Ledger
from services.diary.persona_record import PersonaRecord
from services.diary.reflections import QUEUED, Reflection, Reflections, entry_text
from services.errors import DiaryUnavailable, EntryConflict, EntryRejected, ModelUnavailable, NotFound
from services.worker.author import Author

log = logging.getLogger("ada.worker")
NOTHING_NEW = "all that was written stands in the diary already"


class Reflecting:
    """Does the jobs of one kind: a reflection that is queued in the ledger is asked for and kept."""

    def __init__(self, ledger: Ledger, jobs: Jobs, author: Author) -> None:
        self._ledger = ledger
        self._jobs = jobs
        self._author = author
        self._reflections = Reflections(ledger)
        self._persona = PersonaRecord(ledger)

    def reflect(self, owner: str, reflection_id: str) -> None:
        """Let Ada write an entry from a conversation. Raises DiaryUnavailable."""
        try:
            reflection = self._reflections.get(owner, reflection_id)
        except NotFound:
            log.info("reflection %s is gone", reflection_id)
            return
        entry_id = f"reflection-{reflection_id[:16]}"
        if reflection.state != QUEUED:
            return
        if self._is_written(owner, entry_id):
            self._reflections.mark_done(reflection, entry_id)
        else:
            self._write(reflection, entry_id)

    def _is_written(self, owner: str, entry_id: str) -> bool:
        """Whether a worker before this one got so far; an entry that was removed since is written, too."""
        try:
            self._ledger.current(owner, entry_id)
        except NotFound:
            return False
        return True

    def _write(self, reflection: Reflection, entry_id: str) -> None:
        try:
            if refusal := self._persona.refusal():
                raise ModelUnavailable(refusal)  # another persona would answer: it may be tried later
            answer = self._author.write(reflection.request)
            if not (text := entry_text(self._ledger.of(reflection.owner), answer)):
                self._reflections.mark_done(reflection, None, NOTHING_NEW)
                return
            self._keep(reflection, EntryDraft(text=text, date=reflection.date, id=entry_id))
        except ModelUnavailable as error:
            state = self._reflections.put_off(reflection, str(error))
            log.warning("reflection %s is %s: %s", reflection.id, state, error)
        except (EntryRejected, ValueError) as error:
            self._reflections.mark_failed(reflection, str(error))
            # vLLM's own words may repeat the conversation; they are in the ledger, for the owner.
            log.warning("reflection %s failed: %s", reflection.id, type(error).__name__)

    def _keep(self, reflection: Reflection, draft: EntryDraft) -> None:
        origin = {"turns": reflection.turns, "reflection": reflection.id}
        with suppress(EntryConflict):  # another worker was faster, and hers stands
            entry = self._ledger.of(reflection.owner).add(draft, source=Source.REFLECTION, origin=origin)
            with suppress(DiaryUnavailable):  # the sweep will queue it
                self._jobs.submit(entry)
        self._reflections.mark_done(reflection, draft.id)
