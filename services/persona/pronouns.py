"""A persona's pronouns, for every text that speaks of the persona in the third person."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Pronouns:
    """The forms of one set: "she/her" has she, her and her. No text needs more, or has to inflect a verb."""

    subject: str
    object: str
    possessive: str

    def __str__(self) -> str:
        return f"{self.subject}/{self.object}"


PRONOUNS = {
    str(pronouns): pronouns
    for pronouns in (
        Pronouns("she", "her", "her"),
        Pronouns("he", "him", "his"),
        Pronouns("they", "them", "their"),
        Pronouns("it", "it", "its"),
    )
}


def pronouns_of(name: str, stated: str = "") -> Pronouns:
    """The stated pronouns, or the default for a persona of this name.

    Ada's first files and manifests state none and mean "she/her". Of anybody else nothing is assumed.
    """
    return PRONOUNS[stated or ("she/her" if name == "Ada" else "they/them")]
