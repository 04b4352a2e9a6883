"""What SECURITY.md says of strangers' files and is not tested where the files are read."""

from __future__ import annotations

import io
import json
import re
import struct
import tarfile
import zipfile
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

from delit_models.checkpoint import load_wan_vae
from delit_models.errors import CheckpointError, DelitError
from delit_models.json_text import parse_json, read_json
from training.data.shards import open_pairs
from training.evaluation.page import Example, write_page
from training.evaluation.report import About
from training.evaluation.tables import PairScores
from training.loop.checkpoints import LAST, load_checkpoint

REPOSITORY = Path(__file__).parents[2]
HTML = "<img src=x onerror=alert(1)>\"'><script>alert(2)</script>"


def test_members_of_a_shard_are_never_unpacked(tmp_path: Path) -> None:
    root = tmp_path / "shards"
    root.mkdir()
    with tarfile.open(root / "train-000000.tar", "w") as shard:
        for name in ("../../escaped.json", "/escaped.relit.png", "a.json"):
            content = json.dumps({"subject": "a", "env": "b"}).encode()
            member = tarfile.TarInfo(name)
            member.size = len(content)
            shard.addfile(member, io.BytesIO(content))
        for name in ("a.relit.png", "a.flat.png"):
            linked = tarfile.TarInfo(name)
            linked.type, linked.linkname = tarfile.SYMTYPE, "/etc/passwd"
            shard.addfile(linked)
    before = sorted(tmp_path.rglob("*"))
    # The links count as missing: they are no files.
    with pytest.raises(DelitError, match="has no relit"):
        open_pairs(root, "train")
    assert sorted(tmp_path.rglob("*")) == before and not Path("/escaped.relit.png").exists()


class Elements(HTMLParser):
    """Names of the elements of a page, and of their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += [name for name, _ in attrs]


def test_names_are_text_in_the_evaluations_page(tmp_path: Path) -> None:
    methods = {"flat": {"psnr": 30.0}, "input": {"psnr": 20.0}, "env": {"dominant_direction": 5.0}}
    pair = PairScores(HTML, HTML, HTML, HTML, methods)
    about = About(HTML, HTML, HTML, HTML, HTML, {HTML: HTML}, (HTML,))
    write_page(tmp_path / "report.html", about, [pair, pair], [Example(pair, f"pictures/{HTML}.jpg")])
    page = Elements()
    page.feed((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert page.names.count("img") == 1 and "script" not in page.names
    assert not [name for name in page.attributes if name.startswith("on")]


class _RunsCode:
    def __reduce__(self) -> tuple[Callable, tuple[str]]:
        return Path.touch, (Path("code_was_run"),)


def test_a_checkpoint_of_training_runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"identity": {}, "format": 1, "state": _RunsCode()}, tmp_path / LAST)
    with pytest.raises(DelitError, match="No checkpoint in .* can be read"):
        load_checkpoint(tmp_path, {})
    assert not (tmp_path / "code_was_run").exists()


def test_json_of_files_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "long.json").write_text('["' + "x" * 1000 + '"]')
    assert read_json(tmp_path / "long.json") == ["x" * 1000]
    with pytest.raises(ValueError, match="over 500"):
        read_json(tmp_path / "long.json", longest=500)
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json("[" * 100_000)


@pytest.mark.parametrize("promised", [2**31, 2**40, 2**63 - 1])
def test_a_header_that_promises_gigabytes_is_refused_unread(tmp_path: Path, promised: int) -> None:
    path = tmp_path / "vae.safetensors"
    path.write_bytes(struct.pack("<Q", promised) + b'{"a":' + bytes(1000))
    with pytest.raises(CheckpointError, match="not a weights file|cut short"):
        load_wan_vae(path)


def test_a_checkpoint_that_unpacks_to_gigabytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "vae.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as parts, parts.open("archive/data/0", "w") as part:
        for _ in range(100):
            part.write(bytes(1_000_000))
    assert path.stat().st_size < 1_000_000
    with pytest.raises(CheckpointError, match="unpack to"):
        load_wan_vae(path)


def test_the_tests_that_the_threat_model_names_are_there() -> None:
    text = (REPOSITORY / "SECURITY.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+)`", text))
    sources = "\n".join(
        path.read_text(encoding="utf-8") for path in (REPOSITORY / "tests").rglob("test_*.py")
    )
    defined = set(re.findall(r"^def (test_\w+)", sources, re.MULTILINE))
    assert len(named) > 25
    assert not named - defined
    files = set(re.findall(r"`((?:tests|scripts|nodes|delit_models|training|web)/[\w/.]+)`", text))
    assert not [name for name in files if not (REPOSITORY / name).exists()]
