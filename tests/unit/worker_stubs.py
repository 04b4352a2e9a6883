"""Stand-ins for the renderer that other processes can import: they make files at once, or die on demand."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from delit_models.errors import DelitError
from training.synth.dataset.folder import env_name, subject_name
from training.synth.dataset.workers import Work


def make_stub(
    folder: str, work: Work, killer: int | None = None, seconds: float = 0.0, machines: int = 1
) -> list[dict]:
    """Writes a subject's files, empty, as the renderer would; a note for every attempt, in `attempts`.

    The first attempt at the subject `killer` kills its own process with half its files written. Nobody finishes before
    so many machines of a Ray cluster have begun something.
    """
    root = Path(folder)
    subject, envs = work
    name = subject_name(subject)
    (root / "attempts").mkdir(exist_ok=True)
    (root / "attempts" / f"{name}-{machine()}-{os.getpid()}-{time.monotonic_ns()}").touch()
    records = []
    for env in envs:
        files = {
            "relit": f"subjects/{name}/relit/{env_name(env)}.png",
            "flat": f"subjects/{name}/flat.png",
            "mask": f"subjects/{name}/mask.png",
            "env_map": f"subjects/{name}/env/{env_name(env)}.exr",
        }
        for file in files.values():
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).touch()
        if subject == killer and len(list((root / "attempts").glob(f"{name}-*"))) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        records.append({"subject": name, "env": env_name(env), "split": "train", **files})
    patience = time.monotonic() + 60
    while len(machines_seen(root)) < machines and time.monotonic() < patience:
        time.sleep(0.05)
    time.sleep(seconds)
    return records


def machine() -> str:
    """What tells the machines of a local Ray cluster apart: the process that starts a machine's workers."""
    return os.environ.get("RAY_RAYLET_PID", "0")


def machines_seen(root: Path) -> set[str]:
    """The machines that have begun something."""
    return {path.name.split("-")[1] for path in (root / "attempts").iterdir()}


def refuse(work: Work) -> list[dict]:
    """Work that tells why it cannot be done."""
    raise DelitError(f"subject {work[0]} cannot be made. Mend it.")
