"""MANIFEST.json, the last file that a training run writes: a run that has it is complete.

The trainer writes it; model and orchestrator read it. It is the only source of base model, rank and template.
"""

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from services.errors import ConfigError
from services.files import write_atomic
from services.persona.persona import Persona, load_persona
from services.persona.pronouns import PRONOUNS, pronouns_of

MANIFEST_NAME = "MANIFEST.json"
TEMPLATE_NAME = "chat_template.jinja"
PERSONA_NAME = "persona.toml"
WEIGHTS_NAME = "adapter_model.safetensors"
ADAPTER_CONFIG_NAME = "adapter_config.json"
SCHEMA = 1


@dataclass(frozen=True)
class Manifest:
    """The inputs and results of a run; hashes are SHA-256 in hex, times are in seconds."""

    run_id: str
    created_at: str
    base_model: str
    lora_rank: int
    lora_alpha: int
    user_name: str
    assistant_name: str
    template_sha256: str
    weights_sha256: str
    seed: int
    dataset: dict[str, dict[str, object]]
    versions: dict[str, str]
    timings_s: dict[str, float]
    peak_memory_gib: float
    steps: int
    loss_before: float
    loss_after: float  # of the adapter that is served
    loss_by_source: dict[str, list[float]] = field(default_factory=dict)  # held out: before, after
    served_step: int | None = None  # the step of the served adapter; None in older runs
    last_loss: float | None = None  # of the last step's adapter, stored in last/ if it is not the served one
    tokens: int = 0
    plan: str = ""  # how the steps were computed
    code_revision: str = ""
    pronouns: str = ""  # empty: derived from the name, see services/persona/pronouns.py
    adapter_config_sha256: str = ""  # empty in older runs, as is the next
    persona_sha256: str = ""
    schema: int = SCHEMA

    @property
    def is_worse_than_base(self) -> bool:
        """Whether training raised the held-out loss."""
        return self.loss_after > self.loss_before

    def check_persona(self, persona: Persona, path: Path) -> None:
        """Raises ConfigError when a persona file is not of the persona that the adapter was trained on."""
        trained = (self.assistant_name, self.user_name, str(pronouns_of(self.assistant_name, self.pronouns)))
        names = (persona.assistant_name, persona.user_name, str(persona.pronouns))
        if names != trained:
            raise ConfigError(
                f"{path} is of {_who(*names)}, but {MANIFEST_NAME} names {_who(*trained)}: "
                "restore the file or train again"
            )

    def write(self, folder: Path) -> None:
        """Write the manifest into a run's folder, atomically."""
        write_atomic(folder / MANIFEST_NAME, json.dumps(asdict(self), indent=2) + "\n")


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of an adapter's folder.

    Raises ConfigError when there is no complete adapter, or one written by another schema.
    """
    path = folder / MANIFEST_NAME
    _check_readable(path)
    values = _json_object(path)
    if values.get("schema") != SCHEMA:
        raise ConfigError(f"{path} has schema {values.get('schema')!r}, this Ada reads {SCHEMA}: train again")
    try:
        manifest = Manifest(**values)
    except TypeError as error:
        raise ConfigError(f"{path} does not fit the schema ({error}): train again") from None
    if manifest.pronouns and manifest.pronouns not in PRONOUNS:
        raise ConfigError(f"{path}: pronouns is {manifest.pronouns!r}; use one of {', '.join(PRONOUNS)}")
    return manifest


def check_adapter(folder: Path) -> Manifest:
    """Read the manifest and check the folder's files against it.

    Raises ConfigError naming the file that is missing, altered or made for another base model or rank.
    """
    manifest = read_manifest(folder)
    for name in (WEIGHTS_NAME, ADAPTER_CONFIG_NAME, TEMPLATE_NAME, PERSONA_NAME):
        _check_readable(folder / name)
    manifest.check_persona(load_persona(folder / PERSONA_NAME), folder / PERSONA_NAME)
    if file_sha256(folder / TEMPLATE_NAME) != manifest.template_sha256:
        raise ConfigError(
            f"{folder / TEMPLATE_NAME} is not the template that {manifest.assistant_name} was trained with "
            f"(template_sha256 in {MANIFEST_NAME} differs): restore the file or train again"
        )
    _check_adapter_config(folder, manifest)
    _check_hash(folder / PERSONA_NAME, manifest.persona_sha256)
    if file_sha256(folder / WEIGHTS_NAME) != manifest.weights_sha256:
        raise ConfigError(f"{folder / WEIGHTS_NAME} is damaged (its hash differs): train again")
    return manifest


def _check_adapter_config(folder: Path, manifest: Manifest) -> None:
    """Raises ConfigError when base model or rank differ from the manifest's, or the file was altered."""
    adapter = _json_object(folder / ADAPTER_CONFIG_NAME)
    if adapter.get("base_model_name_or_path") != manifest.base_model:
        raise ConfigError(
            f"{folder / ADAPTER_CONFIG_NAME} is an adapter of "
            f"{adapter.get('base_model_name_or_path')!r}, but {MANIFEST_NAME} names the base model "
            f"{manifest.base_model!r}: the folder mixes two runs, train again"
        )
    for name, value in (("r", manifest.lora_rank), ("lora_alpha", manifest.lora_alpha)):
        if adapter.get(name, value) != value:
            raise ConfigError(
                f"{folder / ADAPTER_CONFIG_NAME} has {name} {adapter[name]!r}, but {MANIFEST_NAME} says "
                f"{value}: restore the file or train again"
            )
    _check_hash(folder / ADAPTER_CONFIG_NAME, manifest.adapter_config_sha256)


def _check_hash(path: Path, sha256: str) -> None:
    """Raises ConfigError when a file was altered; older runs have no hash of some files."""
    if sha256 and file_sha256(path) != sha256:
        raise ConfigError(f"{path} was altered (its hash differs): restore the file or train again")


def _who(assistant: str, user: str, pronouns: str) -> str:
    return f"{assistant} ({pronouns}) and {user}"


def _check_readable(path: Path) -> None:
    """Raises ConfigError for a missing or unreadable file: another user may have trained the adapter."""
    try:
        path.open("rb").close()
    except PermissionError:
        raise ConfigError(f"{path} may not be read by user {os.geteuid()}: chmod -R a+rX outputs") from None
    except OSError:
        if path.name == MANIFEST_NAME:
            missing = f"no adapter in {path.parent} ({MANIFEST_NAME} is missing): run `make train`"
            raise ConfigError(missing) from None
        raise ConfigError(f"{path} is missing: the adapter is damaged, run `make train`") from None


def _json_object(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConfigError(f"{path} is not valid JSON ({error}): train again") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds no JSON object: train again")
    return values


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hex, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
