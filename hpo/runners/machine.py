"""What this machine lets this process use."""

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup/cpu.max")


def cores() -> int:
    """Cores that the process may use: fewer than the machine has under an affinity mask or a container's limit."""
    allowed = len(os.sched_getaffinity(0))
    try:
        quota, period = _CGROUP.read_text("utf-8").split()
    except (OSError, ValueError):
        return allowed
    return allowed if quota == "max" else max(1, min(allowed, int(quota) // int(period)))
