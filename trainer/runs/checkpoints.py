"""Checkpoints that a run can be resumed from: sealed when complete, and verified against their seal.

A seal is a file with the sizes and SHA-256 of all other files of a checkpoint, and is written last. Damage
by a kill or a power cut to weights, optimizer, scheduler or random state is found before they are loaded, and
the newest intact checkpoint is used instead. Checkpoints of earlier releases have no seal: their files are
checked by their own formats, which finds truncation but not every flipped bit.
"""

import json
import zipfile
from pathlib import Path

from safetensors import SafetensorError, safe_open

from services.files import DAMAGED_ZIP, write_atomic
from services.persona.manifest import ADAPTER_CONFIG_NAME, WEIGHTS_NAME, file_sha256

CHECKPOINTS = "checkpoints"
SEAL = "seal.json"
STATE = "trainer_state.json"
DAMAGED = "damaged-"
_NEEDED = (WEIGHTS_NAME, ADAPTER_CONFIG_NAME, "optimizer.pt", "scheduler.pt")


def seal(checkpoint: Path) -> None:
    """Write the size and the SHA-256 of every file of a checkpoint into its seal, atomically."""
    files = {str(path.relative_to(checkpoint)): _measure(path) for path in _files(checkpoint)}
    write_atomic(checkpoint / SEAL, json.dumps(files, indent=2))


def newest_whole(folder: Path) -> tuple[Path | None, dict[Path, str]]:
    """Return a run's newest intact checkpoint, and all later ones with what is wrong with each."""
    flaws: dict[Path, str] = {}
    for checkpoint in sorted((folder / CHECKPOINTS).glob("checkpoint-*"), key=step_of, reverse=True):
        if not (flaw := flaw_of(checkpoint)):
            return checkpoint, flaws
        flaws[checkpoint] = flaw
    return None, flaws


def set_aside(checkpoint: Path) -> None:
    """Rename a damaged checkpoint, so that a later one can have its name."""
    aside = checkpoint.with_name(f"{DAMAGED}{checkpoint.name}")
    number = 1
    while aside.exists():
        number += 1
        aside = checkpoint.with_name(f"{DAMAGED}{number}-{checkpoint.name}")
    checkpoint.rename(aside)


def step_of(checkpoint: Path) -> int:
    """The optimiser step at which a checkpoint was written."""
    return int(checkpoint.name.rpartition("-")[2])


def flaw_of(checkpoint: Path) -> str:
    """Describe what is wrong with a checkpoint; empty if it is intact."""
    try:
        json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return f"{STATE} is missing or damaged"
    if (checkpoint / SEAL).exists():
        return _broken_seal(checkpoint)
    return next(filter(None, (_damage(checkpoint / name) for name in _files_to_check(checkpoint))), "")


def _broken_seal(checkpoint: Path) -> str:
    try:
        sealed = dict(json.loads((checkpoint / SEAL).read_text(encoding="utf-8")).items())
        # Sizes first: truncation is found without reading gigabytes.
        for field, measure in (("bytes", _size), ("sha256", file_sha256)):
            for name, file in sealed.items():
                if not (checkpoint / name).is_file():
                    return f"{name} is missing"
                if measure(checkpoint / name) != file[field]:
                    return f"{name} is damaged"
    except (OSError, ValueError, AttributeError, TypeError, KeyError):
        return f"{SEAL} is damaged"
    return ""


def _measure(path: Path) -> dict[str, object]:
    return {"bytes": _size(path), "sha256": file_sha256(path)}


def _size(path: Path) -> int:
    return path.stat().st_size


def _files(checkpoint: Path) -> list[Path]:
    return sorted(path for path in checkpoint.rglob("*") if path.is_file() and not path.name.startswith(SEAL))


def _files_to_check(checkpoint: Path) -> list[str]:
    """The files to check in a checkpoint without a seal; a sharded one has folders instead of _NEEDED."""
    is_sharded = any(path.is_dir() for path in checkpoint.iterdir())
    needed = () if is_sharded else _NEEDED
    return sorted({*needed, *(str(path.relative_to(checkpoint)) for path in _files(checkpoint))})


def _damage(path: Path) -> str:
    """Check a file by its own format; PyTorch files are zip archives with a checksum of each member."""
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "np"):
                return ""
        if path.suffix in (".pt", ".pth"):
            with zipfile.ZipFile(path) as archive:
                return f"{path.name} is damaged" if archive.testzip() else ""
        if path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
        elif not path.is_file():
            return f"{path.name} is missing"
    except FileNotFoundError:
        return f"{path.name} is missing"
    except (SafetensorError, *DAMAGED_ZIP):
        return f"{path.name} is damaged"
    return ""
