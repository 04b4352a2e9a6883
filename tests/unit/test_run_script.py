"""scripts/run.py, in a Python that does not look for modules where it is started, as Windows portable's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
# -I: what a ._pth file does to the Python of Windows portable.
ISOLATED = [sys.executable, "-I"]


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    return subprocess.run([*ISOLATED, *arguments], cwd=cwd, capture_output=True, text=True, timeout=300)


def test_dash_m_does_not_do_there_what_the_script_does(tmp_path):
    assert "No module named" in run("-m", "training.make_shards", "--help", cwd=REPOSITORY).stderr
    done = run(str(REPOSITORY / "scripts" / "run.py"), "make_shards", "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout and "shard_size" in done.stdout


def test_errors_and_exit_status_pass_through(tmp_path):
    script = str(REPOSITORY / "scripts" / "run.py")
    wrong = run(script, "check_dataset", "no_such_folder", cwd=tmp_path)
    assert wrong.returncode != 0 and "no_such_folder" in wrong.stdout + wrong.stderr
    unknown = run(script, "delight", cwd=tmp_path)
    assert (
        unknown.returncode == 1 and "train_delit_wan" in unknown.stderr and "bug_report" not in unknown.stderr
    )
    assert run(script, cwd=tmp_path).returncode == 1
