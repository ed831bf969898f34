"""Runs over a grid of settings: at what rank does identity become stable, and is it duration or volume?

python -m trainer.sweep --config trainer/configs/sweep.yaml [name=value ...]

Every combination is an ordinary run in a process of its own, which gives all its memory back; none is
published. A sweep that is started again goes on: complete runs stay, one that failed or was not finished
is trained anew from its first step. Table and plot lie in `sweeps/<name>/` beside `runs/`.
"""

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.errors import AdaError, ConfigError
from services.persona.manifest import MANIFEST_NAME, read_manifest
from trainer import run_folder
from trainer.config import TrainingConfig, _argument, _read_yaml, load_config
from trainer.log import log, speak
from trainer.metrics import ALL_SOURCES, METRICS, read_lines, usual_speed
from trainer.publish import check_link

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SWEEPS = "sweeps"
STATE, TABLE_JSON, TABLE, PLOT = "state.json", "table.json", "table.txt", "plot.png"
TRAIN = (sys.executable, "-m", "trainer")
MIXTURES = "mixtures"
OWN_WORDS = "conversations"  # the source whose held-out loss says most about Ada herself
RATIOS = ("hippocorpus_ratio", "journal_ratio", "reddit_ratio", "generated_ratio")
SET_BY_THE_SWEEP = {"publish": "a sweep publishes nothing", "log_dir": "the logs lie in the sweep's folder"}
Row = dict[str, Any]


class SweepFile(BaseModel):
    """What a sweep's YAML holds: settings of all runs, and lists of values to try in all combinations."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str | None = Field(None, pattern=r"^\w[\w.-]*$")  # none: the file's own
    base: Path | None = None  # a training config
    settings: dict[str, Any] = Field(default_factory=dict)  # over those of `base`
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


def main() -> int:
    """Entry point; exit code 2 for a mistake of the user's, 1 when a run failed."""
    parser = argparse.ArgumentParser(prog="python -m trainer.sweep", description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, required=True, help="see trainer/configs/sweep.yaml")
    parser.add_argument("overrides", nargs="*", metavar="name=value", help="for every run, such as seed=1")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # or a run would outlive its sweep
    speak()
    return sweep(arguments.config, arguments.overrides)


def sweep(file: Path, overrides: list[str], command: tuple[str, ...] = TRAIN) -> int:
    """Run the sweep that `file` describes and return the exit code; `command` trains by one `--config`."""
    try:
        plan = load_sweep(file, overrides)
        return run_sweep(plan, command)
    except AdaError as error:
        log.error("sweep: %s", error)
        return 2
    except KeyboardInterrupt:
        log.error("sweep: interrupted; runs that are complete stay, the same command goes on")
        return 130


# What to run


def load_sweep(file: Path, overrides: list[str]) -> Sweep:
    """Read a sweep and resolve all its runs: defaults ← `base` ← `settings` ← a combination ← overrides.

    Raises ConfigError that names the file, the entry of the grid and what it must be.
    """
    asked, given = _sweep_file(file), dict(map(_argument, overrides))
    _check_names(file, asked, given)
    base = load_config(asked.base, []).model_dump(exclude_unset=True) if asked.base else {}
    common = base | asked.settings
    resolved = [_resolve(file, common, combination, given) for combination in _combinations(file, asked)]
    output_dir = resolved[0].config.output_dir
    check_link(output_dir)
    folder = output_dir.parent / SWEEPS / (asked.name or file.stem)
    own = {"publish": False, "log_dir": folder / "logs"}
    points = [Point(point.varied, point.config.model_copy(update=own)) for point in resolved]
    _refuse_twins(file, points)
    return Sweep(folder, points)


def _sweep_file(file: Path) -> SweepFile:
    try:
        return SweepFile.model_validate(_read_yaml(file))
    except ValidationError as error:
        complaints = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ConfigError(f"{file}: {'; '.join(complaints)}. See trainer/configs/sweep.yaml") from None


def _check_names(file: Path, asked: SweepFile, given: dict[str, object]) -> None:
    """Refuse settings that don't exist, that the sweep sets itself, or that two places vary."""
    mixed = {*RATIOS} if MIXTURES in asked.grid else set()
    places = {f"{file}: settings": asked.settings, f"{file}: grid": asked.grid, "command line": given}
    for place, names in places.items():
        for name in names:
            _check_name(place, name, of_grid=names is asked.grid)
    if both := sorted(mixed & {*asked.grid}):
        raise ConfigError(f"{file}: grid: {MIXTURES} sets the four ratios together: take {both[0]} out")
    if both := sorted((mixed | {*asked.grid}) & {*given}):
        raise ConfigError(f"command line: {both[0]} is varied in {file}: leave it out here, or there")


