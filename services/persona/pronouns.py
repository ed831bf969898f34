"""A persona's pronouns, for texts about the persona in the third person."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Pronouns:
    """A set of pronouns: its usual name, and the one form that our texts need."""

    name: str
    possessive: str

    def __str__(self) -> str:
        return self.name


_SETS = (
    Pronouns("she/her", "her"),
    Pronouns("he/him", "his"),
    Pronouns("they/them", "their"),
    Pronouns("it/its", "its"),
)
PRONOUNS = {pronouns.name: pronouns for pronouns in _SETS}


def pronouns_of(name: str, stated: str = "") -> Pronouns:
    """The stated pronouns, or the default for a persona of this name.

    Older files and manifests of Ada state none and mean "she/her". For other names the default is neutral.
    """
    return PRONOUNS[stated or ("she/her" if name == "Ada" else "they/them")]
