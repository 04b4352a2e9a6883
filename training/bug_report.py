"""What a bug report needs to know of an installation, without what is private: `verify_modules --report` prints it."""

from __future__ import annotations

import getpass
import hashlib
import importlib.metadata
import os
import platform
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from delit_models.pipeline import EMBEDDED_HEADS, EMBEDDED_VAE

ROOT = Path(__file__).resolve().parent.parent
# Names so short or so common that taking them out of every text would garble it and hide nothing.
NO_SECRET = {"root", "user", "admin", "home", "users", "runner", "ubuntu", "comfyui", "delit", "localhost"}
# Larger files of models/vae are no Wan VAE, and take long to hash.
LARGEST_HASHED = 1_000_000_000
# Absolute paths of every system, in quotes (with spaces then) and without. Not what goes on from a name, as <home>/x
# does, a URL or 1/2.
_BEGIN = r"(?:[A-Za-z]:[\\/]|\\\\|//|/)"
_PATHS = (
    re.compile(rf"(?<=\"){_BEGIN}[^\"\n]+"),
    re.compile(rf"(?<='){_BEGIN}[^'\n]+"),
    re.compile(rf"(?<![\w<>/\\.:~-]){_BEGIN}[^\s:\"'<>|,;()]+"),
)
# What is below these is a package's or a node pack's, and tells where an error is.
_PUBLIC_FOLDERS = re.compile(r".+-packages|custom_nodes")
# Of a log, where the last error is looked for, and how much of it is shown.
LOG_TAIL_BYTES = 2_000_000
ERROR_LINES = 60


def report(packages: tuple[str, ...], checks: str) -> str:
    """A bug report in Markdown, with nothing private in it.

    Args:
        packages: distributions whose versions are told.
        checks: what verify_modules has printed.
    """
    sections = {
        "Versions": _versions(packages),
        "Devices": "\n".join(_devices()),
        "Weights": "\n".join(_weights()),
        "Checks": f"```\n{checks.strip()}\n```",
        "Last error": _last_error(),
    }
    text = "\n\n".join(f"### {title}\n\n{body}" for title, body in sections.items())
    return without_private_names(f"## Delit, bug report\n\n{text}\n")


def without_private_names(text: str) -> str:
    """Text with home folders, user names, the machine's name and all folders but ComfyUI's and packages' taken out."""
    for folder, name in ((ROOT, "<delit>"), (_comfyui(), "<ComfyUI>"), (Path.home(), "<home>")):
        if folder is not None and folder != Path(folder.anchor):
            for written in {str(folder), folder.as_posix(), str(folder).replace("\\", "\\\\")}:
                text = text.replace(written, name)
    text = re.sub(r"(/home/|/Users/|[A-Za-z]:(?:\\{1,2}|/)Users(?:\\{1,2}|/))[^/\\\s:\"']+", "<home>", text)
    for paths in _PATHS:
        text = paths.sub(_without_folders, text)
    for name in _private_words():
        text = re.sub(
            rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])", "<private>", text, flags=re.IGNORECASE
        )
    return text


def _without_folders(path: re.Match[str]) -> str:
    """A path's last name, or what is below a folder whose contents are public."""
    names = [name for name in re.split(r"[\\/]+", path.group()) if name]
    if len(names) < 2:
        return path.group()
    public = [place for place, name in enumerate(names) if _PUBLIC_FOLDERS.fullmatch(name)]
    return "/".join(["<path>", *names[public[-1] if public else -1 :]])


def _private_words() -> Iterator[str]:
    words = {platform.node(), platform.node().split(".")[0], Path.home().name}
    try:
        words.add(getpass.getuser())
    except (OSError, KeyError, ImportError):
        pass  # no such user: a container
    yield from sorted((w for w in words if len(w) >= 3 and w.lower() not in NO_SECRET), key=len, reverse=True)


def _versions(packages: tuple[str, ...]) -> str:
    told = [f"Delit {_delit_version()}", f"ComfyUI {_comfyui_version()}"]
    told += [
        f"Python {sys.version.split()[0]}",
        f"{platform.system()} {platform.release()} {platform.machine()}",
    ]
    for package in packages:
        try:
            told.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            told.append(f"{package} is not installed")
    return "\n".join(f"- {line}" for line in told)


