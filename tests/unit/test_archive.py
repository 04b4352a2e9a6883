"""What the Comfy registry would serve: all that the pack and its commands need, no stray file, nothing a scan stops at.

`comfy node pack` takes what git tracks, less what .comfyignore names, and the `includes` of pyproject.toml.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
LARGEST_MEGABYTES = 40
# Calls by which a pack could run what it was not shipped with; the registry's scan looks for them.
DANGEROUS = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "pickle.load", "pickle.loads", "marshal.loads",
    "dill.load", "subprocess.run", "subprocess.Popen", "subprocess.call", "subprocess.check_call",
    "subprocess.check_output", "urllib.request.urlopen", "requests.get",
}  # fmt: skip
# Not run inside ComfyUI: these may call other programs by a list of words, and unpickle what they pickled themselves.
NOT_THE_PACK = ("scripts/", "benchmarks/", "tests/")
HARMLESS_THERE = ("subprocess.", "urllib.", "pickle.", "compile", "__import__", "json.")
# What the registry's own scan (YARA rules, which are not public) looks for in the text of every file of the archive,
# JavaScript and words among them, as publishers report it from the status_reason of their versions. A version with a
# single finding, if only of severity “info”, is flagged, and not served before somebody has looked at it.
REGISTRY_FINDINGS = {
    "python_network_operations": r"\.(connect|bind|send|sendall|recv)\s*\(|\bsocket\.(socket|create_\w+)\s*\(|"
    r"urllib\.request|urlopen|http\.client|requests\.(get|post)|ClientSession",
    "python_environment_manipulation": r"os\.(environ|getenv|putenv|unsetenv)\b",
    "python_command_injection_risk": r"subprocess\.\w+\s*\(|os\.(system|popen|startfile)\b",
    "python_dynamic_execution": r"(?<![\w.])(eval|exec)\s*\(|\.eval\s*\([^)\s]|__import__\s*\(|(?<!re\.)\bcompile\s*\(",
    "python_bytecode_manipulation": r"\bmarshal\.|pickle\.loads?\b",
}
# The one place where JSON is parsed, after its length is known.
BOUNDED = "delit_models/json_text.py"


def git(*arguments: str) -> list[str]:
    if shutil.which("git") is None or not (REPOSITORY / ".git").exists():
        pytest.skip("not a git checkout")
    done = subprocess.run(
        ["git", *arguments, "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    return [name for name in done.stdout.split("\0") if name]


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    return [name for name in git("ls-files") if (REPOSITORY / name).is_file()]


def included() -> list[str]:
    project = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    return re.findall(
        r'"([^"]+)"', re.search(r"^includes = \[(.*?)\]", project, re.DOTALL | re.MULTILINE).group(1)
    )


@pytest.fixture(scope="module")
def archive(tracked: list[str]) -> set[str]:
    left_out = set(git("ls-files", "--cached", "--ignored", "--exclude-from=.comfyignore"))
    return (set(tracked) - left_out) | set(included())


def test_all_code_and_words_are_in(archive: set[str], tracked: list[str]) -> None:
    folders = (
        "delit_models/",
        "nodes/",
        "training/",
        "web/",
        "locales/",
        "workflows/",
        "subgraphs/",
        "portraits/",
        "docs/",
    )
    needed = {name for name in tracked if name.startswith(folders)}
    needed |= {"__init__.py", "pyproject.toml", "requirements.txt", "constraints.txt", "LICENSE", "README.md"}
    assert not needed - archive


def test_nothing_else_is_in(archive: set[str]) -> None:
    assert not [name for name in archive if name.startswith(("tests/", ".github/", "benchmarks/", "assets/"))]
    weights = {name for name in archive if name.endswith((".safetensors", ".pt", ".pth", ".ckpt", ".bin"))}
    assert weights == {f"delit_models/weights/delit_{name}.safetensors" for name in ("heads", "narrow_vae")}
    size = sum((REPOSITORY / name).stat().st_size for name in archive)
    assert size < LARGEST_MEGABYTES * 1e6


def test_includes_are_files_by_name() -> None:
    """A folder there would be packed with whatever somebody has put into it."""
    assert included() and all((REPOSITORY / name).is_file() for name in included())


def test_commands_that_the_documents_name_are_in(archive: set[str]) -> None:
    documents = [name for name in archive if name.endswith(".md")]
    for name in documents:
        text = (REPOSITORY / name).read_text(encoding="utf-8")
        for module in re.findall(r"-m (training\.[a-z]\w+)", text):
            assert module.replace(".", "/") + ".py" in archive, f"{name}: {module}"


def test_a_page_with_commands_says_how_they_run_on_windows_portable(archive: set[str]) -> None:
    for name in archive:
        if name.endswith(".md") and name.startswith(("README", "docs/")):
            text = (REPOSITORY / name).read_text(encoding="utf-8")
            if re.search(r"^\S*python -m training\.", text, re.MULTILINE):
                assert "python_embeded\\python.exe ComfyUI\\custom_nodes\\delit\\scripts\\run.py" in text, (
                    name
                )


def test_extensions_of_the_page_set_text_and_no_html(tracked: list[str]) -> None:
    """Our own ones; a library that is shipped beside them is its makers' to look after."""
    for name in tracked:
        if name.startswith("web/") and name.endswith(".js") and (REPOSITORY / name).stat().st_size < 100_000:
            text = (REPOSITORY / name).read_text(encoding="utf-8")
            assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", text), (
                name
            )


