"""JSON from strangers: bounded in length and depth."""

from __future__ import annotations

import pytest

from delit_models.json_text import parse_json, read_json


def test_what_is_nested_too_deeply_is_no_json():
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json("[" * 100_000 + "]" * 100_000)
    assert parse_json("[[1, {}]]") == [[1, {}]]


def test_what_is_too_long_is_not_read(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="8 bytes long, over 4"):
        parse_json("[1, 2,3]", longest=4)
    path = tmp_path / "a.json"
    path.write_text("[1, 2,3]")
    assert read_json(path) == [1, 2, 3]
    monkeypatch.setattr(type(path), "read_bytes", lambda path: pytest.fail("it was read"))
    with pytest.raises(ValueError, match="8 bytes long, over 4"):
        read_json(path, longest=4)
