"""A run's folder: filled under a provisional name, renamed when complete, then published by one link."""

import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from services.errors import ConfigError
from services.persona.manifest import ADAPTER_CONFIG_NAME, MANIFEST_NAME

# What TRL leaves beside the adapter and nobody reads.
_LEFTOVERS = ("checkpoints", "training_args.bin", "tokenizer.json", "tokenizer_config.json")


def new_run_id() -> str:
    """A name that sorts by time and never repeats, such as 20261122-114502-9f3a."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


@contextmanager
def provisional(output_dir: Path, run_id: str) -> Iterator[Path]:
    """The folder to fill, `runs/<run-id>.part`; it is removed again when the run fails."""
    folder = output_dir.parent / "runs" / f"{run_id}.part"
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise ConfigError(f"output_dir {output_dir}: can't write there ({error.strerror})") from None
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def check_link(output_dir: Path) -> None:
    """Refuse a place where the link to the published run can't stand, before hours are spent."""
    if output_dir.exists() and not output_dir.is_symlink():
        raise ConfigError(f"output_dir {output_dir} is not a link to a run: move it away, or set output_dir")


def check_disk(output_dir: Path, needed: int) -> None:
    """Refuse a run that has no room for what it will leave; `needed` in bytes."""
    place = next(p for p in (output_dir, *output_dir.absolute().parents) if p.exists())
    free = shutil.disk_usage(place).free
    if free < needed:
        raise ConfigError(
            f"output_dir {output_dir} has {free / 2**30:.1f} GiB free and this run needs "
            f"{needed / 2**30:.1f}: free some disk, or set output_dir"
        )


def complete(folder: Path, base_model: str) -> None:
    """Tidy what the trainer saved; the adapter names its base as the manifest does."""
    for name in _LEFTOVERS:
        leftover = folder / name
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink(missing_ok=True)
    path = folder / ADAPTER_CONFIG_NAME
    adapter = json.loads(path.read_text(encoding="utf-8"))
    adapter["base_model_name_or_path"] = base_model
    path.write_text(json.dumps(adapter, indent=2) + "\n", encoding="utf-8")
    # PEFT saves the weights readable by their owner alone; the server runs as somebody else.
    folder.chmod(0o755)
    for file in folder.iterdir():
        file.chmod(0o644)


def publish(folder: Path, output_dir: Path) -> Path:
    """Give a complete run its name and switch `output_dir`, a link, to it in one step."""
    if not (folder / MANIFEST_NAME).is_file():
        raise ConfigError(f"{folder} has no {MANIFEST_NAME}: the run is not complete")
    final = folder.with_suffix("")
    folder.rename(final)
    check_link(output_dir)  # by now somebody may have put something else there; the run is kept
    link = output_dir.parent / f".{output_dir.name}.{time.monotonic_ns()}"
    link.symlink_to(Path("runs") / final.name)
    os.replace(link, output_dir)
    return final


def plot_loss(folder: Path) -> None:
    """Draw metrics.jsonl as loss.png: training loss by step, held-out loss as dots."""
    import matplotlib.pyplot as plt  # takes a second, which no other caller should wait for

    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    plt.switch_backend("Agg")
    figure, axes = plt.subplots(figsize=(8, 4.5), dpi=120)
    for key, style, label in (("loss", "-", "training"), ("eval_loss", "o", "held out")):
        points = [(line["step"], line[key]) for line in lines if key in line]
        axes.plot(*zip(*points, strict=True), style, label=label)
    axes.set(xlabel="step", ylabel="loss (nats a token)", title=folder.name.removesuffix(".part"))
    axes.legend()
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(folder / "loss.png")
    plt.close(figure)
