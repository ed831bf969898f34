"""The published adapter: the persona that is served, and the chat template that it was trained with."""

from dataclasses import dataclass
from pathlib import Path

from services.errors import ConfigError
from services.persona.manifest import PERSONA_NAME, TEMPLATE_NAME, Manifest, read_manifest
from services.persona.persona import Persona, load_persona


@dataclass(frozen=True)
class Adapter:
    """One training run, as far as the orchestrator reads it."""

    persona: Persona
    manifest: Manifest
    template: str


class AdapterLoader:
    """Loads the run that a link names at the first call; training may finish after the start."""

    def __init__(self, link: Path) -> None:
        self._link = link
        self._adapter: Adapter | None = None

    def adapter(self) -> Adapter:
        """The same run for the life of this process, as in vLLM. Raises ConfigError while there is none."""
        if self._adapter is None:
            folder = self._link.resolve()
            manifest, persona = read_manifest(folder), load_persona(folder / PERSONA_NAME)
            manifest.check_persona(persona, folder / PERSONA_NAME)
            self._adapter = Adapter(persona, manifest, _read_template(folder / TEMPLATE_NAME))
        return self._adapter


def _read_template(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} can't be read ({error}): the adapter is damaged, run `make train`"
        ) from None
