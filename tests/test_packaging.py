"""The project's outside: one set of packages for pip, conda and CI, and a Makefile that sets itself up."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ["3.10", "3.11", "3.12", "3.13"]
PLATFORMS = [
    {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "platform_machine": "x86_64"},
    {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix", "platform_machine": "arm64"},
    {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt", "platform_machine": "AMD64"},
]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
ASKED = map(Requirement, sum(PROJECT["optional-dependencies"].values(), PROJECT["dependencies"]))
DIRECT = [one for one in ASKED if one.name != PROJECT["name"]]  # an extra may take another one along
LOCK = [line for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines() if line[0] != "#"]


def test_the_lock_holds_exact_pins_and_no_address():
    for line in LOCK:
        assert re.fullmatch(r"[\w.-]+==[\w.+]+( ; .*)?", line), line
    assert "://" not in (ROOT / "requirements.lock").read_text(encoding="utf-8")


@pytest.mark.parametrize("platform", PLATFORMS, ids=lambda platform: platform["sys_platform"])
@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_has_one_version_of_everything_that_is_asked_for(python, platform):
    # The last patch release: some pins depend on it ("python_full_version >= '3.11.5'").
    environment = {"python_version": python, "python_full_version": f"{python}.20", **platform}
    pins = [pin for pin in map(Requirement, LOCK) if not pin.marker or pin.marker.evaluate(environment)]
    versions = {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in pins}
    assert len(versions) == len(pins)
    for one in DIRECT:
        assert one.specifier.contains(versions[canonicalize_name(one.name)]), one


def test_conda_and_continuous_integration_take_the_same_lock_and_pythons():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    python, pip, through_pip = environment["dependencies"]
    assert through_pip == {"pip": ["-r requirements.lock", "-e ."]} and pip == "pip"
    assert python.removeprefix("python=") in PYTHONS
    prefix = "Programming Language :: Python :: "
    assert [line.removeprefix(prefix) for line in PROJECT["classifiers"] if line.startswith(prefix)] == PYTHONS
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python"] == [PYTHONS[0], PYTHONS[-1]]


def test_an_installed_copy_has_all_files():
    patterns = PYPROJECT["tool"]["setuptools"]["package-data"]["mnistmp"]
    package = ROOT / "mnistmp"
    installed = {path for pattern in patterns for path in package.glob(pattern)}
    assert installed == {path for path in package.rglob("*.*") if path.suffix not in (".py", ".pyc", ".nbi", ".nbc")}


# ---- make ----


def make(*arguments, folder=ROOT):
    # Not the flags of a `make test` that may be running this very test.
    environment = {key: value for key, value in os.environ.items() if key not in {"MAKEFLAGS", "MFLAGS", "MAKELEVEL"}}
    return subprocess.run(["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


def test_make_alone_lists_targets_that_exist():
    targets = re.findall(r"^  make (\S+) +\S", make().stdout, re.MULTILINE)
    assert {"reproduce", "demo", "paper", "test", "lab", "report", "figures", "bench", "doctor"} < set(targets)
    dry = make("--dry-run", *targets)
    assert dry.returncode == 0, dry.stderr


@pytest.fixture
def bare_checkout(tmp_path):
    """What `make setup` looks at, without an environment."""
    for name in ["Makefile", "pyproject.toml", "requirements.lock"]:
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def test_no_suitable_python_is_one_sentence(bare_checkout):
    old = bare_checkout / "old-python"
    old.write_text("#!/bin/sh\nexit 1\n")  # what the version check of an old Python answers
    old.chmod(0o755)
    setup = make("setup", "PYTHON=./old-python no-such-python", folder=bare_checkout)
    assert setup.returncode != 0
    sentence, *_ = setup.stderr.splitlines()
    assert sentence.startswith("mnistmp needs Python 3.10 or newer") and "PYTHON=" in sentence
    assert not (bare_checkout / ".venv").exists()


@pytest.mark.slow
def test_failed_installation_leaves_no_stamp_and_the_next_one_goes_on(bare_checkout):
    lock = bare_checkout / "requirements.lock"
    lock.write_text("no-such-file-of-ours.whl\n")
    assert make("setup", folder=bare_checkout).returncode != 0
    assert (bare_checkout / ".venv/bin/python").exists()
    assert not (bare_checkout / ".venv/.installed").exists()

    # An empty lock and a pip that does nothing: only the bookkeeping is of interest here.
    lock.write_text("")
    assert make("setup", "PIP=true", folder=bare_checkout).returncode == 0
    assert "install" not in make("setup", "PIP=true", folder=bare_checkout).stdout

    # A lock that changed means installing again, and so does a checkout that moved.
    newer = (bare_checkout / ".venv/.installed").stat().st_mtime + 5
    os.utime(lock, (newer, newer))
    assert "install -r requirements.lock" in make("setup", "PIP=true", folder=bare_checkout).stdout
    moved = bare_checkout.rename(bare_checkout.with_name("moved"))
    os.utime(moved / "requirements.lock", (0, 0))
    assert "Making .venv" in make("setup", "PIP=true", folder=moved).stdout


def stub_python(folder):
    """A python that makes real environments without packages; whatever else it is asked for it notes, and fails at."""
    python = folder / "python"
    python.write_text(f"""#!/bin/sh
