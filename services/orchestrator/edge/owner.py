"""Whose diary a request is about. Every route that touches a diary asks for it here."""

from typing import Annotated

from fastapi import Depends

# One owner, until keys name others.
LOCAL = "local"


def owner_of_request() -> str:
    """The owner."""
    return LOCAL


OwnerDep = Annotated[str, Depends(owner_of_request)]
