"""A persona's pronouns, for every text that speaks of the persona in the third person."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Pronouns:
    """The forms of one set: "she/her" has she, her, her and herself."""

    subject: str
    object: str
    possessive: str
    reflexive: str
    is_plural: bool = False

    def __str__(self) -> str:
        return f"{self.subject}/{self.object}"

    def verb(self, singular: str, plural: str) -> str:
        """The form of a verb that agrees with the subject: she tells, they tell."""
        return plural if self.is_plural else singular


PRONOUNS = {
    str(pronouns): pronouns
    for pronouns in (
        Pronouns("she", "her", "her", "herself"),
        Pronouns("he", "him", "his", "himself"),
        Pronouns("they", "them", "their", "themselves", is_plural=True),
        Pronouns("it", "it", "its", "itself"),
    )
}


def pronouns_of(name: str, stated: str = "") -> Pronouns:
    """The stated pronouns, or the default for a persona of this name.

    Ada's first files and manifests state none and mean "she/her". Of anybody else nothing is assumed.
    """
    return PRONOUNS[stated or ("she/her" if name == "Ada" else "they/them")]
