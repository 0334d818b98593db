"""The rooms of the library: each knows only those before it in this list."""

import ast
from pathlib import Path

import mnistmp

PACKAGE = Path(mnistmp.__file__).parent
ROOMS = ["errors", "paths", "files", "own", "data", "losses", "network", "fast", "methods", "spec", "selection",
         "records", "engine", "interpretations", "paper", "evidence", "lineage", "results", "figures", "latent",
         "sweep", "site", "release", "doctor", "verbs", "cli"]  # fmt: skip
SCHEMA = {"record", "provenance"}  # what a fit returns: all of `records` that `engine` knows


def imports(path):
    """(room, module in it or None) for everything of ours that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: import by the full name"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for package, room, module in ((*name.split("."), None, None)[:3] for name in names):
            if package == "mnistmp" and not room.startswith("__"):
                yield room, module


def test_rooms_know_only_those_before_them():
    files = [path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or not path.stem.startswith("__")]
    rooms = {path: path.relative_to(PACKAGE).with_suffix("").parts[0] for path in files}
    assert set(rooms.values()) == set(ROOMS)
    wrong = {
        f"{path.relative_to(PACKAGE)} imports {room}.{module}"
        for path, here in rooms.items()
        for room, module in imports(path)
        if ROOMS.index(room) > ROOMS.index(here) or (here, room) == ("engine", "records") and module not in SCHEMA
    }
    assert not wrong
