"""`mnistmp doctor` on machines where something is broken: it says so, says what to do, and never falls over itself."""

import json
import os
import subprocess
import sys
import warnings
from collections import namedtuple
from pathlib import Path

import pytest

from mnistmp import cli, data, doctor, paths

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def nothing_is_downloaded(monkeypatch):
    monkeypatch.setattr(data.digits, "_download", lambda root: pytest.fail("the doctor downloads"))


def fake_package(folder, name, code):
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text(code)


# ---- the command ----


def test_a_machine_without_torch_is_examined_all_the_same(tmp_path):
    """The moment it is needed: torch and others cannot be imported, and there are no results yet."""
    fake_package(tmp_path, "pydantic", "raise ImportError")
    fake_package(tmp_path, "torch", "raise ImportError('libcudart.so.13: cannot open shared object file')")
    variables = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "MNISTMP_RESULTS": str(tmp_path / "new")}
    command = [sys.executable, "-m", "mnistmp", "doctor", "--json"]
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=240)
    assert done.returncode == 1 and done.stderr == ""
    answer = json.loads(done.stdout)
    *before, torch = answer["findings"]
    assert answer["ok"] is False and torch["name"] == "torch" and torch["level"] == "error"
    assert torch["text"] == "ImportError: libcudart.so.13: cannot open shared object file"
    assert "pip install -r requirements.lock" in torch["remedy"]
    assert [one["name"] for one in before] == list(doctor.CHECKS)[: list(doctor.CHECKS).index("torch")]
    assert {one["name"]: one["level"] for one in before}["kernel python3"] == "ok"
    assert not (tmp_path / "new").exists()  # looking leaves nothing behind


def test_lines_and_exit_code(monkeypatch, capsys):
    findings = [doctor.Finding("one", "ok", "is well"), doctor.Finding("two", "warning", "is slow", "do this")]
    monkeypatch.setattr(doctor, "examine", lambda: iter(findings))
    assert cli.main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:] == ["warning  two: is slow", "         -> do this",
                         "This machine can run mnistmp; errors: 0, warnings: 1."]  # fmt: skip
    findings.append(doctor.Finding("three", "error", "is broken", "do that"))
    assert cli.main(["doctor"]) == 1
    assert capsys.readouterr().out.endswith("cannot run all of mnistmp; errors: 1, warnings: 1.\n")


# ---- a check that raises, hangs or ends the process ----


@pytest.mark.parametrize(
    "code, text",
    [
        ("import os; os.kill(os.getpid(), 4)", "trying it ended the process (SIGILL)"),
        ("import os, sys; print('no luck', file=sys.stderr, flush=True); os._exit(3)",
         "trying it ended the process (code 3: no luck)"),
        ("import time; print('chatter', flush=True); time.sleep(600)", "no answer within 5 s"),
        ("raise RuntimeError('no luck' + chr(10) + 'and more')", "RuntimeError: no luck"),
    ],
)  # fmt: skip
def test_no_check_ends_the_doctor(tmp_path, monkeypatch, code, text):
    fake_package(tmp_path, "psutil", code)  # what the memory is read with
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")
    monkeypatch.setattr(doctor, "PATIENCE", 5)
    monkeypatch.setattr(doctor, "CHECKS", dict.fromkeys(["Python", "memory", "notebooks"]))
    found = list(doctor.examine())
    assert [(one.name, one.level) for one in found] == [("Python", "ok"), ("memory", "error"), ("notebooks", "ok")]
    assert found[1].text == text and "requirements.lock" in found[1].remedy


# ---- the checks ----


def test_compiled_kernels(monkeypatch):
    from mnistmp.fast import kernels

    assert doctor.kernels()[0] == "ok"
    monkeypatch.setattr(kernels, "in_use", lambda: warnings.warn("numba is gone", stacklevel=1) or "torch")
    assert doctor.kernels()[:2] == ("warning", "numba is gone")
    monkeypatch.setattr(kernels, "in_use", lambda: "off")
    assert doctor.kernels()[2] == "unset MNISTMP_KERNELS"


def test_precision(monkeypatch):
    from mnistmp.engine import device

    monkeypatch.setattr(device, "native_bfloat16", lambda: False)
    level, text, remedy = doctor.precision()
    assert level == "warning" and "preset paper takes much longer" in text and "--precision float32" in remedy
    monkeypatch.setattr(device, "native_bfloat16", lambda: True)
    assert doctor.precision()[0] == "ok"


