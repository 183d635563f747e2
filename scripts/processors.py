"""Print the kernels of torch that this processor can run, for ATEN_CPU_CAPABILITY: "default avx2 avx512" or the first of these."""

import os
import sys

KERNELS = ("default", "avx2", "avx512")


def main() -> None:
    """Print their names in one line; the best one is what torch takes when nobody asks."""
    os.environ.pop("ATEN_CPU_CAPABILITY", None)
    import torch

    best = torch.backends.cpu.get_cpu_capability().lower()
    known = KERNELS[: KERNELS.index(best) + 1] if best in KERNELS else KERNELS[:1]
    print(*known)
    if len(known) < len(KERNELS):
        print(f"not on this processor: {' '.join(KERNELS[len(known) :])}", file=sys.stderr)


if __name__ == "__main__":
    main()
