"""Publish a run, or roll back to the one published before it.

python -m trainer.publish RUN | --rollback     [--output-dir outputs/ada_model]
"""

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Literal

from services.errors import AdaError, ConfigError
from services.persona.manifest import Manifest, check_adapter, read_manifest
from trainer.log import log
from trainer.runs.folder import RUNS

DEFAULT_OUTPUT_DIR = Path("outputs/ada_model")


def main() -> int:
    """Run the command. A user's mistake is reported in one line on stderr, with exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m trainer.publish", description=__doc__.splitlines()[0])
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("run", nargs="?", help="a run's id, or its folder")
    which.add_argument("--rollback", action="store_true", help="publish the previous run again")
    parser.add_argument("--output-dir", type=Path, default=DEFAULT_OUTPUT_DIR)
    arguments = parser.parse_args()
    before = describe_served(arguments.output_dir)
    try:
        if arguments.rollback:
            run = rollback(arguments.output_dir)
        else:
            run = find_run(arguments.output_dir, arguments.run)
            publish(run, arguments.output_dir)
    except AdaError as error:
        print(f"publish: {error}", file=sys.stderr)
        return 2
    print(f"{arguments.output_dir} is now {run.name}; running servers keep their adapter until a restart")
    print(f"served before: {before}; now: {describe_served(arguments.output_dir)}")
    return 0


def find_run(output_dir: Path, name: str) -> Path:
    """Return a run's folder by its id or path. Raises ConfigError, listing all runs, when there is none."""
    runs = output_dir.parent / RUNS
    run = Path(name) if "/" in name else runs / name
    if not name or not run.is_dir() or run.suffix or run.resolve().parent != runs.resolve():
        run_ids = sorted(path.name for path in runs.glob("*") if path.is_dir() and not path.suffix)
        raise ConfigError(f"no run {name!r} in {runs}; there are: {', '.join(run_ids) or 'none'}")
    return runs / run.resolve().name


def check_link(output_dir: Path) -> None:
    """Raise ConfigError when `output_dir` exists and is not a link, before hours are spent."""
    if output_dir.exists() and not output_dir.is_symlink():
        raise ConfigError(f"output_dir {output_dir} is not a link to a run: move it away, or set output_dir")


def publish(run: Path, output_dir: Path) -> None:
    """Point the link `output_dir` at a complete run, atomically, and add the run to the history.

    Raises ConfigError when the run is damaged or `output_dir` is not a link; then the link is unchanged.
    """
    check_adapter(run)
    check_link(output_dir)  # it may have changed during training
    link = output_dir.parent / f".{output_dir.name}.{time.monotonic_ns()}"
    try:
        link.symlink_to(Path(RUNS) / run.name)
        os.replace(link, output_dir)
        with _history(output_dir).open("a", encoding="utf-8") as file:
            file.write(run.name + "\n")
    except OSError as error:
        raise ConfigError(f"output_dir {output_dir}: can't write there ({error.strerror})") from None


def publish_if_fit(run: Path, output_dir: Path, wanted: bool | Literal["auto"]) -> None:
    """Publish a complete run unless `wanted` is false, and log what was served before and is served after.

    With `auto`, a run that is worse than its base or of another persona than the served one is not published.
    """
    before = describe_served(output_dir)
    reason = "publish=false" if not wanted else unfit(run, output_dir) if wanted == "auto" else ""
    if reason:
        command = f"make publish RUN={run.name}"
        if output_dir != DEFAULT_OUTPUT_DIR:
            command = f"python -m trainer.publish {run.name} --output-dir {output_dir}"
        log.warning(
            "%s is not published (%s); %s serves %s, `%s` would change that",
            *(run.name, reason, output_dir, before, command),
        )
        return
    publish(run, output_dir)
    log.info("%s served %s; now it serves %s", output_dir, before, describe_served(output_dir))


def unfit(run: Path, output_dir: Path) -> str:
    """Why a run should not be published automatically; empty if there is no reason."""
    manifest, served = read_manifest(run), _served_manifest(output_dir)
    if manifest.is_worse_than_base:
        rose = f"{manifest.loss_before:.3f} to {manifest.loss_after:.3f}"
        return f"it is worse than its base: held-out loss rose from {rose}"
    if served and served.assistant_name != manifest.assistant_name:
        return f"it is of {manifest.assistant_name}, but {served.assistant_name} is served"
    return ""


def describe_served(output_dir: Path) -> str:
    """Describe the served run in a few words."""
    served = _served_manifest(output_dir)
    if not served:
        return "nothing" if not output_dir.is_symlink() else f"a damaged run ({os.readlink(output_dir)})"
    step = "" if served.served_step is None else f", step {served.served_step} of {served.steps}"
    losses = f"held-out loss {served.loss_before:.3f} → {served.loss_after:.3f}"
    return f"{served.run_id} ({served.assistant_name}, {losses}{step})"


def _served_manifest(output_dir: Path) -> Manifest | None:
    try:
        return read_manifest(output_dir)
    except ConfigError:  # there is none yet, or it is damaged
        return None


def rollback(output_dir: Path) -> Path:
    """Publish the run that was published before the current one, and return its folder.

    Raises ConfigError when there was none, or when it was deleted or is damaged.
    """
    published = _published_runs(output_dir)
    current = Path(os.readlink(output_dir)).name if output_dir.is_symlink() else ""
    while published and published[-1] == current:
        published.pop()
    if not published:
        raise ConfigError(f"no run was published before the current one of {output_dir}")
    run = find_run(output_dir, published[-1])
    publish(run, output_dir)
    # `publish` has added a line: drop it, so that the next rollback goes further back.
    _history(output_dir).write_text("".join(f"{name}\n" for name in published), encoding="utf-8")
    return run


def _history(output_dir: Path) -> Path:
    """The file that lists published runs, one per line, oldest first."""
    return output_dir.parent / f"{output_dir.name}.history"


def _published_runs(output_dir: Path) -> list[str]:
    try:
        return _history(output_dir).read_text(encoding="utf-8").split()
    except FileNotFoundError:
        return []


if __name__ == "__main__":
    sys.exit(main())
