"""The rules of the source tree: layers, owners of libraries, sizes, names, and what runs on every operating system."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import mecha

PACKAGE = Path(mecha.__file__).parent
ROOT = PACKAGE.parents[1]
MODULES = sorted(PACKAGE.rglob("*.py"))
NODES = sorted((ROOT / "nodes").rglob("*.py"))

# A module imports only from lines above its own, and from its own line.
LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"errors"}),
    frozenset({"progress", "redaction", "words", "positions", "faults", "validation", "child_process"}),
    frozenset({"project"}),
    frozenset({"arena"}),
    frozenset({"catalog"}),
    frozenset({"store"}),
    frozenset({"hub"}),
    frozenset({"graph"}),
    frozenset({"detect"}),
    frozenset({"quantize"}),
    frozenset({"gate"}),
    frozenset({"service"}),
    frozenset({"runtime"}),
    frozenset({"testing"}),
    frozenset({"daemon"}),
    frozenset({"doctor"}),
    frozenset({"demo"}),
    frozenset({"cli", "__main__"}),
)

# Who may import a library, and so translates its exceptions. Names are modules or packages of mecha.
OWNERS: dict[str, frozenset[str]] = {
    "cv2": frozenset({"arena", "detect", "quantize.video", "runtime"}),
    "fastapi": frozenset({"hub", "daemon"}),
    "filelock": frozenset({"store.locks"}),
    "google": frozenset({"graph.reading"}),
    "httpx2": frozenset({"hub"}),
    "huggingface_hub": frozenset({"hub"}),
    "keyring": frozenset({"hub.keyring_login"}),
    "minisign": frozenset({"catalog.signature"}),
    "onnx": frozenset({"arena.training", "graph", "detect", "quantize", "gate"}),
    "onnxruntime": frozenset({"graph", "detect", "quantize", "gate"}),
    "openvino": frozenset({"detect"}),
    "platformdirs": frozenset({"project"}),
    "prometheus_client": frozenset({"daemon"}),
    "psutil": frozenset(
        {"store.process", "detect.session", "gate.device", "service", "runtime", "daemon", "doctor.limits"}
    ),
    "pycocotools": frozenset({"gate.tally"}),
    "rich": frozenset({"cli"}),
    "starlette": frozenset({"hub", "daemon"}),
    "supervision": frozenset({"detect.detections"}),
    "tomli": frozenset({"positions", "validation", "store.lockfile"}),
    "tomlkit": frozenset({"catalog.edit", "store.lockfile"}),
    "torch": frozenset({"arena.train", "arena.training"}),
    "typer": frozenset({"cli"}),
    "uvicorn": frozenset({"hub", "daemon"}),
    "watchdog": frozenset({"runtime"}),
    "yaml": frozenset({"hub", "quantize.dataset"}),
    "zenoh": frozenset({"runtime"}),
}
# Libraries that are part of the language here: arrays, and types of what files say.
EVERYWHERE = frozenset({"numpy", "pydantic", "pydantic_core"})

NOT_ON_EVERY_SYSTEM = frozenset(
    {"crypt", "fcntl", "grp", "nis", "ossaudiodev", "posix", "pty", "pwd", "readline", "resource", "spwd", "syslog",
     "termios", "tty", "msvcrt", "nt", "winreg", "winsound", "_winapi"}
)  # fmt: skip
NO_NOUNS = frozenset({"base", "common", "helper", "helpers", "manager", "misc", "util", "utils"})
LONGEST_MODULE = 400


@dataclass(frozen=True)
class Import:
    """One imported module, by its full name.

    Attributes:
        line: in the importing file.
        at_once: it is paid when the importing module is imported.
    """

    name: str
    line: int
    at_once: bool


def module_name(path: Path) -> str:
    """Return the name of a module of mecha without the leading `mecha.`, "" for the package itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[Import]:
    """Give every import of a file, also those within functions and those for type checkers."""
    yield from _imports(ast.parse(path.read_text(encoding="utf-8")), at_once=True)


def _imports(node: ast.AST, *, at_once: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, child.lineno, at_once) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            module = child.module or ""
            assert child.level == 0, f"line {child.lineno}: imports are absolute"
            if module == "mecha":
                yield from (Import(f"mecha.{alias.name}", child.lineno, at_once) for alias in child.names)
            else:
                yield Import(module, child.lineno, at_once)
        else:
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            checked_only = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
            yield from _imports(child, at_once=at_once and not inside and not checked_only)