def _check_name(place: str, name: str, *, of_grid: bool) -> None:
    known = [*TrainingConfig.model_fields, *([MIXTURES] if of_grid else [])]
    if name not in known:
        near = get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]}?" if near else "trainer/config.py has them all"
        raise ConfigError(f"{place}: {name} is no setting of a run: {hint}")
    if of_grid and name == "output_dir":
        raise ConfigError(f"{place}: output_dir is one for the whole sweep: write it under settings")
    if name in SET_BY_THE_SWEEP:
        raise ConfigError(f"{place}: {name} can't be set, {SET_BY_THE_SWEEP[name]}: take it out")


def _combinations(file: Path, asked: SweepFile) -> Iterator[dict[str, Any]]:
    """Name → value of the grid, the values of `mixtures` being mappings."""
    for number, mixture in enumerate(asked.grid.get(MIXTURES, []), 1):
        if not isinstance(mixture, dict) or {*mixture} != {*RATIOS}:
            raise ConfigError(f"{file}: grid: {MIXTURES} {number}: write all of {', '.join(RATIOS)}")
    for values in product(*asked.grid.values()):
        yield dict(zip(asked.grid, values, strict=True))


def _resolve(file: Path, common: Row, combination: Row, given: dict[str, object]) -> Point:
    mixture = combination.get(MIXTURES, {})
    single = {name: value for name, value in combination.items() if name != MIXTURES}
    try:
        config = TrainingConfig.model_validate(common | single | mixture | given)
    except ValidationError as error:
        entry = ", ".join(f"{name}={value}" for name, value in combination.items())
        complaints = (
            f"{'command line' if e['loc'] and e['loc'][0] in given else f'{file}: grid: {entry}'}: "
            f"{''.join(f'{part}: ' for part in e['loc'])}{e['msg']}"
            for e in error.errors()
        )
        raise ConfigError("; ".join(complaints)) from None
    settings = config.model_dump(mode="json")  # as resolved: YAML reads 5e-5 as text
    settings[MIXTURES] = "/".join(f"{settings[ratio]:g}" for ratio in RATIOS)
    return Point({name: settings[name] for name in combination}, config)


def _refuse_twins(file: Path, points: list[Point]) -> None:
    first: dict[str, Point] = {}
    for point in points:
        if (twin := first.setdefault(point.key, point)) is not point:
            raise ConfigError(f"{file}: grid: {twin} and {point} are the same run: take one out")


# Running it


def run_sweep(sweep: Sweep, command: tuple[str, ...] = TRAIN) -> int:
    """Train every point that has no complete run yet; returns 1 when one failed, else 0."""
    with _held(sweep.folder) as lock:
        state = State(sweep.folder / STATE)
        done = sum(_complete_run(sweep, point, state) is not None for point in sweep.points)
        log.info("sweep %s: %d runs, %d of them complete", sweep.folder.name, len(sweep.points), done)
        for number, point in enumerate(sweep.points, 1):
            if _complete_run(sweep, point, state) is None:
                log.info("run %d of %d: %s", number, len(sweep.points), point)
                _train(sweep, point, state, number, command, lock)
                report(sweep, state)
        rows = report(sweep, state)
    log.info("\n%s\n%s", table(rows), sweep.folder)
    return int(any(row["status"] == "failed" for row in rows))


@contextmanager
def _held(folder: Path) -> Iterator[int]:
    """Hold the sweep. Its runs inherit the lock: one that outlives a killed sweep is waited for."""
    try:
        (folder / "points").mkdir(parents=True, exist_ok=True)
        file = (folder / "lock").open("w")
    except OSError as error:
        raise ConfigError(f"output_dir: can't write to {folder} ({error.strerror})") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("sweep %s: a run of it is being trained by another process: waiting for it", folder.name)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


class State:
    """What became of each point: when it was begun, then its run or the words of its failure."""

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

    def of(self, point: Point) -> dict[str, str]:
        return self._records.get(point.key, {})

    def record(self, point: Point, **words: str) -> None:
        """Remember, on the disk and not only in its cache."""
        self._records[point.key] = {"point": str(point), **words}
        _write(self.path, json.dumps(self._records, indent=2) + "\n")


def _write(path: Path, text: str) -> None:
    """Replace a file by a whole one that outlives a power cut."""
    partial = path.with_name(path.name + ".part")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def _complete_run(sweep: Sweep, point: Point, state: State) -> Path | None:
    """The point's complete run, also one that was completed after its sweep was killed."""
    runs = _runs_of(sweep, point, state)
    return next((run for run in runs if not run.suffix and (run / MANIFEST_NAME).exists()), None)


