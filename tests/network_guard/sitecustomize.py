"""Python imports this at its start where its folder is on PYTHONPATH: whoever asks for another machine is refused.

So it is in the tests' own process, in every command that they start and in the ComfyUI servers. What was asked for, and
from where, is written into the file that DELIT_NETWORK_LOG names; the tests fail on it (tests/conftest.py). Ray's own
connections pass: `--ray ADDRESS` asks for them.
"""

from __future__ import annotations

import os
import socket
import sys
import traceback

LOG = "DELIT_NETWORK_LOG"
# Event of Python's audit table → which of its arguments holds an address or a host's name.
WATCHED = {
    "socket.connect": 1,
    "socket.sendto": 1,
    "socket.sendmsg": 1,
    "socket.getaddrinfo": 0,
    "socket.gethostbyname": 0,
}
HERE = {None, "", "localhost", "localhost.localdomain", socket.gethostname()}
ASKED_FOR = ("ray",)


class NetworkAsked(PermissionError):
    """Another machine was asked for by a program that nobody told to."""


def is_here(host: object) -> bool:
    """Whether a host is this machine: by one of its names, or by an address that can be bound to here."""
    host = host.decode(errors="replace") if isinstance(host, (bytes, bytearray)) else host
    if host in HERE:
        return True
    family = socket.AF_INET6 if ":" in str(host) else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            # inet_pton first: bind would look a name up, which is what is refused here.
            socket.inet_pton(family, str(host))
            probe.bind((host, 0))
    except OSError:
        return False
    return True


def _asked_for() -> bool:
    frame = sys._getframe(2)
    while frame is not None:
        if frame.f_globals.get("__name__", "").split(".")[0] in ASKED_FOR:
            return True
        frame = frame.f_back
    return False


def _watch(event: str, arguments: tuple) -> None:
    position = WATCHED.get(event)
    if position is None or not os.environ.get(LOG):
        return
    address = arguments[position]
    # A path is a socket of this machine; getaddrinfo and gethostbyname give the bare name.
    if event.startswith(("socket.connect", "socket.send")):
        if not isinstance(address, tuple):
            return
        address = address[0]
    if is_here(address) or _asked_for():
        return
    with open(os.environ[LOG], "a", encoding="utf-8") as log:
        log.write(f"{event} {address!r}\n{''.join(traceback.format_stack(limit=30)[:-1])}\n")
    raise NetworkAsked(f"{event}: {address!r} is another machine; nothing may be reached from a test")


sys.addaudithook(_watch)
