"""Would installing Delit change a package that a ComfyUI already has? Resolves requirements.txt for every platform.

    python scripts/check_requirements.py            every platform (needs the network and `pip install uv`)
    python scripts/check_requirements.py --here     this platform and Python

For each platform and Python, numpy is taken as installed in the oldest and the newest version that ComfyUI runs with
there; the requirements have to resolve, from wheels alone, with numpy as it is: to the newest versions that they allow,
and to the oldest.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

REQUIREMENTS = Path(__file__).parent.parent / "requirements.txt"
PLATFORMS = {
    "Linux x64": "x86_64-manylinux_2_28",
    "Linux aarch64": "aarch64-manylinux_2_28",
    "Windows x64": "x86_64-pc-windows-msvc",
    "macOS arm64": "aarch64-apple-darwin",
    "macOS x64": "x86_64-apple-darwin",
}
# Versions of numpy that have wheels for a Python.
NUMPY = {
    "3.10": ("1.26.4", "2.2.6"),
    "3.11": ("1.26.4", "2.3.5"),
    "3.12": ("1.26.4", "2.3.5"),
    "3.13": ("2.1.3", "2.3.5"),
    "3.14": ("2.3.5",),
}


@dataclass(frozen=True)
class Case:
    platform: str
    python: str
    numpy: str

    def __str__(self) -> str:
        return f"{self.platform}, Python {self.python}, numpy {self.numpy}"


def resolve(case: Case, resolution: str) -> tuple[bool, str]:
    """Whether the requirements resolve beside this numpy, to the "highest" or the "lowest" versions allowed, and what
    to: the versions, or the resolver's complaint."""
    with tempfile.TemporaryDirectory() as folder:
        installed = Path(folder) / "installed.txt"
        installed.write_text(f"numpy=={case.numpy}\n", encoding="utf-8")
        command = [
            sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate",
            "--only-binary", ":all:", "--resolution", resolution, "--python-version", case.python,
            "--python-platform", PLATFORMS[case.platform], str(installed), str(REQUIREMENTS),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode:
        return False, done.stderr.strip()
    versions = done.stdout.split()
    return f"numpy=={case.numpy}" in versions, " ".join(versions)


def here() -> list[Case]:
    system = {"Linux": "Linux", "Windows": "Windows", "Darwin": "macOS"}[platform.system()]
    chip = {"x86_64": "x64", "AMD64": "x64"}.get(platform.machine(), platform.machine())
    python = ".".join(map(str, sys.version_info[:2]))
    return [case for case in every_case() if case.platform == f"{system} {chip}" and case.python == python]


def every_case() -> list[Case]:
    return [
        Case(name, python, numpy) for name in PLATFORMS for python, known in NUMPY.items() for numpy in known
    ]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--here", action="store_true", help="this platform and Python only")
    failed = 0
    for case in here() if parser.parse_args().here else every_case():
        for resolution in ("highest", "lowest"):
            fits, told = resolve(case, resolution)
            failed += not fits
            print(f"{'✓' if fits else '✗'} {case}, {resolution}: {told}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
