"""The worker's settings, read from the environment once at the start."""

from pathlib import Path

from pydantic import Field

from services.diary.settings import DiarySettings


class WorkerSettings(DiarySettings):
    """The diary's settings and the worker's own."""

    # A file that is touched after every turn of the working loop; a health check looks at its age.
    alive_path: Path | None = Field(None, validation_alias="WORKER_ALIVE_PATH")
    # The model server that writes Ada's own entries.
    model_url: str = Field("http://127.0.0.1:8000", validation_alias="MODEL_URL")
    model_api_key: str = Field("", validation_alias="MODEL_API_KEY", repr=False)
    connect_timeout_s: float = Field(5.0, gt=0, validation_alias="MODEL_CONNECT_TIMEOUT_S")
    whole_timeout_s: float = Field(900.0, gt=0, validation_alias="MODEL_WHOLE_TIMEOUT_S")
