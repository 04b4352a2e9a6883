"""Run one of Delit's commands from anywhere, with any Python that has ComfyUI's packages:

    python_embeded\\python.exe ComfyUI\\custom_nodes\\delit\\scripts\\run.py delit portrait.jpg --output pictures

is what `python -m training.delit portrait.jpg --output pictures` is in the pack's folder. The Python of Windows
portable needs it: that looks for modules in its own folders only, not where it is started.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

PACK = Path(__file__).resolve().parents[1]


def commands() -> list[str]:
    """Names of the modules of training/ that are commands."""
    files = (PACK / "training").glob("*.py")
    return sorted(file.stem for file in files if "__main__" in file.read_text(encoding="utf-8"))


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in commands():
        sys.exit(f"Say which command to run, and its arguments: {', '.join(commands())}")
    name = f"training.{sys.argv.pop(1)}"
    sys.path.insert(0, str(PACK))
    runpy.run_module(name, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
