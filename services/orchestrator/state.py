"""What the routes work with, put together once and injected."""

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from services.diary.jobs import Jobs
from services.diary.ledger import Ledger
from services.diary.recall import Recall
from services.orchestrator.engine import Engine
from services.persona.manifest import Manifest
from services.persona.persona import Persona

# One owner, until keys name others.
OWNER = "local"


@dataclass(frozen=True)
class State:
    """The orchestrator's parts. `recall` raises DiaryUnavailable when the diary is down."""

    persona: Persona
    manifest: Manifest
    template: str
    engine: Engine
    ledger: Ledger
    jobs: Jobs
    recall: Recall


def _state(request: Request) -> State:
    return cast(State, request.app.state.ada)


StateDep = Annotated[State, Depends(_state)]
