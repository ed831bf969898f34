"""A manifest of a finished run, for tests that need one."""

from typing import Any

from services.persona.manifest import Manifest


def make_manifest(**changes: Any) -> Manifest:
    """The manifest of a small run of Ada on Qwen3-8B, with `changes`."""
    values: dict[str, Any] = {
        "run_id": "20261122-114502-9f3a",
        "created_at": "2026-11-22T11:45:02+00:00",
        "base_model": "Qwen/Qwen3-8B",
        "lora_rank": 64,
        "lora_alpha": 128,
        "user_name": "Drew",
        "assistant_name": "Ada",
        "template_sha256": "",
        "weights_sha256": "",
        "seed": 3407,
        "dataset": {},
        "versions": {},
        "timings_s": {},
        "peak_memory_gib": 1.0,
        "steps": 2,
        "loss_before": 3.0,
        "loss_after": 2.0,
    }
    return Manifest(**values | changes)
