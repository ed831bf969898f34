"""Runs over a grid of settings: at what rank does identity become stable, and is it duration or volume?

python -m trainer.sweep --config trainer/configs/sweep.yaml [name=value ...]

Every combination is an ordinary run in a process of its own, which gives all its memory back; none is
published. A sweep that is started again goes on: complete runs stay, one that failed or was not finished
is trained anew from its first step. Table and plot lie in `sweeps/<name>/` beside `runs/`.
"""

import argparse
import signal
import sys
from pathlib import Path

from services.errors import AdaError
from trainer.log import log, setup_console
from trainer.sweep.grid import load_sweep
from trainer.sweep.report import Draw, plot
from trainer.sweep.runs import TRAIN, run_sweep


def main() -> int:
    """Entry point; exit code 2 for a mistake of the user's, 1 when a run failed."""
    parser = argparse.ArgumentParser(prog="python -m trainer.sweep", description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, required=True, help="see trainer/configs/sweep.yaml")
    parser.add_argument("overrides", nargs="*", metavar="name=value", help="for every run, such as seed=1")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # or a run would outlive its sweep
    setup_console()
    return sweep(arguments.config, arguments.overrides)


def sweep(file: Path, overrides: list[str], command: tuple[str, ...] = TRAIN, draw: Draw = plot) -> int:
    """Run the sweep of a file; returns the exit code. `command` and `draw` are as in `run_sweep`."""
    try:
        plan = load_sweep(file, overrides)
        return run_sweep(plan, command, draw)
    except AdaError as error:
        log.error("sweep: %s", error)
        return 2
    except KeyboardInterrupt:
        log.error("sweep: interrupted; runs that are complete stay, the same command goes on")
        return 130


if __name__ == "__main__":
    sys.exit(main())
