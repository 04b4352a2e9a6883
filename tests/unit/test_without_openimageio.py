"""A platform without a wheel of OpenImageIO: the pack loads, pictures work, only HDR files are refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
# A finder that hides the package, as if pip had not installed it.
WITHOUT = """
import sys

class Hide:
    def find_spec(self, name, path=None, target=None):
        if name == "OpenImageIO":
            raise ModuleNotFoundError("No module named 'OpenImageIO'", name=name)

sys.meta_path.insert(0, Hide())
"""


def run(code: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT + code, str(folder)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_pictures_are_read_and_written(tmp_path):
    told = run(
        "import torch, sys\n"
        "from delit_models.image_files import read_image, write_image\n"
        "from delit_models.pipeline import DelitPipeline\n"
        "path = sys.argv[1] + '/a.png'\n"
        "write_image(path, torch.rand(64, 64, 3))\n"
        "print(DelitPipeline.embedded()(read_image(path)[None]).flat.shape)\n",
        tmp_path,
    )
    assert "[1, 64, 64, 3]" in told


def test_hdr_files_say_what_is_missing_and_how_to_get_it(tmp_path):
    told = run(
        "import torch, sys\n"
        "from delit_models.errors import DelitError\n"
        "from delit_models.env_map_files import read_env_map, write_env_map\n"
        "from delit_models.image_files import read_image\n"
        "from delit_models.plate_files import read_plate\n"
        "path = sys.argv[1] + '/env.exr'\n"
        "for attempt in (lambda: write_env_map(path, torch.ones(8, 16, 3)), lambda: read_env_map(path),\n"
        "                lambda: read_plate(path), lambda: read_image(path)):\n"
        "    try:\n"
        "        attempt()\n"
        "    except DelitError as error:\n"
        "        print(error)\n"
        "    open(path, 'wb').write(b'v/1')\n",
        tmp_path,
    )
    assert told.count("needs OpenImageIO") == 4


def test_importing_the_models_does_not_import_it():
    code = "import delit_models.pipeline, delit_models.env_map_files, delit_models.plate_files, sys\n"
    done = subprocess.run(
        [sys.executable, "-c", code + "print('OpenImageIO' in sys.modules)"],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.stdout.strip() == "False", done.stderr