def _runs_of(sweep: Sweep, point: Point, state: State) -> list[Path]:
    """Folders of runs, newest first, that this sweep began with exactly the point's settings."""
    since = state.of(point).get("began", "~")  # behind every run's name, which is a time
    runs = sorted(sweep.runs.glob("*"), reverse=True)
    return [run for run in runs if run.name >= since and _is_of(run, point)]


def _is_of(run: Path, point: Point) -> bool:
    try:
        return load_config(run / run_folder.CONFIG_NAME, []) == point.config
    except ConfigError:  # another trainer's run, or one killed before it had a config
        return False


def _train(
    sweep: Sweep, point: Point, state: State, number: int, command: tuple[str, ...], lock: int
) -> None:
    _remove_unfinished(sweep, point, state)
    began = f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
    state.record(point, began=began)
    config = sweep.folder / "points" / f"{number}.yaml"
    _write(config, yaml.safe_dump(point.config.model_dump(mode="json"), sort_keys=False))
    errors = config.with_suffix(".stderr")
    code = _in_its_own_process([*command, "--config", str(config)], errors, lock)
    if run := _complete_run(sweep, point, state):
        state.record(point, began=began, run=run.name)
    else:
        state.record(point, began=began, failed=_last_words(errors, code))
        log.error("run %d of %d failed: %s", number, len(sweep.points), point)


def _remove_unfinished(sweep: Sweep, point: Point, state: State) -> None:
    for folder in _runs_of(sweep, point, state):
        if folder.suffix == run_folder.PART:
            log.info("%s was not finished: it is removed, and the run trained anew", folder)
            with run_folder.held(folder):
                shutil.rmtree(folder)


def _in_its_own_process(command: list[str], errors: Path, lock: int) -> int:
    """Run to the end; an interrupt is passed on once, to the run and all its processes, and waited for.

    What it says on stderr goes through a file: a pipe would break under a run that outlives its sweep.
    """
    with errors.open("wb") as file:
        process = subprocess.Popen(command, stderr=file, pass_fds=[lock], process_group=0)
    try:
        _show_until_it_ends(process, errors)
    except KeyboardInterrupt:
        os.killpg(process.pid, signal.SIGINT)
        process.wait()
        raise
    return process.returncode


def _show_until_it_ends(process: subprocess.Popen[bytes], errors: Path) -> None:
    with errors.open("rb") as said:
        ended = False
        while not ended:
            ended = process.poll() is not None
            sys.stderr.buffer.write(said.read())
            sys.stderr.flush()
            time.sleep(0 if ended else 0.1)


def _last_words(errors: Path, code: int) -> str:
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    lines = errors.read_text(encoding="utf-8", errors="replace").split("\n")
    words = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return words.rpartition("\r")[2][:300] or f"ended with code {code}, without a word and a complete run"


# What came of it


def report(sweep: Sweep, state: State) -> list[Row]:
    """Write table.json, table.txt and plot.png, and return the table's rows, one a point."""
    rows = [_row(sweep, point, state) for point in sweep.points]
    _write(sweep.folder / TABLE_JSON, json.dumps(rows, indent=2, ensure_ascii=False) + "\n")
    _write(sweep.folder / TABLE, table(rows) + "\n")
    plot(rows, sweep.folder / PLOT)
    return rows


def _row(sweep: Sweep, point: Point, state: State) -> Row:
    run = _complete_run(sweep, point, state)
    if run:
        return {"settings": point.varied, "status": "complete", **_numbers(run)}
    if failure := state.of(point).get("failed"):
        return {"settings": point.varied, "status": "failed", "failure": failure}
    return {"settings": point.varied, "status": "not trained yet"}


def _numbers(run: Path) -> Row:
    """What a complete run measured; held-out losses (nats a token) before and after, whole and by source."""
    manifest = read_manifest(run)
    parts: list[Row] = list(manifest.dataset.values())
    return {
        "run": manifest.run_id,
        "samples": sum(part["used"] - part["held_out"] for part in parts),
        "tokens": manifest.tokens,
        "steps": manifest.steps,
        "held_out": {ALL_SOURCES: [manifest.loss_before, manifest.loss_after], **manifest.loss_by_source},
        "tokens_per_s": round(usual_speed(read_lines(run / METRICS)), 1),
        "peak_memory_gib": manifest.peak_memory_gib,
        "minutes": round(sum(manifest.timings_s.values()) / 60, 2),
    }


