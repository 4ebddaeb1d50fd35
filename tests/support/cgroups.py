"""Control groups of a test's own: where they are made, and how they go. Must never touch one that another made."""

import time
from pathlib import Path

WAIT = 30.0  # seconds in which the last process of a group has to be gone


def cgroups() -> Path:
    """Where cgroup2 is mounted."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(place)
    raise AssertionError("these tests need a mounted cgroup2")


def remove_cgroup(top: Path) -> None:
    """Remove a group, if it is there, and all below it, once their last processes are gone."""
    until = time.monotonic() + WAIT
    groups = sorted((path for path in top.rglob("*") if path.is_dir()), reverse=True)
    for group in (*groups, top):
        while not _removed(group):
            assert time.monotonic() < until, f"{group} does not become empty"
            time.sleep(0.05)


def _removed(group: Path) -> bool:
    try:
        group.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False  # its last process is still ending
    return True
