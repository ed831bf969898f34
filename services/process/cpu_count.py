"""The number of CPUs that this process may use."""

import os
from itertools import islice
from pathlib import Path

CPU_MAX = Path(
    "/sys/fs/cgroup/cpu.max"
)  # of cgroup v2: "<quota> <period>" in microseconds, or "max <period>"


def available_cpus(cpu_max: Path = CPU_MAX) -> int:
    """The CPUs of this process's affinity mask, or fewer when its container has a quota; at least 1.

    `os.cpu_count` counts those of the machine, and `os.process_cpu_count` (Python 3.13) ignores quotas.
    """
    allowed = len(os.sched_getaffinity(0))
    try:
        quota, period = islice(cpu_max.read_text(encoding="ascii").split(), 2)
        return allowed if quota == "max" else max(1, min(allowed, int(quota) // int(period)))
    except (OSError, ValueError):
        return allowed
