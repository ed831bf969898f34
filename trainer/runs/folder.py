"""A run's folder: created under a provisional name, renamed when complete, resumed if the run was killed."""

import json
import math
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from services.errors import ConfigError
from services.files import PART, atomic_file, lock_file
from services.persona.manifest import ADAPTER_CONFIG_NAME, MANIFEST_NAME, WEIGHTS_NAME, file_sha256
from trainer.runs import checkpoints
from trainer.runs.checkpoints import CHECKPOINTS

RUNS = "runs"
CONFIG_NAME = "config.yaml"
MIXTURE_STATS = "mixture.json"
PREPARED = "prepared"  # written when everything that training needs is in the folder
TRAIN_ROWS = "rows/taught"
EVAL_ROWS = "rows/held_out"
BEST, LAST = "best", "last"  # subfolders; the adapter that is not served is in one of them
BEST_LOSS = "held_out.json"
OUTCOME = "outcome.json"  # written when training has ended and only the finishing steps remain
FAILURE = "failure"  # the error message of a failed process, when a run has several
# Files that training needs or TRL leaves, and that are not read afterwards.
_LEFTOVERS = (
    *(CHECKPOINTS, "rows"),
    *("training_args.bin", "tokenizer.json", "tokenizer_config.json"),
)
_MARKS = (PREPARED, OUTCOME, FAILURE, "lock")
_ADAPTER = (WEIGHTS_NAME, ADAPTER_CONFIG_NAME)


def new_run_id() -> str:
    """Return a unique name that sorts by time, such as 20261122-114502-9f3a."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def begin(output_dir: Path, run_id: str) -> Path:
    """Create a run's folder, `runs/<run-id>.part`. Raises ConfigError when it can't be created."""
    folder = output_dir.parent / RUNS / f"{run_id}{PART}"
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise ConfigError(f"output_dir {output_dir}: can't write there ({error.strerror})") from None
    return folder


@contextmanager
def locked(folder: Path) -> Iterator[Path]:
    """Lock a folder for this process; on failure, delete it unless it holds a checkpoint or an outcome."""
    try:
        lock = lock_file(folder / "lock")
    except BlockingIOError:
        raise ConfigError(f"{folder} is being trained by another process: wait for it, or end it") from None
    try:
        yield folder
    except BaseException:
        if last_checkpoint(folder) is None and not (folder / OUTCOME).exists():
            shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        lock.release()


def unfinished(output_dir: Path) -> Path:
    """Return the newest run that was prepared and not finished. Raises ConfigError when there is none."""
    runs = output_dir.parent / RUNS
    parts = sorted(part for part in runs.glob(f"*{PART}") if (part / PREPARED).exists())
    if not parts:
        raise ConfigError(f"{runs} holds no run that could be resumed: start one with `make train`")
    return parts[-1]


def last_checkpoint(folder: Path) -> Path | None:
    """Return the newest intact checkpoint of a run's folder."""
    return checkpoints.newest_whole(folder)[0]


def check_disk(output_dir: Path, needed: int) -> None:
    """Raise ConfigError when fewer than `needed` bytes are free for the run's output."""
    existing = next(p for p in (output_dir, *output_dir.absolute().parents) if p.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise ConfigError(
            f"output_dir {output_dir} has {free / 2**30:.1f} GiB free and this run needs "
            f"{needed / 2**30:.1f}: free some disk, or set output_dir"
        )


def best_loss(adapter: Path) -> float:
    """Return the held-out loss of a saved best adapter, or infinity when there is none."""
    try:
        return float(json.loads((adapter / BEST_LOSS).read_text())["loss"])
    except (OSError, ValueError):
        return math.inf


def write_best(adapter: Path, step: int, loss: float) -> None:
    """Record the step, held-out loss and SHA-256 of a saved best adapter in its folder."""
    record = {"step": step, "loss": loss, "sha256": file_sha256(adapter / WEIGHTS_NAME)}
    (adapter / BEST_LOSS).write_text(json.dumps(record), encoding="utf-8")


def best_step(adapter: Path) -> int | None:
    """Return the step of a saved best adapter, or None when there is none or it is damaged."""
    try:
        record = json.loads((adapter / BEST_LOSS).read_text(encoding="utf-8"))
        is_intact = record.get("sha256") in (None, file_sha256(adapter / WEIGHTS_NAME))
        return int(record["step"]) if is_intact else None
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None


def choose_adapter(folder: Path, keep: str, last_loss: float) -> None:
    """Put the adapter to serve at the folder's top, and the other one, if any, in a subfolder.

    A best adapter with damaged weights is ignored.
    """
    best = folder / BEST
    if best_step(best) is None or best_loss(best) >= last_loss:  # the last one is the best
        shutil.rmtree(best, ignore_errors=True)
        return
    for name in set(os.listdir(best)) - {*_ADAPTER, BEST_LOSS}:
        leftover = best / name
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    if keep == "best":
        _swap(folder, best, folder / LAST)


def _swap(folder: Path, best: Path, last: Path) -> None:
    """Move the last adapter into `last`, the best to the top; after a kill, a second call completes it."""
    if not last.exists():
        partial = folder / f"{LAST}{PART}"
        partial.mkdir(exist_ok=True)
        for name in _ADAPTER:
            shutil.copyfile(folder / name, partial / name)
        partial.rename(last)
    for name in _ADAPTER:
        with (best / name).open("rb") as source, atomic_file(folder / name) as target:
            shutil.copyfileobj(source, target)
    shutil.rmtree(best)


def complete(folder: Path, base_model: str) -> None:
    """Delete what only training needs, and name the base model in adapter configs as the manifest does."""
    for leftover in [*(folder / name for name in _LEFTOVERS), *folder.glob(f"*{PART}")]:
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink(missing_ok=True)
    for path in folder.rglob(ADAPTER_CONFIG_NAME):
        adapter = json.loads(path.read_text(encoding="utf-8"))
        adapter["base_model_name_or_path"] = base_model
        path.write_text(json.dumps(adapter, indent=2) + "\n", encoding="utf-8")
    open_to_all(folder)


def open_to_all(folder: Path) -> None:
    """Make all files readable by other users, such as the server's; PEFT or a umask may prevent that."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def name_run(folder: Path) -> Path:
    """Give a complete run its final name. Raises ConfigError when it has no manifest."""
    if not (folder / MANIFEST_NAME).is_file():
        raise ConfigError(f"{folder} has no {MANIFEST_NAME}: the run is not complete")
    final = folder.with_suffix("")
    folder.rename(final)
    for mark in _MARKS:
        (final / mark).unlink(missing_ok=True)
    return final