def test_links_between_documents_lead_somewhere(tracked: list[str]) -> None:
    for name in tracked:
        if not name.endswith(".md") or name.startswith("tests/"):
            continue
        for target in re.findall(
            r"\]\(([^)#\s]+)(?:#[^)]*)?\)", (REPOSITORY / name).read_text(encoding="utf-8")
        ):
            if not target.startswith(("http:", "https:", "mailto:")):
                assert ((REPOSITORY / name).parent / target).exists(), f"{name} links to {target}"


def _called(node: ast.Call) -> str:
    parts, function = [], node.func
    while isinstance(function, ast.Attribute):
        parts.append(function.attr)
        function = function.value
    start = function.id if isinstance(function, ast.Name) else "…"
    return ".".join([start, *reversed(parts)])


def dangers(source: str) -> list[str]:
    """Dangerous calls in Python source, shells, and JSON that is read without a bound (json_text.py has one)."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = _called(node)
            found += [name] if name in DANGEROUS else []
            found += [f"{name} with a shell" for key in node.keywords if key.arg == "shell"]
            # Of torch.load only the form that unpickles tensors alone.
            if name in ("json.load", "json.loads") and not _of_own_making(node):
                found.append(name)
            if name == "torch.load" and not any(
                k.arg == "weights_only" and getattr(k.value, "value", False) is True for k in node.keywords
            ):
                found.append("torch.load without weights_only=True")
    return found


def _of_own_making(call: ast.Call) -> bool:
    """json.loads(json.dumps(…))"""
    return isinstance(call.args[0], ast.Call) and _called(call.args[0]) == "json.dumps"


def test_no_file_runs_what_it_was_not_shipped_with(tracked: list[str]) -> None:
    """In the whole repository: the registry's scan reads all of it."""
    for name in tracked:
        if name.endswith(".py"):
            found = dangers((REPOSITORY / name).read_text(encoding="utf-8"))
            if name.startswith(NOT_THE_PACK):
                found = [call for call in found if not call.startswith(HARMLESS_THERE)]
            if name == BOUNDED:
                found = [call for call in found if not call.startswith("json.")]
            assert not found, f"{name}: {found}"


def registry_findings(text: str) -> set[str]:
    return {kind for kind, pattern in REGISTRY_FINDINGS.items() if re.search(pattern, text)}


def test_the_registrys_scan_of_the_archive_finds_nothing(archive: set[str]) -> None:
    found = {}
    for name in archive:
        content = (REPOSITORY / name).read_bytes()
        if b"\0" not in content[:4096]:
            found[name] = registry_findings(content.decode("utf-8"))
    assert len(found) > 200
    assert not {name: kinds for name, kinds in found.items() if kinds}


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("node.connect(0, other, 0);", "network"),
        ("this.draw.bind(this)", "network"),
        ("value = os.environ['HOME']", "environment"),
        ("subprocess.run(['ls'])", "command_injection"),
        ("x = eval ('1')", "dynamic_execution"),
        ("mx.eval(array)", "dynamic_execution"),
    ],
)
def test_a_text_that_the_registrys_scan_stops_at(text: str, kind: str) -> None:
    assert any(kind in found for found in registry_findings(text))


def test_what_many_packs_hold_is_no_finding() -> None:
    assert not registry_findings("model.eval()\nre.compile('x')\ncontent.bindTexture(0)\nevaluate(x)")


@pytest.mark.parametrize(
    "source",
    [
        "exec('x')",
        "os.system('ls')",
        "torch.load(path)",
        "run(['ls'], shell=True)",
        "pickle.loads(data)",
        "json.loads(path.read_text())",
    ],
)
def test_the_scan_sees_dangers(source: str) -> None:
    assert dangers(source)
