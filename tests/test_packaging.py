"""The project's outside: one set of packages for pip, conda and CI, and a Makefile that explains itself."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ["3.10", "3.11", "3.12", "3.13"]
PLATFORMS = {
    "linux": {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "platform_machine": "x86_64"},
    "macos": {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix", "platform_machine": "arm64"},
    "windows": {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt", "platform_machine": "AMD64"},
}
# What the project is built on; the rest of the lock follows from these.
FOUNDATION = {
    "torch",
    "torchvision",
    "jupyterlab",
    "papermill",
    "matplotlib",
    "scikit-learn",
    "pandas",
    "pytest",
    "nbval",
}


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


PROJECT = tomllib.loads(read("pyproject.toml"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
DIRECT = [Requirement(line) for line in PROJECT["dependencies"] + sum(EXTRAS.values(), [])]
LOCK = read("requirements.lock")
PINS = [Requirement(line) for line in LOCK.splitlines() if line and not line.startswith("#")]


def pinned(name, python, platform):
    """The versions that pip would see for one package on one Python and platform."""
    # The last patch release: some pins depend on it ("python_full_version >= '3.11.5'").
    environment = {"python_version": python, "python_full_version": f"{python}.20", **PLATFORMS[platform]}
    return [
        pin.specifier
        for pin in PINS
        if canonicalize_name(pin.name) == canonicalize_name(name)
        and (pin.marker is None or pin.marker.evaluate(environment))
    ]


# ---- the lock ----


def test_lock_holds_exact_pins_only():
    for pin in PINS:
        assert pin.url is None, pin
        assert [clause.operator for clause in pin.specifier] == ["=="], pin


def test_lock_names_no_address_option_or_path():
    assert "://" not in LOCK
    header = [line for line in LOCK.splitlines() if line.startswith("#")]
    for line in LOCK.splitlines():
        assert not line.startswith("-"), line  # --index-url, --find-links, -e ...
        assert " @ " not in line and "file:" not in line, line
    assert not any("/" in line or "\\" in line for line in header), header


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("python", PYTHONS)
def test_lock_satisfies_every_direct_requirement(python, platform):
    for requirement in DIRECT:
        versions = pinned(requirement.name, python, platform)
        assert len(versions) == 1, f"{requirement.name}: {len(versions)} pins for Python {python} on {platform}"
        (version,) = (clause.version for clause in versions[0])
        assert requirement.specifier.contains(version), f"{requirement} but the lock has {version}"


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("platform", PLATFORMS)
def test_no_package_is_pinned_twice(python, platform):
    for name in {pin.name for pin in PINS}:
        assert len(pinned(name, python, platform)) <= 1, name


def test_foundation_is_declared_and_locked():
    declared = {canonicalize_name(requirement.name) for requirement in DIRECT}
    assert FOUNDATION <= declared
    assert FOUNDATION <= {canonicalize_name(pin.name) for pin in PINS}


def test_every_requirement_has_a_lower_bound_and_no_upper_one():
    for requirement in DIRECT:
        assert [clause.operator for clause in requirement.specifier] == [">="], requirement


def test_torch_and_torchvision_are_the_tested_pair():
    for python in PYTHONS[1:]:
        assert pinned("torch", python, "linux") == [SpecifierSet("==2.15.0")]
        assert pinned("torchvision", python, "linux") == [SpecifierSet("==0.29.2")]


def test_maintenance_tools_stay_out_of_the_lock():
    assert not {"pip-audit", "uv", "mnistmp"} & {canonicalize_name(pin.name) for pin in PINS}


# ---- one Python range, said in several places ----


def test_oldest_python_is_the_same_everywhere():
    oldest = PYTHONS[0]
    assert PROJECT["requires-python"] == f">={oldest}"
    assert f"--python-version {oldest} " in LOCK
    assert f"--python-version {oldest} " in read("Makefile")
    assert f"sys.version_info < ({oldest.replace('.', ', ')})" in read("Makefile")


def test_tested_pythons_are_the_same_everywhere():
    prefix = "Programming Language :: Python :: "
    assert [line[len(prefix) :] for line in PROJECT["classifiers"] if line.startswith(prefix)] == PYTHONS
    candidates = re.search(r"^PYTHON \?= (.*)$", read("Makefile"), re.MULTILINE).group(1).split()
    assert candidates[: len(PYTHONS)] == [f"python{version}" for version in reversed(PYTHONS)]
    workflow = yaml.safe_load(read(".github/workflows/ci.yml"))
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python"] == [PYTHONS[0], PYTHONS[-1]]


# ---- conda ----


def test_conda_environment_goes_through_the_same_lock():
    environment = yaml.safe_load(read("environment.yml"))
    assert environment["name"] == PROJECT["name"]
    assert environment["channels"] == ["conda-forge"]
    (through_pip,) = (item["pip"] for item in environment["dependencies"] if isinstance(item, dict))
    assert through_pip == ["-r requirements.lock", "-e ."]
    from_conda = [
        Requirement(item.replace("=", "==", 1)) for item in environment["dependencies"] if isinstance(item, str)
    ]
    assert [requirement.name for requirement in from_conda] == ["python", "pip"]
    assert str(from_conda[0].specifier).removeprefix("==") in PYTHONS


# ---- make and CI ----


def make(*arguments, folder=ROOT):
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    # Not the flags of a `make test` that may be running this very test.
    environment = {key: value for key, value in os.environ.items() if key not in {"MAKEFLAGS", "MFLAGS", "MAKELEVEL"}}
    return subprocess.run(["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


def targets():
    phony = re.search(r"^\.PHONY: (.*)$", read("Makefile"), re.MULTILINE).group(1).split()
    return set(phony) - {"force"}  # internal: a prerequisite that is never up to date


def test_make_alone_lists_every_target_with_a_line():
    listed = make()
    assert listed.returncode == 0, listed.stderr
    lines = dict(re.findall(r"^  make (\S+) +(\S.*)$", listed.stdout, re.MULTILINE))
    assert set(lines) == targets()


def test_every_target_parses():
    for target in sorted(targets() - {"clean"}):
        dry = make("--dry-run", target)
        assert dry.returncode == 0, f"{target}: {dry.stderr}"


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
    failed = make("setup", folder=bare_checkout)
    assert failed.returncode != 0
    assert (bare_checkout / ".venv/bin/python").exists()
    assert not (bare_checkout / ".venv/.installed").exists()

    # An empty lock and a pip that does nothing: only the bookkeeping is of interest here.
    lock.write_text("")
    assert make("setup", "PIP=true", folder=bare_checkout).returncode == 0
    assert (bare_checkout / ".venv/.installed").exists()
    assert "install" not in make("setup", "PIP=true", folder=bare_checkout).stdout

    # A lock that changed means installing again, and so does a checkout that moved.
    newer = (bare_checkout / ".venv/.installed").stat().st_mtime + 5
    os.utime(lock, (newer, newer))
    assert "install -r requirements.lock" in make("setup", "PIP=true", folder=bare_checkout).stdout
    moved = bare_checkout.rename(bare_checkout.with_name("moved"))
    os.utime(lock := moved / "requirements.lock", (0, 0))
    assert "Making .venv" in make("setup", "PIP=true", folder=moved).stdout


@pytest.mark.parametrize(
    "said, code, shown",
    [
        ("Traceback (most recent call last):\n  File x\nConnectionError: no route", 1,
         "The locked packages could not be looked up (ConnectionError: no route ...), so nothing is known about them: "
         "run make audit where PyPI can be reached.\n"),
        ("ERROR:pip_audit._cli:anyio: Dependency not found on PyPI and could not be audited: anyio (4.16.0)", 1,
         "The locked packages could not be looked up (anyio: Dependency not found on PyPI and could not be audited: "
         "anyio (4.16.0) ...), so nothing is known about them: run make audit where PyPI can be reached.\n"),
        ("Found 1 known vulnerability in 1 package", 1, "Found 1 known vulnerability in 1 package\n"),
        ("No known vulnerabilities found", 0, "No known vulnerabilities found\n"),
    ],
)  # fmt: skip
def test_an_audit_that_could_not_look_up_is_no_pass(bare_checkout, said, code, shown):
    tool = bare_checkout / ".venv-audit/bin/pip-audit"
    tool.parent.mkdir(parents=True)
    tool.write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{said}\nEND\nexit {code}\n")
    tool.chmod(0o755)
    audit = make("audit", folder=bare_checkout)
    assert (audit.returncode == 0) == (code == 0)
    assert "".join(line for line in audit.stderr.splitlines(True) if not line.startswith("make")) == shown


def test_ci_runs_the_tests_and_hides_no_failure():
    script = read(".ci/run")
    assert "set -euo pipefail" in script
    assert re.search(r"^make test$", script, re.MULTILINE)
    assert re.search(r"^make reproduce ", script, re.MULTILINE)
    assert "|| true" not in script and "set +e" not in script
    assert os.access(ROOT / ".ci/run", os.X_OK)
    steps = yaml.safe_load(read(".github/workflows/ci.yml"))["jobs"]["test"]["steps"]
    assert [step["run"] for step in steps if "run" in step] == [".ci/run"]


# ---- the notebook comparison ----


@pytest.mark.parametrize(
    "printed, compared",
    [
        ("<torch._C.Generator object at 0x7f3a12bc9d50>", "<torch._C.Generator object at 0xADDRESS>"),
        ("<Figure size 640x480 with 2 Axes>", "<Figure>"),
        ("epoch 3: 12.4 s, 480 ms", "epoch 3: DURATION, DURATION"),
        ("took 0:01:23", "took CLOCK"),
        ("saved /home/ada/mnistmp/figures/one.png", "saved PATH"),
        (r"saved C:\Users\ada\figures\one.png", "saved PATH"),
        # Results stay as they are.
        ("test 0.694 ± 0.012 over 10 seeds, 1437/360, Conv2d(3, 64)", None),
        ("figures/margin_curve.png and results/paper/table2.md", None),
        ("2s - 3 heads, 98.5 % at epoch 7", "DURATION - 3 heads, 98.5 % at epoch 7"),
    ],
)
def test_sanitizer_hides_only_what_differs_between_runs(printed, compared):
    # The pairs are found the way nbval finds them.
    pairs = re.findall("^regex: (.*)$\n^replace: (.*)$", read("tests/nbval_sanitize.cfg"), flags=re.MULTILINE)
    assert len(pairs) == 5
    sanitized = printed
    for regex, replace in pairs:
        sanitized = re.sub(regex, replace, sanitized)
    assert sanitized == (printed if compared is None else compared)