def within(name: str, owners: frozenset[str]) -> bool:
    return any(name == owner or name.startswith(f"{owner}.") for owner in owners)


def layer_of(module: str) -> int | None:
    first = module.split(".", maxsplit=1)[0]
    return next((index for index, layer in enumerate(LAYERS) if first in layer), None)


def imported_from_mecha(item: Import) -> str | None:
    """Return the imported module of mecha without the leading `mecha.`; names of the package itself count as none."""
    if not item.name.startswith("mecha."):
        return None
    name = item.name.removeprefix("mecha.")
    is_module = (PACKAGE / name.split(".", maxsplit=1)[0]).is_dir() or (PACKAGE / f"{name}.py").is_file()
    return name if is_module else None


def test_imports_are_seen_wherever_they_stand(tmp_path: Path) -> None:
    file = tmp_path / "sample.py"
    file.write_text(
        "from typing import TYPE_CHECKING\nfrom mecha import errors\nimport os.path as p\n"
        "if TYPE_CHECKING:\n    import numpy as np\n"
        "try:\n    import fcntl\nexcept ImportError:\n    pass\n"
        "class A:\n    def f(self):\n        import torch.nn\n"
    )
    assert [(item.name, item.line, item.at_once) for item in imports(file)] == [
        ("typing", 1, True),
        ("mecha.errors", 2, True),
        ("os.path", 3, True),
        ("numpy", 5, False),
        ("fcntl", 7, True),
        ("torch.nn", 12, False),
    ]


def test_every_module_has_a_layer() -> None:
    assert [str(path) for path in MODULES if module_name(path) and layer_of(module_name(path)) is None] == []


def test_a_module_imports_only_from_layers_above_its_own() -> None:
    wrong: list[str] = []
    for path in MODULES:
        own = layer_of(module_name(path))
        if own is None:
            continue  # mecha/__init__.py gives the public names when they are first used
        for item in imports(path):
            name = imported_from_mecha(item)
            if name is not None and (layer := layer_of(name)) is not None and layer > own:
                wrong.append(f"{path.relative_to(ROOT)}:{item.line} imports {item.name}")
    assert wrong == []


def test_a_library_is_imported_by_its_owners_only() -> None:
    wrong: list[str] = []
    for path in MODULES:
        for item in imports(path):
            library = item.name.split(".", maxsplit=1)[0]
            if library == "mecha" or library in sys.stdlib_module_names or library in EVERYWHERE:
                continue
            if library == "_typeshed" and not item.at_once:
                continue
            if not within(module_name(path), OWNERS.get(library, frozenset())):
                wrong.append(f"{path.relative_to(ROOT)}:{item.line} imports {item.name}")
    assert wrong == []


def test_nothing_that_one_system_lacks_is_imported_with_a_module() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{item.line} imports {item.name}"
        for path in (*MODULES, *NODES)
        for item in imports(path)
        if item.at_once and item.name.split(".", maxsplit=1)[0] in NOT_ON_EVERY_SYSTEM
    ]
    assert wrong == []


def test_nodes_import_mecha_and_the_standard_library_only() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{item.line} imports {item.name}"
        for path in NODES
        for item in imports(path)
        if item.name.split(".", maxsplit=1)[0] not in {"mecha", *sys.stdlib_module_names}
    ]
    assert wrong == []


def test_a_module_is_short_enough_to_be_read() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {name: length for name, length in lengths.items() if length > LONGEST_MODULE} == {}


def test_modules_are_named_after_what_they_hold() -> None:
    assert [str(path) for path in MODULES if path.stem in NO_NOUNS or path.parent.name in NO_NOUNS] == []


@pytest.mark.parametrize("first", ["mecha", "mecha.store.models", "mecha.catalog.catalog"])
def test_finding_models_loads_nothing_heavy(first: str) -> None:
    heavy = {"numpy", "onnx", "onnxruntime", "cv2", "torch", "fastapi", "zenoh", "huggingface_hub", "httpx2", "typer",
             "tomlkit", "filelock", "psutil", "asyncio"}  # fmt: skip
    code = f"import sys, {first}; print(' '.join(sorted(set(sys.modules) & {heavy!r})))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT / "src")
    assert done.stdout.split() == []
