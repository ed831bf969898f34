"""The time zone that a request may name."""

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from services.errors import FieldError
from services.local_time import read_zone

TIMEZONE = "whose days are meant, such as Pacific/Auckland; else the owner's time zone, else the deployment's"


def _known(name: str) -> str:
    read_zone(name)
    return name


Timezone = Annotated[str, Field(max_length=80, description=TIMEZONE), AfterValidator(_known)]
SCHEMA: dict[str, Any] = {"type": "string", "maxLength": 80, "description": TIMEZONE}


def timezone_of(value: object) -> str | None:
    """The time zone that a body's field names; None when it is left out. Raises FieldError."""
    if value is None:
        return None
    try:
        return _known(value if isinstance(value, str) else str(value))
    except ValueError as error:
        raise FieldError(f"timezone: {error}", "timezone") from None
