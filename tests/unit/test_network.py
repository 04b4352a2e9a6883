"""Nothing is reached but this machine: the guard that all tests run under (network_guard) sees whoever tries."""

from __future__ import annotations

import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

ELSEWHERE = "203.0.113.7"  # of the block for documentation (RFC 5737): nobody's


@pytest.fixture
def asked(network_log: Path):
    """What was asked for so far in this test; forgotten at its end, for it was asked for on purpose."""
    start = network_log.stat().st_size

    def read() -> str:
        return network_log.read_text(encoding="utf-8")[start:]

    yield read
    with network_log.open("r+") as log:
        log.truncate(start)


def connect() -> None:
    socket.create_connection((ELSEWHERE, 443), timeout=1)


def send() -> None:
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", (ELSEWHERE, 53))


def look_up() -> None:
    urllib.request.urlopen("http://example.invalid/model.safetensors", timeout=1)


@pytest.mark.parametrize("attempt", [connect, send, look_up])
def test_the_guard_sees_who_asks_for_another_machine(asked, attempt) -> None:
    with pytest.raises(OSError):
        attempt()
    assert (ELSEWHERE in asked() or "example.invalid" in asked()) and attempt.__name__ in asked()


def test_the_guard_is_in_every_python_that_a_test_starts(asked) -> None:
    code = f"import socket; socket.create_connection(('{ELSEWHERE}', 443), timeout=1)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 1 and "NetworkAsked" in run.stderr
    assert ELSEWHERE in asked()


def test_this_machine_may_be_asked() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), timeout=1).close()
        socket.getaddrinfo("localhost", 80)
