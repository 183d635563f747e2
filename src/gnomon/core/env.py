"""Versions and hardware that a result was produced with, and missing packages."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Any

from gnomon.errors import BadConfig

PACKAGES = (
    "accelerate", "datasets", "jaxtyping", "jinja2", "matplotlib", "numpy", "openai", "peft", "pyarrow", "pyflakes", "pylint",
    "ruff", "safetensors", "scikit-learn", "scipy", "tokenizers", "torch", "transformers", "tyro", "zstandard",
)  # fmt: skip
"""Packages of the base install whose version can change a result."""


def extras() -> dict[str, tuple[str, ...]]:
    """Extra -> the packages it adds, as the installed package declares them; `all` and extras of gnomon itself left out."""
    import importlib.metadata
    import re

    table: dict[str, tuple[str, ...]] = {}
    for requirement in importlib.metadata.requires("gnomon") or ():
        extra = re.search(r"""extra == ['"]([^'"]+)['"]""", requirement)
        name = re.split(r"[\[<>=!~ ;(]", requirement)[0]
        if extra is not None and name != "gnomon":
            table[extra[1]] = (*table.get(extra[1], ()), name)
    return table


def version(package: str) -> str | None:
    """The installed version of a package; None when it is not installed."""
    import importlib.metadata

    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def describe() -> dict[str, Any]:
    """Versions and hardware as plain values. Imports nothing heavy."""
    from gnomon import __version__

    return {
        "gnomon": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": cores(),
        "packages": {name: version(name) for name in PACKAGES},
        **({"devices": devices()} if "torch" in sys.modules else {}),
    }


def cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_memory() -> int | None:
    """Bytes of memory that may be taken without swapping; None where the system does not say."""
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text("ascii").splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, ValueError, KeyError):
        return None


def devices() -> list[str]:
    """Accelerators that torch sees, by name; `["cpu"]` when there are none. Imports torch."""
    import torch

    if torch.cuda.is_available():
        return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return ["mps"] if torch.backends.mps.is_available() else ["cpu"]


def device_for(device: str) -> str:
    """The torch device to compute on: as asked, where `"auto"` takes a GPU when there is one.

    Of several processes on a machine, as torchrun and accelerate start them, each takes its own.
    """
    if device not in ("auto", "cuda"):
        return device
    import torch

    if device == "auto" and not torch.cuda.is_available():
        return "cpu"
    return f"cuda:{os.environ['LOCAL_RANK']}" if "LOCAL_RANK" in os.environ else "cuda"


def check_scale(scale: str, device: str) -> None:
    """Refuse a scale of a miniature that this machine has no device for.

    Args:
        scale: its name, as typed.
        device: what it runs on, `cpu` or `cuda`.

    Raises:
        BadConfig: it needs a GPU and there is none.
    """
    if device == "cuda" and devices() in (["cpu"], ["mps"]):
        raise BadConfig(f"--scale {scale} needs a CUDA GPU; --scale mini runs on the CPU.")
