"""A sweep's YAML file, the combinations of its grid, and the complete config of each."""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.errors import ConfigError
from trainer.config import TrainingConfig, argument, load_config, read_yaml
from trainer.publish import check_link
from trainer.runs import folder as run_folder

SWEEPS = "sweeps"
MIXTURES = "mixtures"
RATIOS = ("hippocorpus_ratio", "journal_ratio", "reddit_ratio", "generated_ratio")
SET_BY_THE_SWEEP = {"publish": "a sweep publishes nothing", "log_dir": "the logs lie in the sweep's folder"}
_TIE = re.compile(
    r"\s*(?:(?P<factor>\d+(?:\.\d+)?)\s*\*\s*)?(?P<setting>[a-z]\w*)\s*(?:/\s*(?P<divisor>\d*[1-9]\d*))?\s*"
)
Row = dict[str, Any]


class SweepFile(BaseModel):
    """The content of a sweep's YAML: settings of all runs, and lists of values to combine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str | None = Field(None, pattern=r"^\w[\w.-]*$")  # none: the file's own
    base: Path | None = None  # a training config
    settings: dict[str, Any] = Field(default_factory=dict)  # over those of `base`
    ties: dict[str, str] = Field(default_factory=dict)  # what follows another setting, such as 2*lora_rank
    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(min_length=1)


@dataclass(frozen=True)
class Point:
    """One combination: the grid's names with their values, and the whole config of its run."""

    varied: dict[str, Any]
    config: TrainingConfig

    def __str__(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.varied.items())

    @property
    def key(self) -> str:
        """The same for the same resolved settings, whatever file they came from."""
        settings = json.dumps(self.config.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(settings.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Sweep:
    """All points in the order of the grid, its first name varying slowest, and where their table goes."""

    folder: Path
    points: list[Point]

    @property
    def runs(self) -> Path:
        return self.folder.parent.parent / run_folder.RUNS


def load_sweep(file: Path, overrides: list[str]) -> Sweep:
    """Read a sweep and resolve all runs: defaults ← `base` ← `settings` ← a combination ← overrides ← ties.

    Raises ConfigError that names the file, the entry of the grid and what it must be.
    """
    sweep_file, overridden = _sweep_file(file), dict(map(argument, overrides))
    _check_names(file, sweep_file, overridden)
    base = load_config(sweep_file.base, []).model_dump(exclude_unset=True) if sweep_file.base else {}
    common = base | sweep_file.settings
    resolved = [
        _resolve(file, common, combination, overridden, sweep_file.ties)
        for combination in _combinations(file, sweep_file)
    ]
    output_dir = resolved[0].config.output_dir
    check_link(output_dir)
    folder = output_dir.parent / SWEEPS / (sweep_file.name or file.stem)
    own = {"publish": False, "log_dir": folder / "logs"}
    points = [Point(point.varied, point.config.model_copy(update=own)) for point in resolved]
    _refuse_twins(file, points)
    return Sweep(folder, points)


def _sweep_file(file: Path) -> SweepFile:
    try:
        return SweepFile.model_validate(read_yaml(file))
    except ValidationError as error:
        complaints = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ConfigError(f"{file}: {'; '.join(complaints)}. See trainer/configs/sweep.yaml") from None


def _check_names(file: Path, sweep_file: SweepFile, overridden: dict[str, object]) -> None:
    """Raise ConfigError for settings that don't exist, that the sweep sets, or that are set twice."""
    mixed = {*RATIOS} if MIXTURES in sweep_file.grid else set()
    origins = {
        f"{file}: settings": sweep_file.settings,
        f"{file}: grid": sweep_file.grid,
        f"{file}: ties": sweep_file.ties,
        "command line": overridden,
    }
    for origin, names in origins.items():
        for name in names:
            _check_name(origin, name, of_grid=names is sweep_file.grid)
    if both := sorted(mixed & {*sweep_file.grid}):
        raise ConfigError(f"{file}: grid: {MIXTURES} sets the four ratios together: take {both[0]} out")
    for tied, origin in (
        (name, origin) for origin, names in origins.items() for name in sweep_file.ties if name in names
    ):
        if origin != f"{file}: ties":
            raise ConfigError(f"{origin}: {tied} is tied in {file}: leave it out here, or there")
    if both := sorted((mixed | {*sweep_file.grid}) & {*overridden}):
        raise ConfigError(f"command line: {both[0]} is varied in {file}: leave it out here, or there")


def _check_name(origin: str, name: str, *, of_grid: bool) -> None:
    allowed = [*TrainingConfig.model_fields, *([MIXTURES] if of_grid else [])]
    if name not in allowed:
        near = get_close_matches(name, allowed, 1)
        hint = f"did you mean {near[0]}?" if near else "trainer/config.py has them all"
        raise ConfigError(f"{origin}: {name} is no setting of a run: {hint}")
    if of_grid and name == "output_dir":
        raise ConfigError(f"{origin}: output_dir is one for the whole sweep: write it under settings")
    if name in SET_BY_THE_SWEEP:
        raise ConfigError(f"{origin}: {name} can't be set, {SET_BY_THE_SWEEP[name]}: take it out")


def _combinations(file: Path, sweep_file: SweepFile) -> Iterator[dict[str, Any]]:
    """Name → value of the grid, the values of `mixtures` being mappings."""
    for number, mixture in enumerate(sweep_file.grid.get(MIXTURES, []), 1):
        if not isinstance(mixture, dict) or {*mixture} != {*RATIOS}:
            raise ConfigError(f"{file}: grid: {MIXTURES} {number}: write all of {', '.join(RATIOS)}")
    for values in product(*sweep_file.grid.values()):
        yield dict(zip(sweep_file.grid, values, strict=True))


def _resolve(
    file: Path, common: Row, combination: Row, overridden: dict[str, object], ties: dict[str, str]
) -> Point:
    mixture = combination.get(MIXTURES, {})
    single = {name: value for name, value in combination.items() if name != MIXTURES}
    settings = common | single | mixture | overridden
    try:
        tied = _tied(file, ties, TrainingConfig.model_validate(settings))
        config = TrainingConfig.model_validate(settings | tied)
    except ValidationError as error:
        entry = ", ".join(f"{name}={value}" for name, value in combination.items())
        complaints = (
            f"{'command line' if e['loc'] and e['loc'][0] in overridden else f'{file}: grid: {entry}'}: "
            f"{''.join(f'{part}: ' for part in e['loc'])}{e['msg']}"
            for e in error.errors()
        )
        raise ConfigError("; ".join(complaints)) from None
    settings = config.model_dump(mode="json")  # as resolved: YAML reads 5e-5 as text
    settings[MIXTURES] = "/".join(f"{settings[ratio]:g}" for ratio in RATIOS)
    return Point({name: settings[name] for name in combination}, config)


def _tied(file: Path, ties: dict[str, str], config: TrainingConfig) -> Row:
    """Name → value of the settings that follow another one's: a number times it, or a part of it."""
    values = {}
    for name, expression in ties.items():
        match = _TIE.fullmatch(expression)
        value = getattr(config, match["setting"], None) if match else None
        if match is None or isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(
                f"{file}: ties: {name} is {expression!r}: write a number times another setting that is a "
                "number, such as 2*lora_rank"
            )
        product = value * float(match["factor"] or 1) / float(match["divisor"] or 1)
        values[name] = int(product) if product.is_integer() else product
    return values


def _refuse_twins(file: Path, points: list[Point]) -> None:
    first: dict[str, Point] = {}
    for point in points:
        if (twin := first.setdefault(point.key, point)) is not point:
            raise ConfigError(f"{file}: grid: {twin} and {point} are the same run: take one out")
