"""scripts/queue_shots.py as it is called, for its tests with ComfyUI and without."""

from __future__ import annotations

import sys

import pytest

from scripts import queue_shots
from training.command_line import run_command


def queue_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, *arguments: object) -> str:
    """Run it; its standard error where it fails."""
    monkeypatch.setattr(sys, "argv", ["queue_shots", *map(str, arguments)])
    try:
        run_command(queue_shots.queue, queue_shots.parse_arguments())
    except SystemExit as stopped:
        assert stopped.code == 1
        return capsys.readouterr().err
    return ""
