"""Print the requirements of this project and of the given extras, one a line, for pip.

python scripts/list_requirements.py standalone dev
"""

from __future__ import annotations

import sys
from pathlib import Path

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    from pip._vendor import tomli as tomllib

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"


def requirements(extras: list[str]) -> list[str]:
    """Dependencies, and those of the extras, with `delit[...]` replaced by what it stands for."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    found = dict.fromkeys(project["dependencies"])
    waiting = list(extras)
    while waiting:
        for requirement in project["optional-dependencies"][waiting.pop(0)]:
            if requirement.startswith("delit["):
                waiting += requirement.removeprefix("delit[").removesuffix("]").split(",")
            else:
                found[requirement] = None
    return list(found)


if __name__ == "__main__":
    print("\n".join(requirements(sys.argv[1:])))
