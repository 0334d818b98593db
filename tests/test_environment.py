"""What a record says about its origin."""

from __future__ import annotations

import getpass
import json
import platform
import re
from pathlib import Path

import torch

from mnistmp.records import provenance


def test_environment_is_flat_and_complete():
    found = provenance.environment("cpu", "bfloat16", "reference")
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert all(isinstance(value, (str, int, bool)) and value != "" for value in found.values())
    assert set(provenance.PACKAGES) < set(found) and found["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert (found["precision"], found["path"], found["threads"]) == ("bfloat16", "reference", torch.get_num_threads())
    assert re.fullmatch("[0-9a-f]{12}", found["code_version"])
    assert re.fullmatch("[0-9a-f]{40}", found.get("git_commit", "0" * 40))


def test_environment_names_neither_host_nor_user_nor_folder():
    text = json.dumps(provenance.environment("cpu", "float32", "reference"))
    for private in (platform.node(), str(Path.home()), str(Path(__file__).parent), f"/{getpass.getuser()}"):
        assert len(private) < 4 or private not in text


def test_code_version_follows_the_deciding_files_only(tmp_path, monkeypatch):
    def version(**files):
        package = tmp_path / "mnistmp"
        (package / "methods").mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (package / name.replace("__", "/")).with_suffix(".py").write_bytes(content)
        provenance.code_version.cache_clear()
        return provenance.code_version()

    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "mnistmp" / "environment.py"))
    try:
        first = version(training=b"a\nb\n", methods__rcl=b"c\n", report=b"d\n")
        assert version(training=b"a\r\nb\r\n") == first  # another system's line ends
        assert version(report=b"changed") == first
        assert version(methods__rcl=b"changed") != first
        assert version(methods__rcl=b"c\n") == first
        assert version(methods__rsc=b"") != first
    finally:
        provenance.code_version.cache_clear()
