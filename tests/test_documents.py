"""The documents say what the code does: settings, verbs, the map."""

import re
from pathlib import Path

from services.model.settings import ModelSettings
from services.orchestrator.settings import OrchestratorSettings
from services.worker.settings import WorkerSettings

ROOT = Path(__file__).parents[1]
LINES = (ROOT / ".env.example").read_text().splitlines()
ENV_EXAMPLE = dict(line.split("=", 1) for line in LINES if line[:1].isalpha())


def test_env_example_names_every_setting_of_orchestrator_and_worker_with_its_default():
    for field in (OrchestratorSettings.model_fields | WorkerSettings.model_fields).values():
        name = str(field.validation_alias)
        if field.default in ("", None):
            assert any(line.startswith((f"# {name}=", f"{name}=")) for line in LINES), name
            continue
        default = f"{field.default:g}" if isinstance(field.default, float) else str(field.default)
        assert ENV_EXAMPLE[name] == default, name


def test_env_example_gives_the_engine_its_defaults():
    defaults = ModelSettings.from_environment({})
    assert ModelSettings.from_environment(ENV_EXAMPLE) == defaults
    source = (ROOT / "services/model/settings.py").read_text()
    assert set(re.findall(r'"((?:MODEL|ADA)_[A-Z_]+)"', source)) <= ENV_EXAMPLE.keys()


def test_every_verb_of_the_makefile_explains_itself():
    makefile = (ROOT / "Makefile").read_text()
    verbs = set(re.search(r"^\.PHONY: (.*)$", makefile, re.M)[1].split())
    assert verbs == set(re.findall(r"^([a-z-]+):.*## ", makefile, re.M))


def test_the_readmes_map_names_every_room():
    readme = (ROOT / "README.md").read_text()
    rooms = [path for path in (ROOT / "services").iterdir() if path.name[0] not in "_."]
    for room in rooms:
        assert f"      {room.name}{'/' if room.is_dir() else ''}" in readme, room
