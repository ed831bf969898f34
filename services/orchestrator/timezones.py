"""The time zone that a request may name."""

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from services.errors import FieldError
from services.local_time import read_zone

TIMEZONE = (
    "the IANA time zone of the days, such as Pacific/Auckland; by default the owner's, else the deployment's"
)


def _check_zone(name: str) -> str:
    read_zone(name)
    return name


Timezone = Annotated[str, Field(max_length=80, description=TIMEZONE), AfterValidator(_check_zone)]
SCHEMA: dict[str, Any] = {"type": "string", "maxLength": 80, "description": TIMEZONE}


def parse_timezone(value: object) -> str | None:
    """The time zone in a field of a body; None when it is absent. Raises FieldError."""
    if value is None:
        return None
    try:
        return _check_zone(str(value))
    except ValueError as error:
        raise FieldError(f"timezone: {error}", "timezone") from None
