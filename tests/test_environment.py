"""What a record says about its origin."""

from __future__ import annotations

import getpass
import json
import os
import platform
import re
import subprocess
from pathlib import Path

import pytest
import torch

from mnistmp import doctor, paths
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


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A repository with a commit, as this checkout; another one in the folder beside it."""
    for name in ("mine", "other"):
        (tmp_path / name).mkdir()
        for command in (
            ["init", "-q"],
            ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", name, "--allow-empty"],
        ):
            subprocess.run(["git", *command], cwd=tmp_path / name, check=True)
    monkeypatch.setattr(paths, "checkout", lambda: tmp_path / "mine")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    provenance._git.cache_clear()
    yield tmp_path / "mine"
    provenance._git.cache_clear()


def commit():
    return provenance.environment("cpu", "float32", "x").get("git_commit")


@pytest.mark.parametrize("variables", [["GIT_DIR"], ["GIT_DIR", "GIT_WORK_TREE"], ["GIT_INDEX_FILE"]])
def test_a_record_names_the_commit_of_its_own_checkout_also_in_a_hook_of_another(checkout, monkeypatch, variables):
    mine = (
        (checkout / ".git/refs/heads" / (checkout / ".git/HEAD").read_text().split("/")[-1].strip()).read_text().strip()
    )
    other = checkout.parent / "other"
    places = {"GIT_DIR": other / ".git", "GIT_WORK_TREE": other, "GIT_INDEX_FILE": other / "index"}
    for name in variables:
        monkeypatch.setenv(name, str(places[name]))
    assert commit() == mine and provenance.unnamed_commit() == ""


def test_a_checkout_of_another_user_is_said(checkout, monkeypatch):
    assert doctor.git()[0] == "ok"
    provenance._git.cache_clear()
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    level, text, remedy = doctor.git()
    assert level == "warning" and "dubious ownership" in text
    assert remedy.endswith(f"git config --global --add safe.directory '{checkout}'")
    assert commit() is None


def test_code_version_follows_the_deciding_rooms_only(tmp_path, monkeypatch):
    def version(**files):
        for name, content in files.items():
            path = (tmp_path / "mnistmp" / name.replace("__", "/")).with_suffix(".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return provenance.code_version.__wrapped__()

    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "mnistmp/records/provenance.py"))
    first = version(engine__fit=b"a\nb\n", methods__rcl=b"c\n", results__table2=b"d\n", network=b"e\n")
    assert version(engine__fit=b"a\r\nb\r\n") == first  # another system's line ends
    assert version(results__table2=b"changed") == first
    for room in ("engine__fit", "methods__rcl", "network", "data__palette", "losses__new", "fast__new", "spec"):
        assert version(**{room: b"changed"}) != first
        first = version()