case "$1 $2" in
"-m venv") '{sys.executable}' -m venv --without-pip --clear .venv && ln -sf ../../python .venv/bin/python;;
"-m pytest") echo "$@" >>asked; exit 7;;
esac
""")
    python.chmod(0o755)


@pytest.mark.parametrize("name", ["it's", "a b $x #1 100% ü's", 'say "so"'])
def test_make_works_in_a_folder_of_any_name(bare_checkout, name):
    folder = bare_checkout / name
    folder.mkdir()
    for file in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.move(bare_checkout / file, folder)
    stub_python(folder)
    first, again = (make("setup", "PIP=true", "PYTHON=./python", folder=folder) for _ in range(2))
    assert (first.returncode, first.stderr) == (again.returncode, again.stderr) == (0, "")
    assert "Making .venv" in first.stdout and "Making .venv" not in again.stdout
    moved = folder.rename(folder.with_name("moved"))
    assert "Making .venv" in make("setup", "PIP=true", "PYTHON=./python", folder=moved).stdout


def test_make_test_tries_the_notebooks_also_where_a_test_fails(bare_checkout):
    stub_python(bare_checkout)
    done = make("test", "PIP=true", "PYTHON=./python", folder=bare_checkout)
    assert done.returncode != 0 and "exit codes: 7 of the tests, 7 of the notebooks" in done.stdout
    notebooks, tests = sorted((bare_checkout / "asked").read_text().splitlines(), key=lambda one: "--nbval" not in one)
    assert "--nbval" not in tests and "--nbval-lax" in notebooks


# ---- the notebook comparison ----


@pytest.mark.parametrize(
    "printed, compared",
    [
        ("<torch._C.Generator object at 0x7f3a12bc9d50>", "<torch._C.Generator object at 0xADDRESS>"),
        ("<Figure size 640x480 with 2 Axes>", "<Figure>"),
        ("epoch 3: 12.4 s, 480 ms; took 0:01:23", "epoch 3: DURATION, DURATION; took CLOCK"),
        ("saved /home/ada/mnistmp/figures/one.png", "saved PATH"),
        (r"saved C:\Users\ada\figures\one.png", "saved PATH"),
        # Results stay as they are.
        ("test 0.694 ± 0.012 over 10 seeds, 1437/360, Conv2d(3, 64)", None),
        ("figures/margin_curve.png and results/paper/table2.md", None),
    ],
)
def test_sanitizer_hides_only_what_differs_between_runs(printed, compared):
    # The pairs are found the way nbval finds them.
    text = (ROOT / "tests/nbval_sanitize.cfg").read_text(encoding="utf-8")
    sanitized = printed
    for regex, replace in re.findall("^regex: (.*)$\n^replace: (.*)$", text, flags=re.MULTILINE):
        sanitized = re.sub(regex, replace, sanitized)
    assert sanitized == (printed if compared is None else compared)
