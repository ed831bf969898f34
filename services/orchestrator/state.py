"""What the routes work with, put together once and injected."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from services.diary.jobs import Jobs
from services.diary.ledger import Ledger
from services.diary.recall import Recall
from services.orchestrator.adapter import Adapter
from services.orchestrator.engine import Engine

# One owner, until keys name others.
OWNER = "local"


@dataclass(frozen=True)
class State:
    """The orchestrator's parts.

    `adapter` raises ConfigError while there is none, `recall` DiaryUnavailable when the diary is down.
    """

    adapter: Callable[[], Adapter]
    engine: Engine
    ledger: Ledger
    jobs: Jobs
    recall: Recall


def _state(request: Request) -> State:
    return cast(State, request.app.state.ada)


StateDep = Annotated[State, Depends(_state)]
