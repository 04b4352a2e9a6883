"""How long the pack's own modules take to import, beyond torch, in fresh processes.

    python -m benchmarks.import_time

Prints the median of seven runs of torch alone, of torch with the pack's models, and the difference.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

RUNS = 7
TORCH = "import torch, numpy, safetensors.torch, einops, PIL.Image"
PACK = f"{TORCH}; import delit_models.pipeline, delit_models.env_map_files, delit_models.plate_files"


def seconds(code: str) -> float:
    timed = f"import time; start = time.perf_counter()\n{code}\nprint(time.perf_counter() - start)"
    return float(
        subprocess.run([sys.executable, "-c", timed], capture_output=True, text=True, check=True).stdout
    )


def main() -> None:
    start = time.perf_counter()
    times = {name: [seconds(code) for _ in range(RUNS)] for name, code in (("torch", TORCH), ("pack", PACK))}
    torch_alone, with_pack = (statistics.median(times[name]) for name in ("torch", "pack"))
    print(f"torch and what ComfyUI has: {1000 * torch_alone:.0f} ms; with the pack {1000 * with_pack:.0f} ms")
    print(f"the pack: {1000 * (with_pack - torch_alone):.0f} ms ({time.perf_counter() - start:.0f} s in all)")


if __name__ == "__main__":
    main()
