"""The number of CPUs that a process may use.

.venv/bin/python -m pytest tests/test_cpu_count.py
"""

import os
from pathlib import Path

import pytest

from services.process.cpu_count import available_cpus

ALLOWED = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ("max 100000", ALLOWED),
        ("100000 100000", 1),
        ("50000 100000", 1),
        ("100000000 100000", ALLOWED),
        ("", ALLOWED),
        ("not a quota", ALLOWED),
    ],
)
def test_a_quota_of_the_container_limits_the_count(tmp_path: Path, quota: str, expected: int):
    (tmp_path / "cpu.max").write_text(quota)
    assert available_cpus(tmp_path / "cpu.max") == expected


def test_without_cgroups_the_affinity_mask_counts(tmp_path: Path):
    assert available_cpus(tmp_path / "missing") == ALLOWED
