"""Which checkpoint a run goes on from: the newest whole one, whatever is damaged in those behind it.

.venv/bin/python -m pytest tests/trainer/runs/test_checkpoints.py
"""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from trainer.runs.checkpoints import flaw_of, newest_whole, seal, set_aside

PARTS = ("adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "adapter_config.json")


def checkpoint(folder: Path, step: int, *, sealed: bool = True) -> Path:
    """A checkpoint as the trainer saves it, with PyTorch's files as the zip files that they are."""
    path = folder / "checkpoints" / f"checkpoint-{step}"
    path.mkdir(parents=True)
    save_file({"lora_A": np.full((64, 64), step, dtype=np.float32)}, path / "adapter_model.safetensors")
    (path / "adapter_config.json").write_text('{"r": 8}')
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        with zipfile.ZipFile(path / name, "w") as archive:
            archive.writestr("data", bytes(range(256)) * 20)
    (path / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    if sealed:
        seal(path)
    return path


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [truncate, flip, Path.unlink], ids=["cut", "flipped", "missing"])
@pytest.mark.parametrize("part", PARTS)
def test_whatever_is_damaged_in_the_newest_the_one_before_is_taken(tmp_path: Path, part: str, damage):
    """regressions/damaged_newest_checkpoint"""
    whole, newest = checkpoint(tmp_path, 5), checkpoint(tmp_path, 10)
    assert newest_whole(tmp_path) == (newest, {})
    damage(newest / part)
    chosen, flaws = newest_whole(tmp_path)
    assert chosen == whole
    assert list(flaws) == [newest]
    assert flaws[newest].startswith(part)


@pytest.mark.parametrize("part", PARTS)
def test_without_a_seal_what_is_cut_short_is_found_by_its_own_format(tmp_path: Path, part: str):
    old = checkpoint(tmp_path, 5, sealed=False)
    assert flaw_of(old) == ""
    truncate(old / part)
    assert flaw_of(old) == f"{part} is damaged"
    (old / part).unlink()
    assert flaw_of(old) == (f"{part} is missing" if part != "rng_state.pth" else "")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"optimizer.pt": 7}', b"\xff"])
def test_a_damaged_seal_is_a_damaged_checkpoint(tmp_path: Path, content: bytes):
    path = checkpoint(tmp_path, 5)
    (path / "seal.json").write_bytes(content)
    assert flaw_of(path) == "seal.json is damaged"


def test_several_damaged_ones_are_passed_over_and_of_damaged_ones_alone_none_is_taken(tmp_path: Path):
    paths = [checkpoint(tmp_path, step) for step in (5, 10, 15)]
    truncate(paths[1] / "optimizer.pt")
    truncate(paths[2] / "rng_state.pth")
    assert newest_whole(tmp_path) == (
        paths[0],
        {paths[2]: "rng_state.pth is damaged", paths[1]: "optimizer.pt is damaged"},
    )
    (paths[0] / "trainer_state.json").write_text("{")
    newest, flaws = newest_whole(tmp_path)
    assert newest is None
    assert len(flaws) == 3


def test_what_is_set_aside_is_no_checkpoint_any_more_and_stays_on_disk(tmp_path: Path):
    for _ in range(2):
        set_aside(checkpoint(tmp_path, 5))
    assert newest_whole(tmp_path) == (None, {})
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["damaged-2-checkpoint-5", "damaged-checkpoint-5"]


def test_a_checkpoint_that_is_written_over_gets_a_new_seal(tmp_path: Path):
    path = checkpoint(tmp_path, 5)
    (path / "optimizer.pt").write_bytes((path / "scheduler.pt").read_bytes() + b"more")
    assert flaw_of(path) == "optimizer.pt is damaged"
    seal(path)
    assert flaw_of(path) == ""
