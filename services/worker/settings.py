"""The worker's settings, read from the environment once, at the start."""

from pathlib import Path

from pydantic import Field

from services.diary.settings import DiarySettings


class WorkerSettings(DiarySettings):
    """The diary's settings and the scribe's own."""

    # Touched after every turn of the working loop; a health check looks at its age.
    alive_path: Path | None = Field(None, validation_alias="WORKER_ALIVE_PATH")