def test_gpus(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(doctor.os.path, "exists", lambda path: False)
    assert doctor.gpu() == ("ok", "none; runs take the processor", "")
    monkeypatch.setattr(doctor.os.path, "exists", lambda path: True)
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "this torch was built without CUDA" in doctor.gpu()[1]
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    level, text, remedy = doctor.gpu()
    assert level == "warning" and "torch cannot use it" in text and "install a torch" in remedy

    def broken(*_, device):
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "ones", broken)
    level, text, remedy = doctor.gpu()
    assert level == "error" and "no kernel image" in text and "CUDA_VISIBLE_DEVICES" in remedy


def test_mnist_that_is_not_there_or_not_whole(monkeypatch, tmp_path):
    monkeypatch.setenv("MNISTMP_DATA", str(tmp_path))
    raw = tmp_path / "MNIST/raw"
    level, text, remedy = doctor.mnist()
    first = raw / next(iter(data.MNIST_SHA256))
    assert level == "warning" and text.startswith(f"{first.name} is missing in {tmp_path} ")
    assert remedy.startswith("run mnistmp data, which downloads it") and "MNISTMP_DATA" in remedy
    raw.mkdir(parents=True)
    first.write_bytes(bytes(116))
    level, text, remedy = doctor.mnist()
    assert (level, text) == ("error", f"{first} is not the published file, by its SHA-256 (116 bytes)")
    assert remedy.startswith("delete it to have it downloaded again")


def test_kernels_that_do_not_start_or_are_of_another_python(monkeypatch, tmp_path):
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "1")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "prefix", str(tmp_path))
        level, text, remedy = doctor.kernel()
    assert level == "error" and text == f"runs in {sys.prefix}, and mnistmp in {tmp_path}"
    assert "python -m ipykernel install --sys-prefix" in remedy
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    place = tmp_path / "kernels/python3"
    place.mkdir(parents=True)
    gone = [str(tmp_path / "a-python-that-is-gone"), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (place / "kernel.json").write_text(json.dumps({"argv": gone, "display_name": "Python 3", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    level, text, _ = doctor.kernel()
    assert level == "error" and text.startswith("does not start (") and "a-python-that-is-gone" in text


def test_places_that_cannot_be_written(monkeypatch, tmp_path):
    blocked = tmp_path / "blocked"
    blocked.write_text("a file, so that even root cannot make a folder of it")
    monkeypatch.setenv("MNISTMP_RESULTS", str(blocked / "results"))
    level, text, remedy = doctor.CHECKS["results"]()
    assert (level, text) == ("error", f"{blocked / 'results'} cannot be written (Not a directory)")
    assert "MNISTMP_RESULTS" in remedy
    monkeypatch.setenv("MNISTMP_FIGURES", str(tmp_path / "figures"))
    for free, level in [(10e6, "error"), (200e6, "warning"), (5e9, "ok")]:
        monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path, free=free: namedtuple("Usage", "free")(free))
        found, _, remedy = doctor.CHECKS["figures"]()
        assert found == level and bool(remedy) == (level != "ok")
    assert list(tmp_path.iterdir()) == [blocked]


def test_memory_for_as_many_runs(monkeypatch):
    import joblib
    import psutil

    monkeypatch.setattr(joblib, "cpu_count", lambda: 8)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: namedtuple("Memory", "available")(60e9))
    assert doctor.memory()[0] == "ok"
    monkeypatch.setattr(psutil, "virtual_memory", lambda: namedtuple("Memory", "available")(4e9))
    assert doctor.memory()[::2] == ("warning", "add --jobs 2")


def test_packages_beside_the_lock(monkeypatch, tmp_path):
    here = {"torch": "2.6.0", "numpy": "2.0+local", "pandas": "1.0"}
    installed = namedtuple("Distribution", "name version")
    monkeypatch.setattr(doctor.metadata, "distributions", lambda: [installed(*one) for one in here.items()])
    asked = ["torch>=2.6", "pandas>=2.1", "distributed>=1; extra == 'dask'"]
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: asked)
    monkeypatch.setattr(paths, "checkout", lambda: tmp_path)
    assert doctor.packages()[:2] == ("error", "mnistmp needs pandas>=2.1 (here 1.0)")
    here["pandas"] = "2.1"
    lock = tmp_path / "requirements.lock"
    lock.write_text("# comment\ntorch==2.7.0\nnumpy==2.0\nx==1 ; python_full_version < '3'\npandas==2.1\n")
    level, text, _ = doctor.packages()
    assert level == "warning" and text.startswith("not as in requirements.lock: torch==2.7.0 (here 2.6.0);")
    here["torch"] = "2.7.0+cpu"
    assert doctor.packages() == ("ok", "as in requirements.lock", "")
