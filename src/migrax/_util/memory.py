"""The free memory of the host."""

import os


def free_host_bytes() -> int:
    """The memory that is free now, in bytes; half of all, or 2 GiB, where the system does not say."""
    try:
        with open("/proc/meminfo") as file:
            meminfo = dict(row.split(":") for row in file)
        return int(meminfo["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, OSError, ValueError):
        return 2**31