def _delit_version() -> str:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    version = re.search(r'^version = "(.+)"', project, re.MULTILINE)
    return (version.group(1) if version else "of unknown version") + _commit()


def _commit() -> str:
    """“, commit 0123abcd” in a git checkout, read without git."""
    try:
        head = (ROOT / ".git" / "HEAD").read_text(encoding="utf-8").strip()
        if head.startswith("ref: "):
            head = (ROOT / ".git" / head[5:]).read_text(encoding="utf-8").strip()
    except OSError:
        return ""
    return f", commit {head[:12]}" if re.fullmatch("[0-9a-f]{40,64}", head) else ""


def _comfyui() -> Path | None:
    """The ComfyUI that this pack is installed in, itself or as a link to it; None outside of one."""
    # Python knows the folder that it was started in without its links, the shell with them.
    linked = Path(os.path.expandvars("$PWD"))
    for pack in (ROOT, linked):
        folder = pack.parent.parent
        if pack.resolve() == ROOT and pack.parent.name == "custom_nodes" and folder != folder.parent:
            return folder
    return None


def _comfyui_version() -> str:
    comfyui = _comfyui()
    if comfyui is None:
        return "is not around this copy"
    try:
        found = re.search(r"\d+(\.\d+)+", (comfyui / "comfyui_version.py").read_text(encoding="utf-8"))
    except OSError:
        found = None
    return found.group() if found else "of unknown version"


def _devices() -> Iterator[str]:
    yield f"- CPU: {os.cpu_count()} cores, {torch.get_num_threads()} threads for torch"
    yield f"- torch: CUDA {torch.version.cuda or 'none'}, HIP {getattr(torch.version, 'hip', None) or 'none'}"
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        card = torch.cuda.get_device_properties(index)
        memory = card.total_memory / 2**30
        yield f"- cuda:{index}: {card.name}, {memory:.1f} GiB, compute capability {card.major}.{card.minor}"
    if torch.backends.mps.is_available():
        yield "- mps: available"


def _weights() -> Iterator[str]:
    yield from (_hashed(path, path.name) for path in (EMBEDDED_VAE, EMBEDDED_HEADS))
    models = None if _comfyui() is None else _comfyui() / "models"
    if models is None:
        return
    for path in sorted((models / "delit").rglob("*.safetensors")):
        yield _hashed(path, path.relative_to(models).as_posix())
    for path in sorted((models / "vae").rglob("*[wW][aA][nN]*")):
        if path.is_file():
            yield _hashed(path, path.relative_to(models).as_posix())


def _hashed(path: Path, name: str) -> str:
    try:
        size = path.stat().st_size
        if size > LARGEST_HASHED:
            return f"- {name}: {size:,} bytes, not hashed"
        with path.open("rb") as file:
            digest = hashlib.sha256()
            while part := file.read(1 << 20):
                digest.update(part)
    except OSError as error:
        return f"- {name}: cannot be read ({error.strerror})"
    return f"- {name}: {size:,} bytes, sha256 {digest.hexdigest()}"


def _last_error() -> str:
    """The end of ComfyUI's newest log that has an error in it, where it keeps one."""
    comfyui = _comfyui()
    logs = [] if comfyui is None else list((comfyui / "user").glob("comfyui*.log"))
    for log in sorted(logs, key=lambda path: path.stat().st_mtime, reverse=True):
        error = last_error_of(_tail(log))
        if error:
            return f"From {log.name}:\n\n```\n{error}\n```"
    return "No log with an error was found. Please paste the error that you saw, from its first line to its last."


def last_error_of(log: str) -> str | None:
    """The last traceback of a log, with the line before it, which says where; else its last line about an error."""
    lines = log.splitlines()
    starts = [
        index for index, line in enumerate(lines) if line.startswith("Traceback (most recent call last)")
    ]
    if starts:
        end = starts[-1] + 1
        while end < len(lines) and (lines[end].startswith((" ", "\t")) or not lines[end].strip()):
            end += 1
        # The first line that is not indented is the exception itself.
        return "\n".join(lines[max(starts[-1] - 1, 0) : end + 1][-ERROR_LINES:])
    told = [line for line in lines if re.search(r"\b(ERROR|Error|!!! Exception)\b|IMPORT FAILED", line)]
    return told[-1] if told else None


def _tail(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(file.tell() - LOG_TAIL_BYTES, 0))
        return file.read().decode("utf-8", errors="replace")
