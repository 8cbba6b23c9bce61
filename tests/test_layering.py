"""Who may import whom inside the package: the table of the design, checked on the source.

A room is a module or a folder directly inside the package. What every implementation of a room has
in common, its `interface.py`, is a room of its own, and so is `hooks/events.py`. Every import
counts: also inside a function, also relative, also for type checking alone.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = "tusd_py"
ROOT = Path(__file__).parent.parent / PACKAGE

IMPLEMENTED = ("storage", "state", "locks", "hooks", "auth")
INTERFACES = frozenset(f"{room}/interface" for room in IMPLEMENTED)
EVENTS = frozenset({"hooks/events"})
SHARED = frozenset({"protocol", "body"})
PLACES = SHARED | INTERFACES | EVENTS

MAY_IMPORT: dict[str, frozenset[str]] = {
    "protocol": frozenset(),
    "body": frozenset({"protocol"}),
    **dict.fromkeys(INTERFACES | EVENTS, SHARED),
    **dict.fromkeys(("state/interface", "storage/interface"), SHARED | EVENTS),
    **dict.fromkeys(IMPLEMENTED, PLACES),
    "engine": PLACES,
    "numbers": frozenset(),
    "metrics": EVENTS | {"numbers"},
    "tracing": EVENTS,
    "asgi": PLACES | {"engine", "metrics"},
    "wire": frozenset({"body"}),
    "client": frozenset({"protocol", "config"}),
    "config": frozenset({"protocol"}),
    "cli": frozenset({"wiring", "tools", "app", "client", "config"}),
}
EVERYTHING = frozenset(MAY_IMPORT) - {"cli"} | {"wiring", "app"}
MAY_IMPORT |= dict.fromkeys(("wiring", "tools", "app", "__init__"), EVERYTHING)

WITH_THE_WORLD = {"asyncio", "logging", "time", "os", "pathlib", "socket", "threading"}
"""Modules of the standard library that a room without input and output has no use for."""


def room_of(module: str) -> str:
    """The room that a module of the package, or a name inside it, belongs to."""
    _, *parts = module.split(".")
    path = "/".join(parts[:2])
    if path in MAY_IMPORT:
        return path
    top = parts[0] if parts else "__init__"
    return "cli" if top == "__main__" else top


def imports(module: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Lines and the full names that are imported there, down to the name taken from a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[: -node.level] if node.level else []
            base = [*above, *([node.module] if node.module else [])]
            yield from ((node.lineno, ".".join([*base, alias.name])) for alias in node.names)


def complaints(module: str, source: str) -> list[str]:
    """What is wrong with a module, `<module>:<line>: <what>`; `module` ends in the file's name."""
    room = room_of(module)
    if room not in MAY_IMPORT:
        return [f"{module}:1: unknown room {room}"]
    tree = ast.parse(source)
    found = [*_crossings(module, room, tree)]
    if room == "protocol":
        found += _worldly(module, tree)
    if room == "__init__":
        found += _more_than_re_exports(tree)
    return [f"{module}:{line}: {what}" for line, what in sorted({*found})]


