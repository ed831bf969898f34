"""Trains each point of a sweep as an ordinary run in a process of its own."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import yaml

from services.errors import ConfigError
from services.files import PART, lock_descriptor, write_atomic
from trainer.log import log
from trainer.runs import folder as run_folder
from trainer.sweep.grid import Point, Sweep
from trainer.sweep.report import Draw, plot, report, table
from trainer.sweep.state import State, complete_run, runs_of

STATE = "state.json"
TRAIN = (sys.executable, "-m", "trainer")


def run_sweep(sweep: Sweep, command: tuple[str, ...] = TRAIN, draw: Draw = plot) -> int:
    """Train every point without a complete run; returns 1 when one failed, else 0.

    `command` trains by one `--config`, `draw` makes the plot.
    """
    with _locked(sweep.folder) as lock:
        state = State(sweep.folder / STATE)
        done = sum(complete_run(sweep, point, state) is not None for point in sweep.points)
        log.info("sweep %s: %d runs, %d of them complete", sweep.folder.name, len(sweep.points), done)
        for number, point in enumerate(sweep.points, 1):
            if complete_run(sweep, point, state) is None:
                log.info("run %d of %d: %s", number, len(sweep.points), point)
                _train(sweep, point, state, number, command, lock)
                report(sweep, state, draw)
        rows = report(sweep, state, draw)
    log.info("\n%s\n%s", table(rows), sweep.folder)
    return int(any(row["status"] == "failed" for row in rows))


@contextmanager
def _locked(folder: Path) -> Iterator[int]:
    """Lock the sweep. Its runs inherit the lock, so that a run that outlives a killed sweep is waited for."""
    try:
        (folder / "points").mkdir(parents=True, exist_ok=True)
        file = (folder / "lock").open("w")
    except OSError as error:
        raise ConfigError(f"output_dir: can't write to {folder} ({error.strerror})") from None
    with file:
        try:
            lock_descriptor(file.fileno())
        except BlockingIOError:
            log.info("sweep %s: a run of it is being trained by another process: waiting for it", folder.name)
            lock_descriptor(file.fileno(), wait=True)
        yield file.fileno()


def _train(
    sweep: Sweep, point: Point, state: State, number: int, command: tuple[str, ...], lock: int
) -> None:
    _remove_unfinished(sweep, point, state)
    began = f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
    state.record(point, began=began)
    config = sweep.folder / "points" / f"{number}.yaml"
    write_atomic(config, yaml.safe_dump(point.config.model_dump(mode="json"), sort_keys=False))
    errors = config.with_suffix(".stderr")
    code = _in_its_own_process([*command, "--config", str(config)], errors, lock)
    if run := complete_run(sweep, point, state):
        state.record(point, began=began, run=run.name)
    else:
        state.record(point, began=began, failed=_last_words(errors, code))
        log.error("run %d of %d failed: %s", number, len(sweep.points), point)


def _remove_unfinished(sweep: Sweep, point: Point, state: State) -> None:
    for folder in runs_of(sweep, point, state):
        if folder.suffix == PART:
            log.info("%s was not finished: it is removed, and the run trained anew", folder)
            with run_folder.locked(folder):
                shutil.rmtree(folder)


def _in_its_own_process(command: list[str], errors: Path, lock: int) -> int:
    """Run a command to its end; an interrupt is passed on once, to all its processes, and waited for.

    Its stderr goes through a file: a pipe would break under a run that outlives its sweep.
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
    with errors.open("rb") as output:
        ended = False
        while not ended:
            ended = process.poll() is not None
            sys.stderr.buffer.write(output.read())
            sys.stderr.flush()
            time.sleep(0 if ended else 0.1)


def _last_words(errors: Path, code: int) -> str:
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    lines = errors.read_text(encoding="utf-8", errors="replace").split("\n")
    words = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return words.rpartition("\r")[2][:300] or f"ended with code {code}, without a word and a complete run"
