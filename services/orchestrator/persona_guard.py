"""Keeps one persona's memories out of another's head: a diary belongs to the persona it was written with."""

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
        self._shared = policy == "allow"
        self._passed: str | None = None  # the identity that may use the diary
        self._said = ""

    async def complaint(self, persona: Persona) -> str:
        """Why the diary is not for this persona; empty when it is. Raises DiaryUnavailable."""
        if self._passed == persona.identity:
            return ""
        return await run_in_threadpool(self.compare, persona)

    def compare(self, persona: Persona) -> str:
        """As `complaint`, in a thread that may wait for the ledger."""
        name = persona.assistant_name
        whose = self._record.register(persona.identity, name, shared=self._shared)
        if whose is None or self._shared:
            self._passed = persona.identity
        complaint = foreign_diary_message(whose, name) if whose is not None else ""
        if complaint != self._said:
            self._said = complaint
            log.warning("%s%s", complaint, " (it is allowed)" if self._shared else "")
        return "" if self._shared else complaint
