"""The state of each of a sweep's points, stored so that a killed sweep can be resumed."""

import json
from pathlib import Path

from services.errors import ConfigError
from services.files import write_atomic
from services.persona.manifest import MANIFEST_NAME
from trainer.config import load_config
from trainer.runs import folder as run_folder
from trainer.sweep.grid import Point, Sweep


class State:
    """Records per point: when it began, then its run or the message of its failure."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._records: dict[str, dict[str, str]] = {}
        if path.exists():
            self._records = self._read()

    def _read(self) -> dict[str, dict[str, str]]:
        try:
            return dict(json.loads(self.path.read_text(encoding="utf-8")).items())
        except (ValueError, AttributeError):  # it is written whole: somebody edited it
            raise ConfigError(f"{self.path} is damaged: delete it, and the sweep begins anew") from None

    def record_of(self, point: Point) -> dict[str, str]:
        return self._records.get(point.key, {})

    def record(self, point: Point, **words: str) -> None:
        """Store a point's record durably."""
        self._records[point.key] = {"point": str(point), **words}
        write_atomic(self.path, json.dumps(self._records, indent=2) + "\n")


def complete_run(sweep: Sweep, point: Point, state: State) -> Path | None:
    """The point's complete run, also one that was completed after its sweep was killed."""
    runs = runs_of(sweep, point, state)
    return next((run for run in runs if not run.suffix and (run / MANIFEST_NAME).exists()), None)


def runs_of(sweep: Sweep, point: Point, state: State) -> list[Path]:
    """Folders of runs, newest first, that this sweep began with exactly the point's settings."""
    since = state.record_of(point).get("began", "~")  # behind every run's name, which is a time
    runs = sorted(sweep.runs.glob("*"), reverse=True)
    return [run for run in runs if run.name >= since and _is_of(run, point)]


def _is_of(run: Path, point: Point) -> bool:
    try:
        return load_config(run / run_folder.CONFIG_NAME, []) == point.config
    except ConfigError:  # another trainer's run, or one killed before it had a config
        return False
