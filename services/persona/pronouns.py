"""A persona's pronouns, for every text that speaks of the persona in the third person."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Pronouns:
    """A set by its usual name, and the one form of it that our texts need. None inflects a verb."""

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

    Ada's first files and manifests state none and mean "she/her". Of anybody else nothing is assumed.
    """
    return PRONOUNS[stated or ("she/her" if name == "Ada" else "they/them")]
