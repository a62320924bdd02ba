"""What the kernel says of a process: the processor's time it took, and its peak of memory."""

import time
from pathlib import Path


def cpu_seconds(pid: int) -> float:
    """Give the time that all of a process's threads spent so far, in user and kernel mode.

    It is the sum of utime and stime in ``/proc/PID/stat``, which counts in steps of 10 ms, as the
    process's own clock tells it to the nanosecond: see clock_getcpuclockid(3).
    """
    return time.clock_gettime((~pid << 3) | 2)


def forget_peak(pid: int) -> None:
    """Let ``VmHWM``, the peak of a process's resident memory, begin anew from now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