def table(rows: list[Row]) -> str:
    """The rows as text; one that has no run says why in the place of the run's name."""
    sources = list(dict.fromkeys(source for row in rows for source in row.get("held_out", {})))
    head = [*rows[0]["settings"], "samples", "tokens", "steps", *(f"loss: {source}" for source in sources)]
    head += ["tokens/s", "peak GiB", "minutes"]
    lines = [[*head, "run"], *(_cells(row, sources, len(head)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*(line[:-1] for line in lines), strict=True)]
    aligned = [[cell.rjust(width) for cell, width in zip(line, widths, strict=False)] for line in lines]
    text = ["  ".join([*cells, line[-1]]) for cells, line in zip(aligned, lines, strict=True)]
    return "\n".join([*text, *_caution(rows)])


def _cells(row: Row, sources: list[str], columns: int) -> list[str]:
    settings = [str(value) for value in row["settings"].values()]
    if row["status"] != "complete":
        words = ": ".join(filter(None, (row["status"], row.get("failure"))))
        return [*settings, *[""] * (columns - len(settings)), words]
    losses = [_before_and_after(row["held_out"].get(source)) for source in sources]
    counts = [f"{row[name]:,}" for name in ("samples", "tokens", "steps")]
    costs = [f"{row['tokens_per_s']:,.0f}", f"{row['peak_memory_gib']:.1f}", f"{row['minutes']:.1f}"]
    return [*settings, *counts, *losses, *costs, row["run"]]


def _before_and_after(losses: list[float] | None) -> str:
    return f"{losses[0]:.3f} → {losses[1]:.3f}" if losses else "-"


def _caution(rows: list[Row]) -> list[str]:
    """The same base on the same held-out samples has the same loss before training; else, say so."""
    before = [row["held_out"][ALL_SOURCES][0] for row in rows if "held_out" in row]
    if not before or max(before) - min(before) < 0.01 * max(before):
        return []
    return [
        "The losses before training differ, so not all runs were measured on the same held-out samples: "
        "compare what each gained, source by source."
    ]


def plot(rows: list[Row], path: Path) -> None:
    """Draw held-out loss after training against each varied number, a line a combination of the others."""
    import matplotlib.pyplot as plt  # takes a second, which a mistake in the grid should not wait for

    plt.switch_backend("Agg")
    names = _panels(rows)
    size = (0.8 + 5.2 * len(names), 5.2)
    figure, (panels,) = plt.subplots(
        1, len(names), figsize=size, dpi=120, sharey=True, squeeze=False, layout="constrained"
    )
    for axes, name in zip(panels, names, strict=True):
        _panel(axes, name, rows)
    panels[0].set_ylabel("held-out loss after training (nats a token)")
    figure.suptitle(f"sweep {path.parent.name}")
    partial = path.with_name(path.name + ".part")
    figure.savefig(partial, format="png")
    partial.replace(path)
    plt.close(figure)


def _panels(rows: list[Row]) -> list[str]:
    """The settings that are varied and numbers; where there are none, the first one."""
    numbers = [name for name in rows[0]["settings"] if all(map(_is_number, _values(rows, name)))]
    return [name for name in numbers if len(_values(rows, name)) > 1] or [*rows[0]["settings"]][:1]


def _panel(axes: "Axes", name: str, rows: list[Row]) -> None:
    from matplotlib import colormaps

    values = _values(rows, name)
    on_a_scale = all(map(_is_number, values))
    places = values if on_a_scale else list(range(len(values)))
    others = [other for other in rows[0]["settings"] if other != name and len(_values(rows, other)) > 1]
    lines = list(dict.fromkeys(_label(row, others) for row in rows))
    for number, label in enumerate(lines):
        colour = colormaps["viridis"](0.85 * number / max(1, len(lines) - 1))
        line = [row for row in rows if "held_out" in row and _label(row, others) == label]
        for source, style in ((ALL_SOURCES, "o-"), (OWN_WORDS, "s--")):
            points = [
                (places[values.index(row["settings"][name])], row["held_out"][source][1])
                for row in line
                if source in row["held_out"]
            ]
            axes.plot(*zip(*sorted(points), strict=True) if points else ([], []), style, color=colour)
        axes.plot([], [], color=colour, linewidth=4, label=label)
    axes.plot([], [], "o-", color="gray", label="all held-out samples")
    axes.plot([], [], "s--", color="gray", label="Ada's own conversations")
    if on_a_scale and min(values) > 0:
        axes.set_xscale("log", base=2)
    axes.set_xticks(places, [f"{value:g}" if on_a_scale else str(value) for value in values], minor=False)
    axes.minorticks_off()
    axes.set_xlabel(name)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), fontsize="small", ncols=2, frameon=False)


def _values(rows: list[Row], name: str) -> list[Any]:
    """What a setting is in the sweep: each value once."""
    values: list[Any] = []
    for row in rows:
        if row["settings"][name] not in values:
            values.append(row["settings"][name])
    return sorted(values) if all(map(_is_number, values)) else values


def _label(row: Row, others: list[str]) -> str:
    return ", ".join(f"{other}={row['settings'][other]}" for other in others) or "held-out loss"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


if __name__ == "__main__":
    sys.exit(main())