def _crossings(module: str, room: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    for line, name in imports(module, tree):
        if name.partition(".")[0] != PACKAGE:
            if room == "protocol" and name.partition(".")[0] not in sys.stdlib_module_names:
                yield line, f"protocol may not import {name}: it is not in the standard library"
            continue
        target = room_of(name)
        if target == "__version__" and room != "protocol":
            continue  # a constant and no room: the one name that may be taken from above
        if target not in MAY_IMPORT:
            yield line, f"{room} may not import {name}: unknown room {target}"
        elif target not in MAY_IMPORT[room] | {room}:
            yield line, f"{room} may not import {target}"


def _worldly(module: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    for line, name in imports(module, tree):
        if name.partition(".")[0] in WITH_THE_WORLD:
            yield line, f"protocol may not import {name.partition('.')[0]}: it is sans-IO"
    for node in ast.walk(tree):
        if isinstance(node, ast.AsyncFunctionDef):
            yield node.lineno, f"protocol may not be async: {node.name}"


def _more_than_re_exports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for number, node in enumerate(tree.body):
        match node:
            case ast.Expr(value=ast.Constant(value=str())) if number == 0:
                pass
            case ast.Assign(targets=[ast.Name(id="__all__" | "__version__")]):
                pass
            case ast.ImportFrom(module=str(name)) if name.partition(".")[0] == PACKAGE:
                pass
            case ast.ImportFrom(level=1):
                pass
            case _:
                yield node.lineno, "__init__ may only re-export"


def module_of(path: Path) -> str:
    return ".".join([PACKAGE, *path.relative_to(ROOT).with_suffix("").parts])


def test_every_import_in_the_package_keeps_to_the_table() -> None:
    """A room that reaches into another cannot be replaced, or understood, on its own any more."""
    files = sorted(ROOT.rglob("*.py"))
    assert len(files) > 20, "the check looks at the wrong place"
    assert "protocol" in {room_of(module_of(path)) for path in files}
    found = [one for path in files for one in complaints(module_of(path), path.read_text())]
    assert found == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("protocol.tus1", "import re, json\nfrom email.utils import formatdate"),
        ("protocol.tus1", "from tusd_py.protocol import abnf\nfrom . import headers"),
        ("body", "from tusd_py.protocol.checksum import Digest\nimport anyio"),
        ("storage.interface", "from tusd_py.body import Body\nfrom tusd_py import protocol"),
        ("state.interface", "from tusd_py.hooks.events import OutboxEvent"),
        ("storage.interface", "from tusd_py.hooks.events import Observer"),
        ("hooks.events", "from tusd_py.protocol.upload import Phase"),
        ("storage.s3", "from tusd_py.storage.s3_parts import plan\nfrom .interface import Storage"),
        ("state.sqlite", "from tusd_py.hooks import events\nfrom ..locks.interface import Locks"),
        (
            "engine.append",
            "from tusd_py.state import interface\nfrom tusd_py.auth import interface",
        ),
        ("metrics", "import tusd_py.hooks.events"),
        ("asgi.routes", "from tusd_py import __version__, engine, metrics, body"),
        ("wire.http", "from tusd_py.body import Received"),
        ("client.transfer", "from tusd_py.protocol.headers import TUS_VERSION"),
        ("config", "from tusd_py.protocol.decide import Limits"),
        ("wiring", "from tusd_py import wire, client, app\nfrom tusd_py.state import sqlite"),
        ("app", "from tusd_py.wiring import build"),
        ("__init__", "from .app import TusApp"),
        ("cli", "from tusd_py import wiring, app, client, config"),
        ("__main__", "from tusd_py.cli import main"),
        (
            "__init__",
            '"""Doc."""\nfrom tusd_py.app import TusApp\n__version__ = "1"\n__all__ = ["TusApp"]',
        ),
    ],
)
def test_the_table_allows(module: str, source: str) -> None:
    assert complaints(f"{PACKAGE}.{module}", source) == []


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("protocol.tus1", "from tusd_py.body import Body", "1: protocol may not import body"),
        (
            "protocol.tus1",
            "import httpx",
            "1: protocol may not import httpx: it is not in the standard library",
        ),
        ("protocol.tus1", "from os import path", "1: protocol may not import os: it is sans-IO"),
        ("protocol.tus1", "import os.path", "1: protocol may not import os: it is sans-IO"),
        *(
            (
                "protocol.tus1",
                f"def f():\n    import {name}",
                f"2: protocol may not import {name}: it is sans-IO",
            )
            for name in sorted(WITH_THE_WORLD)
        ),
        (
            "protocol.tus1",
            "class A:\n    async def f(self): ...",
            "2: protocol may not be async: f",
        ),
        (
            "protocol.tus1",
            "from tusd_py import __version__",
            "1: protocol may not import tusd_py.__version__: unknown room __version__",
        ),
        ("body", "from tusd_py.engine import append", "1: body may not import engine"),
        (
            "storage.interface",
            "from tusd_py.locks.interface import Lease",
            "1: storage/interface may not import locks/interface",
        ),
        (
            "locks.interface",
            "from tusd_py.hooks.events import Event",
            "1: locks/interface may not import hooks/events",
        ),
        (
            "state.interface",
            "from tusd_py.state.sqlite import Store",
            "1: state/interface may not import state",
        ),
        (
            "hooks.interface",
            "from . import events",
            "1: hooks/interface may not import hooks/events",
        ),
        ("hooks.events", "from .outbox import Outbox", "1: hooks/events may not import hooks"),
        ("storage.disk", "from tusd_py.state.sqlite import x", "1: storage may not import state"),
        ("state.sqlite", "from tusd_py.locks import host", "1: state may not import locks"),
        ("locks.host", "from ..storage import disk", "1: locks may not import storage"),
        ("hooks.http", "import tusd_py.auth.jwt", "1: hooks may not import auth"),
        ("auth.jwt", "from tusd_py.hooks import http", "1: auth may not import hooks"),
        ("storage.disk", "from tusd_py import engine", "1: storage may not import engine"),
        ("engine.append", "from tusd_py.asgi import body", "1: engine may not import asgi"),
        ("engine.append", "from tusd_py.state import *", "1: engine may not import state"),
        ("engine.append", "from tusd_py.state import sqlite", "1: engine may not import state"),
        ("engine.append", "import tusd_py", "1: engine may not import __init__"),
        (
            "engine.append",
            "from tusd_py import TusApp",
            "1: engine may not import tusd_py.TusApp: unknown room TusApp",
        ),
        ("metrics", "from tusd_py.protocol import upload", "1: metrics may not import protocol"),
        ("asgi.routes", "from tusd_py.wire import http", "1: asgi may not import wire"),
        ("asgi.routes", "from tusd_py.storage import disk", "1: asgi may not import storage"),
        ("wire.http", "from tusd_py.protocol import abnf", "1: wire may not import protocol"),
        ("wire.http", "from tusd_py.asgi import body", "1: wire may not import asgi"),
        ("client.link", "from tusd_py.body import Body", "1: client may not import body"),
        (
            "config",
            "from tusd_py.storage.interface import S",
            "1: config may not import storage/interface",
        ),
        ("wiring", "from tusd_py.cli import main", "1: wiring may not import cli"),
        ("app", "from tusd_py import __main__", "1: app may not import cli"),
        ("cli", "from tusd_py.engine import append", "1: cli may not import engine"),
        ("__main__", "from tusd_py.storage import disk", "1: cli may not import storage"),
        ("__init__", "from tusd_py.cli import main", "1: __init__ may not import cli"),
        ("__init__", '"""Doc."""\nimport os', "2: __init__ may only re-export"),
        ("__init__", "from tusd_py.app import T\ndef f(): ...", "2: __init__ may only re-export"),
        ("__init__", "from tusd_py.app import T\nlimit = 5", "2: __init__ may only re-export"),
        ("utils", "", "1: unknown room utils"),
        ("utils.text", "", "1: unknown room utils"),
        (
            "engine.append",
            "import tusd_py.utils",
            "1: engine may not import tusd_py.utils: unknown room utils",
        ),
        (
            "body",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .engine import append",
            "3: body may not import engine",
        ),
        ("body", "def f():\n    from tusd_py.asgi.body import B", "2: body may not import asgi"),
        (
            "state.__init__",
            "from .sqlite import S\nfrom ..locks import host",
            "2: state may not import locks",
        ),
    ],
)
def test_the_table_forbids(module: str, source: str, complaint: str) -> None:
    assert complaints(f"{PACKAGE}.{module}", source) == [f"{PACKAGE}.{module}:{complaint}"]
