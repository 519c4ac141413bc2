"""The house keeps its floors: imports point down, and rooms on one floor do not know each other."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.lab.aws import REPOSITORY

FACES = {
    "entrypoint",
    "backup.__main__",
    "backup.cli",
    "backup.container",
    "backup.endings",
    "backup.lambda_function",
    "backup.program",
    "backup.terminal",
}
OPERATIONS = {"backup.operations"}
ADAPTERS = {
    "backup.archive",
    "backup.aws",
    "backup.github",
    "backup.postgres",
    "backup.report",
    "backup.ssh",
    "backup.webhook",
}
GROUND = {
    "backup",
    "backup.accounts",
    "backup.checks",
    "backup.console",
    "backup.errors",
    "backup.fleet",
    "backup.inputs",
    "backup.interruption",
    "backup.processes",
    "backup.reading",
    "backup.rows",
    "backup.model",
    "backup.options",
    "backup.settings",
    "backup.store",
    "backup.verdicts",
    "backup.wording",
}
FLOORS = [GROUND, ADAPTERS, OPERATIONS, FACES]
MODULES = {
    ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__"): path
    for path in (REPOSITORY / "entrypoint.py", *sorted((REPOSITORY / "backup").rglob("*.py")))
}


def room(module: str) -> str:
    """The package or module that stands in a floor's list."""
    parts = module.split(".")
    return ".".join(parts[:2]) if len(parts) > 1 else module


def floor(module: str) -> int:
    (number,) = [number for number, rooms in enumerate(FLOORS) if room(module) in rooms]
    return number


def imports(path: Path) -> set[str]:
    """Every module of ours that a file imports, inside functions and type checks too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import(names):
                found |= {alias.name for alias in names}
            case ast.ImportFrom(module, names, 0) if module:
                # `from backup import settings` names a module, `from backup.x import y` a thing.
                found |= {
                    f"{module}.{alias.name}" if f"{module}.{alias.name}" in MODULES else module
                    for alias in names
                }
            case ast.ImportFrom():
                found.add(f"a relative import in {path.name}")
    return {name for name in found if name.split(".")[0] in ("backup", "entrypoint", "a relative")}


def test_every_module_has_its_floor() -> None:
    assert {room(module) for module in MODULES} == set().union(*FLOORS)


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    for imported in imports(MODULES[module]):
        assert floor(imported) <= floor(module), f"{module} imports {imported}, which is above it"


@pytest.mark.parametrize("module", [name for name in MODULES if room(name) in ADAPTERS])
def test_adapters_do_not_know_one_another(module: str) -> None:
    neighbours = {
        imported
        for imported in imports(MODULES[module])
        if floor(imported) == floor(module) and room(imported) != room(module)
    }
    assert set() == neighbours


def test_only_the_github_adapter_and_the_faces_know_the_runner() -> None:
    for module, path in MODULES.items():
        if room(module) not in FACES | OPERATIONS | {"backup.github"}:
            text = path.read_text()
            assert "GITHUB_" not in text, module
            assert "ACTIONS_ID_TOKEN" not in text, module


def test_the_sdk_is_used_in_the_aws_adapter_alone_and_the_driver_in_the_postgres_adapter() -> None:
    for module, path in MODULES.items():
        packages = {
            name.split(".")[0]
            for node in ast.walk(ast.parse(path.read_text()))
            for name in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        }
        assert "botocore" not in packages or room(module) == "backup.aws", module
        # libpq itself reads a URL, so the reading of inputs asks it.
        allowed = room(module) in ("backup.postgres", "backup.inputs")
        assert "psycopg" not in packages or allowed, module
