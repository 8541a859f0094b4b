"""What the machine offers, found out without importing any of the heavy libraries."""

import importlib.util
import math
import os
import platform
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_CPU_INFO = Path("/proc/cpuinfo")
_CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""Of cgroup v2: "quota period" in microseconds, or "max period"."""


@dataclass(frozen=True, slots=True)
class Machine:
    """The facts the choice of a backend rests on."""

    system: str
    """``platform.system()``: Linux, Darwin, Windows."""
    processor: str
    """``platform.machine()``: x86_64, AMD64, aarch64, arm64 …"""
    nvidia: bool
    """An NVIDIA driver is loaded or its tools are installed."""
    openvino: bool
    """The package ``openvino`` is installed."""
    mlx: bool = False
    """The package ``mlx-embeddings`` is installed."""


def this_machine() -> Machine:
    """The machine we run on."""
    return Machine(
        system=platform.system(),
        processor=platform.machine(),
        nvidia=Path("/proc/driver/nvidia").exists() or shutil.which("nvidia-smi") is not None,
        openvino=importlib.util.find_spec("openvino") is not None,
        mlx=importlib.util.find_spec("mlx_embeddings") is not None,
    )


def usable_cores(quota_file: Path = _CPU_QUOTA) -> int:
    """Cores this process may keep busy: its affinity mask, cut to the container's processor quota where there is one."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS and Windows
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    try:
        quota, period = quota_file.read_text(encoding="ascii").split()
        return max(1, min(cores, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError, ZeroDivisionError):
        return cores


def instruction_sets() -> str:
    """What the processor can do, as the system lists it; its name, where it lists nothing."""
    with suppress(OSError):
        for line in _CPU_INFO.read_text(encoding="ascii", errors="replace").splitlines():
            # x86 says flags, Arm says Features.
            name, _, listed = line.partition(":")
            if name.strip() in ("flags", "Features"):
                return listed.strip()
    return platform.processor()


def texts_at_once(memory_bytes: int, max_tokens: int, config: Mapping[str, Any], *, most: int) -> int:
    """Texts of ``max_tokens`` tokens whose states fit into so much memory, between 1 and ``most``.

    A layer holds, in 4-byte numbers, the attention of every pair of tokens for each head, and some ten states of the width of its
    inner layer for every token. ``config`` is the model's config.json.
    """
    heads = int(config.get("num_attention_heads") or 12)
    width = int(config.get("intermediate_size") or 3072)
    each = 4 * (2 * heads * max_tokens * max_tokens + 10 * width * max_tokens)
    return max(1, min(most, memory_bytes // each))
