"""training.verify_modules --report: all that a bug report needs, and nothing private."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from delit_models.pipeline import EMBEDDED_HEADS
from training import bug_report, verify_modules
from training.bug_report import last_error_of, report, without_private_names

LOG = """[INFO] Starting server
Traceback (most recent call last):
  File "/home/mira/ComfyUI/execution.py", line 1, in execute
ValueError: the first one

got prompt
!!! Exception during processing !!! The image is 32×32 pixels
Traceback (most recent call last):
  File "/home/mira/ComfyUI/custom_nodes/delit/nodes/portrait.py", line 2, in execute
    result = pipeline(image)

delit_models.errors.DelitError: The image is 32×32 pixels
Prompt executed in 0.1 seconds
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ComfyUI of a user called Mira with the pack in it; the ComfyUI's folder."""
    comfyui = tmp_path / "home" / "mira" / "ComfyUI"
    pack = comfyui / "custom_nodes" / "delit"
    for folder in (pack, comfyui / "user", comfyui / "models" / "delit", comfyui / "models" / "vae"):
        folder.mkdir(parents=True)
    (pack / "pyproject.toml").write_text('version = "1.2.3"\n')
    (comfyui / "comfyui_version.py").write_text('__version__ = "0.33.0"\n')
    (comfyui / "user" / "comfyui.log").write_text(LOG, encoding="utf-8")
    (comfyui / "models" / "delit" / "mine.safetensors").write_bytes(b"heads")
    (comfyui / "models" / "vae" / "wan_2.1_vae.safetensors").write_bytes(b"vae")
    (comfyui / "models" / "vae" / "other.safetensors").write_bytes(b"other")
    monkeypatch.setattr(bug_report, "ROOT", pack)
    monkeypatch.setattr(Path, "home", lambda: comfyui.parent)
    monkeypatch.setenv("USER", "mira")
    monkeypatch.setattr(bug_report.platform, "node", lambda: "miras-workstation.studio.example")
    return comfyui


def test_it_has_what_is_needed_and_nothing_private(installed: Path) -> None:
    text = report(
        ("torch", "no-such-package"), f"✗ VAE: no file {installed}/models/vae/x on miras-workstation"
    )
    for needed in (
        "Delit 1.2.3",
        "ComfyUI 0.33.0",
        "no-such-package is not installed",
        "torch: CUDA",
        hashlib.sha256(EMBEDDED_HEADS.read_bytes()).hexdigest(),
        f"delit/mine.safetensors: 5 bytes, sha256 {hashlib.sha256(b'heads').hexdigest()}",
        "vae/wan_2.1_vae.safetensors: 3 bytes",
        "✗ VAE: no file <ComfyUI>/models/vae/x on <private>",
        "DelitError: The image is 32×32 pixels",
        "<home>/ComfyUI/custom_nodes/delit/nodes/portrait.py",
    ):
        assert needed in text, needed
    assert "other.safetensors" not in text
    for private in ("mira", str(installed), str(Path.home()), "studio.example"):
        assert private not in text.lower(), private


@pytest.mark.parametrize(
    "private",
    [
        "/home/someone/ComfyUI/x.py",
        "/Users/some.one/ComfyUI/x.py",
        r"C:\Users\Some-one\ComfyUI\x.py",
        r"d:\\Users\\Someone\\x.py",
        "C:/Users/someone/x.py",
    ],
)
def test_home_folders_of_every_system_are_taken_out(private: str) -> None:
    told = without_private_names(f'File "{private}", line 3')
    assert "one" not in told.lower().replace("<home>", "") and "x.py" in told and "<home>" in told


@pytest.mark.parametrize(
    ("told", "left"),
    [
        ("no file /mnt/projects/secretfilm/sc01/shot.0001.exr: gone", "no file <path>/shot.0001.exr: gone"),
        (r'File "D:\clients\the secret film\shot.png", line 3', 'File "<path>/shot.png", line 3'),
        ("//server/secretfilm/shot.png and '/x/secret film/y z.exr'", "<path>/shot.png and '<path>/y z.exr'"),
        (r"\\server\secretfilm\shot.png", "<path>/shot.png"),
        ('"/opt/secret/lib/site-packages/torch/nn/x.py"', '"<path>/site-packages/torch/nn/x.py"'),
        ("/srv/secret/custom_nodes/other/y.py:12", "<path>/custom_nodes/other/y.py:12"),
    ],
)
def test_folders_of_a_studio_are_taken_out(told: str, left: str) -> None:
    assert without_private_names(told) == left


@pytest.mark.parametrize(
    "told", ["https://a.example/b/c", "POST /prompt", "1/2 and fp16/bf16", "<home>/a/b", "12:30"]
)
def test_what_is_no_folder_stays(told: str) -> None:
    assert without_private_names(told) == told


def test_a_pack_that_is_linked_into_comfyui_finds_it(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack, elsewhere = installed / "custom_nodes" / "delit", tmp_path / "checkouts" / "delit"
    elsewhere.parent.mkdir()
    pack.rename(elsewhere)
    try:
        pack.symlink_to(elsewhere, target_is_directory=True)
    except OSError as error:
        pytest.skip(f"no links here: {error}")
    monkeypatch.setattr(bug_report, "ROOT", elsewhere)
    assert "ComfyUI is not around" in report((), "")
    monkeypatch.setenv("PWD", str(pack))
    assert "ComfyUI 0.33.0" in report((), "") and "DelitError: The image is 32" in report((), "")


def test_common_words_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USER", "root")
    monkeypatch.setenv("USERNAME", "al")
    assert without_private_names("the root of all trouble: al.") == "the root of all trouble: al."


def test_the_last_error_of_a_log() -> None:
    told = last_error_of(LOG)
    assert told.startswith("!!! Exception during processing") and told.endswith("32×32 pixels")
    assert "the first one" not in told and "Prompt executed" not in told
    assert last_error_of("all is well") is None
    assert last_error_of("one\n[ERROR] no space left\ntwo") == "[ERROR] no space left"


def test_the_command_prints_a_report(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    def fails(bench: verify_modules.Bench) -> str:
        raise OSError(f"{Path.home()}/secret is gone")

    monkeypatch.setattr(verify_modules, "CHECKS", {"Disk": fails})
    assert verify_modules.main(["--device", "cpu", "--report"]) == 1
    printed = capsys.readouterr().out
    assert printed.startswith("## Delit, bug report")
    assert "✗ Disk: OSError: <home>/secret is gone" in printed and str(Path.home()) + "/" not in printed
