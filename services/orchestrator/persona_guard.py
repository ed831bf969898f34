"""Keeps one persona from another's memories: a diary belongs to the persona that it was written with."""

import logging
from typing import Literal

from fastapi.concurrency import run_in_threadpool

from services.diary.ledger.ledger import Ledger
from services.diary.ledger.persona_record import PersonaRecord, foreign_diary_message
from services.persona.persona import Persona

log = logging.getLogger("ada.orchestrator")
Policy = Literal["refuse", "allow"]


class PersonaGuard:
    """Compares the persona that is served with the one that the diary belongs to."""

    def __init__(self, ledger: Ledger, policy: Policy) -> None:
        self._record = PersonaRecord(ledger)
        self._is_shared = policy == "allow"
        self._allowed_identity: str | None = None
        self._logged_complaint = ""

    async def complaint(self, persona: Persona) -> str:
        """Why this persona may not use the diary; empty when it may. Raises DiaryUnavailable."""
        if self._allowed_identity == persona.identity:
            return ""
        return await run_in_threadpool(self.compare, persona)

    def compare(self, persona: Persona) -> str:
        """As `complaint`, but it blocks the thread while the ledger is locked."""
        name = persona.assistant_name
        other = self._record.register(persona.identity, name, shared=self._is_shared)
        if other is None or self._is_shared:
            self._allowed_identity = persona.identity
        complaint = foreign_diary_message(other, name) if other is not None else ""
        if complaint != self._logged_complaint:
            self._logged_complaint = complaint
            log.warning("%s%s", complaint, " (it is allowed)" if self._is_shared else "")
        return "" if self._is_shared else complaint
