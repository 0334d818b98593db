"""`mnistmp doctor` on machines where something is broken: it says so, says what to do, and never falls over itself."""

import json
import os
import subprocess
import sys
from collections import namedtuple
from importlib import metadata
from pathlib import Path

import pytest

from mnistmp import cli, data, paper, paths
from mnistmp.doctor import machine, probe, software
from mnistmp.doctor.finding import Finding

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def nothing_is_downloaded(monkeypatch):
    monkeypatch.setattr(data, "_download", lambda root: pytest.fail("the doctor downloads"))


def fake_package(folder, name, code):
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text(code)


# ---- the command ----


def test_a_machine_without_torch_is_examined_all_the_same(tmp_path):
    """The moment it is needed: nothing of torch can be imported, and the data is not there either."""
    fake_package(tmp_path, "torch", "raise ImportError('libcudart.so.13: cannot open shared object file')")
    variables = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "MNISTMP_RESULTS": str(tmp_path / "new")}
    command = [sys.executable, "-m", "mnistmp", "doctor"]
    done = subprocess.run([*command, "--json"], cwd=ROOT, env=variables, capture_output=True, text=True, timeout=240)
    assert done.returncode == 1 and done.stderr == ""
    answer = json.loads(done.stdout)
    found = {finding["name"]: finding for finding in answer["findings"]}
    assert answer["ok"] is False and found["torch"]["level"] == "error"
    assert found["torch"]["text"] == "ImportError: libcudart.so.13: cannot open shared object file"
    assert "pip install -r requirements.lock" in found["torch"]["remedy"]
    assert {"Python", "packages", "notebooks", "results", "figures", "processors", "memory"} < set(found)
    assert found["kernel python3"]["level"] == "ok"
    assert not (tmp_path / "new").exists()  # looking leaves nothing behind


def test_lines_exit_code_and_json(monkeypatch, capsys, tmp_path):
    from mnistmp import doctor

    findings = [Finding("one", "ok", "is well"), Finding("two", "warning", "is slow", "do this")]
    findings.append(Finding("three", "error", "is broken", "do that"))
    for shown, code, last in (
        (findings[:1], 0, "This machine can run mnistmp: no error, no warning."),
        (findings[:2], 0, "This machine can run mnistmp: no error, 1 warning."),
        (findings, 1, "This machine cannot run all of mnistmp: 1 error, 1 warning."),
        (findings * 2, 1, "This machine cannot run all of mnistmp: 2 errors, 2 warnings."),
    ):
        monkeypatch.setattr(doctor, "examine", lambda: iter(shown))
        assert cli.main(["doctor"]) == code
        assert capsys.readouterr().out.splitlines()[-1] == last
        assert cli.main(["doctor", "--json", "--results", str(tmp_path)]) == code
        assert json.loads(capsys.readouterr().out)["ok"] == (code == 0)
    cli.main(["doctor"])
    assert capsys.readouterr().out.splitlines()[1:3] == ["warning  two: is slow", "         -> do this"]


# ---- torch and what needs it ----


@pytest.mark.parametrize(
    "code, words",
    [
        ("import os; os.kill(os.getpid(), 4)", "trying it ended the process (SIGILL)"),
        ("import os; os._exit(3)", "trying it ended the process with code 3: no message"),
        ("import time; print('chatter', flush=True); time.sleep(600)", "no answer within 3 s"),
    ],
)
def test_a_torch_that_takes_the_process_with_it(tmp_path, monkeypatch, code, words):
    fake_package(tmp_path, "torch", code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(software, "PATIENCE", 3)
    (finding,) = software.probed()
    assert (finding.name, finding.level, finding.text) == ("torch", "error", words)
    assert "requirements.lock" in finding.remedy


def test_what_is_broken_after_torch_is_named_and_the_rest_still_shown(monkeypatch, tmp_path):
    script = tmp_path / "python"
    well = {"name": "torch", "level": "ok", "text": "2", "remedy": ""}
    lines = [{"begins": "torch"}, well, {"begins": "torchvision"}]
    script.write_text("#!/bin/sh\n" + "".join(f"echo '{json.dumps(line)}'\n" for line in lines) + "kill -SEGV $$\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    assert [(f.name, f.level) for f in software.probed()] == [("torch", "ok"), ("torchvision", "error")]


def test_a_torchvision_that_does_not_match(monkeypatch):
    assert probe._torchvision()[0] == "ok"
    real = metadata.version
    monkeypatch.setattr(probe, "version", lambda name: "1.0" if name == "torch" else real(name))
    level, text, remedy = probe._torchvision()
    assert level == "error" and "beside torch 1.0, and it asks for torch" in text and remedy == probe.REINSTALL
    import torchvision

    def missing(*_):
        raise RuntimeError("operator torchvision::nms does not exist\nand more")

    monkeypatch.setattr(torchvision.ops, "nms", missing)
    level, text, remedy = probe._torchvision()
    assert level == "error" and text.endswith("do not work together (operator torchvision::nms does not exist)")
    monkeypatch.setitem(sys.modules, "torchvision", None)
    assert probe._torchvision()[0] == "error"


def test_steps_that_raise_are_findings(monkeypatch, capsys):
    def broken():
        raise RuntimeError("no luck\nand more")

    monkeypatch.setattr(probe, "STEPS", [("GPU", broken), ("digits", probe._digits)])
    assert probe.main() == 0
    begun, gpu, _, digits = map(json.loads, capsys.readouterr().out.splitlines())
    assert begun == {"begins": "GPU"} and gpu["level"] == "error"
    assert (gpu["text"], gpu["remedy"]) == ("RuntimeError: no luck", probe.REMEDIES["GPU"])
    assert digits["text"] == "scikit-learn's 1,797, verified"


def test_compiled_pieces(monkeypatch):
    from mnistmp.fast import kernels

    monkeypatch.delenv("MNISTMP_KERNELS", raising=False)
    monkeypatch.setattr(kernels, "in_use", lambda: "torch")
    monkeypatch.setattr(probe.importlib.util, "find_spec", lambda name: None)
    assert probe._kernels()[::2] == ("warning", "pip install 'mnistmp[fast]'")
    monkeypatch.setenv("MNISTMP_KERNELS", "torch")
    assert "switched off by MNISTMP_KERNELS=torch" in probe._kernels()[1]
    monkeypatch.setattr(kernels, "in_use", lambda: "numba")
    monkeypatch.setattr(probe, "version", lambda name: "9.9")
    assert probe._kernels() == ("ok", "compiled by numba 9.9", "")


def test_precision_that_will_be_used(monkeypatch, tmp_path):
    from mnistmp.engine import device as precisions

    monkeypatch.setenv("MNISTMP_RESULTS", str(tmp_path))
    monkeypatch.delenv("MNISTMP_PRECISION", raising=False)
    monkeypatch.setattr(precisions, "native_bfloat16", lambda device=None: False)
    level, text, remedy = probe._precision()
    assert level == "warning" and text.startswith("digits float32, quick float32, paper bfloat16 (")
    assert "so paper takes much longer" in text and "--precision float32" in remedy
    monkeypatch.setattr(precisions, "native_bfloat16", lambda device=None: True)
    assert probe._precision()[1].startswith("digits bfloat16, quick bfloat16, paper bfloat16 (")
    assert list(paper.PRESETS) == ["digits", "quick", "paper"]


def test_gpus(monkeypatch, capsys):
    import torch

    assert probe._gpu()[0] == "ok" or not torch.cuda.is_available()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(probe.os.path, "exists", lambda path: True)
    monkeypatch.setattr(torch.version, "cuda", None)
    level, text, remedy = probe._gpu()
    assert level == "warning"
    assert text == "a driver is there and this torch was built without CUDA; trainings take the processor"
    assert "install a torch that fits the driver" in remedy
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert "torch cannot use it" in probe._gpu()[1]
    monkeypatch.setattr(probe.os.path, "exists", lambda path: False)
    assert probe._gpu() == ("ok", "none; trainings take the processor", "")

    def broken(*_, device):
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "ones", broken)
    monkeypatch.setattr(probe, "STEPS", [("GPU", probe._gpu)])
    probe.main()
    finding = json.loads(capsys.readouterr().out.splitlines()[1])
    assert finding["level"] == "error" and "no kernel image" in finding["text"]
    assert "CUDA_VISIBLE_DEVICES" in finding["remedy"]


# ---- data ----


def test_mnist_that_is_not_there_or_not_whole(monkeypatch, tmp_path):
    monkeypatch.setenv("MNISTMP_DATA", str(tmp_path))
    raw = tmp_path / "MNIST/raw"
    level, text, remedy = probe._mnist()
    assert (level, text) == ("warning", f"not there: looked in {raw} (MNISTMP_DATA)")
    assert "mnistmp data downloads it" in remedy and "MNISTMP_DATA" in remedy
    raw.mkdir(parents=True)
    names = list(data.MNIST_SHA256)
    for name in names[1:]:
        (raw / name).write_bytes(b"\x00\x00\x08\x01" + b"\x00" * 50)
    assert probe._mnist()[:2] == ("warning", f"incomplete, without {names[0]}: looked in {raw} (MNISTMP_DATA)")
    (raw / names[0]).write_bytes(b"\x00\x00\x08\x03" + b"\x00\x00\xea\x60" + b"\x00\x00\x00\x1c" * 2 + b"\x00" * 100)
    level, text, remedy = probe._mnist()
    assert level == "error" and f"{raw / names[0]} is truncated (116 of 47,040,016 bytes)" in text
    assert remedy.startswith("delete it to have it downloaded again")
    monkeypatch.delenv("MNISTMP_DATA")
    monkeypatch.setattr(data, "user_cache_path", lambda name: tmp_path / "cache")
    assert "the user's cache; MNISTMP_DATA is not set" in probe._mnist()[1]


# ---- the kernel ----


def kernel_in(folder, *argv):
    place = folder / "kernels/python3"
    place.mkdir(parents=True)
    (place / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "Python 3", "language": "python"}))
    return place


def test_a_kernel_that_does_not_start(monkeypatch, tmp_path):
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "1")  # restored afterwards
    gone = str(tmp_path / "a-python-that-is-gone")
    place = kernel_in(tmp_path, gone, "-m", "ipykernel_launcher", "-f", "{connection_file}")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    finding = software.kernel()
    assert finding.level == "error" and finding.text.startswith(f"the one in {place} does not start (")
    assert "delete it; python -m ipykernel install --sys-prefix" in finding.remedy


def test_a_kernel_of_another_python(monkeypatch, tmp_path):
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "1")
    here = sys.prefix
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    finding = software.kernel()
    assert finding.level == "error" and f"runs in {here}, and mnistmp in {tmp_path}" in finding.text


def test_no_kernel_and_no_jupyter(monkeypatch):
    from jupyter_client import kernelspec

    def none(self, name):
        raise kernelspec.NoSuchKernel(name)

    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "1")
    monkeypatch.setattr(kernelspec.KernelSpecManager, "get_kernel_spec", none)
    assert software.kernel().text == "there is none"
    monkeypatch.setitem(sys.modules, "jupyter_client.manager", None)
    assert "Jupyter cannot be imported" in software.kernel().text


# ---- places and the machine ----


def test_places_that_cannot_be_written(monkeypatch, tmp_path):
    blocked = tmp_path / "blocked"
    blocked.write_text("a file, so that even root cannot make a folder of it")
    monkeypatch.setenv("MNISTMP_RESULTS", str(blocked / "results"))
    monkeypatch.setenv("MNISTMP_FIGURES", str(tmp_path / "figures"))
    results, figures = machine.places()
    assert results.level == "error" and results.text == f"{blocked / 'results'} cannot be written (Not a directory)"
    assert "MNISTMP_RESULTS" in results.remedy and figures.level == "ok"
    assert sorted(tmp_path.iterdir()) == [blocked]


@pytest.mark.parametrize(
    "free, level, words", [(10e6, "error", "10 MB"), (200e6, "warning", "200 MB"), (5e9, "ok", "5.0 GB")]
)
def test_little_room(monkeypatch, tmp_path, free, level, words):
    monkeypatch.setenv("MNISTMP_RESULTS", str(tmp_path))
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: namedtuple("Usage", "free")(free))
    results, _ = machine.places()
    assert results.level == level and f"{words} free" in results.text
    assert bool(results.remedy) == (level != "ok")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a disk that is always full, on Linux")
def test_a_disk_that_is_full(monkeypatch, tmp_path):
    monkeypatch.setenv("MNISTMP_RESULTS", str(tmp_path))
    monkeypatch.setattr(machine.tempfile, "TemporaryFile", lambda dir: open("/dev/full", "wb"))
    results, _ = machine.places()
    assert results.level == "error" and "(No space left on device)" in results.text


def test_containers_that_allow_less_than_the_machine_has(monkeypatch):
    import psutil

    monkeypatch.setattr(machine, "_usable", lambda: 8)
    monkeypatch.setattr(machine, "_quota", lambda: 2.0)
    assert machine.processors().level == "warning" and machine.processors().remedy == "add --jobs 2"
    monkeypatch.setattr(machine, "_quota", lambda: None)
    assert machine.processors() == Finding("processors", "ok", "8, so as many trainings at a time")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: namedtuple("Memory", "total available")(64e9, 60e9))
    monkeypatch.setattr(machine, "_limit", lambda: None)
    assert machine.memory().text.startswith("60.0 GB of 64.0 GB are free") and machine.memory().level == "ok"
    monkeypatch.setattr(machine, "_limit", lambda: 4_000_000_000)
    assert machine.memory().level == "warning" and machine.memory().remedy == "add --jobs 2"
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert machine.memory().level == "warning"


def test_packages_beside_the_lock(monkeypatch, tmp_path):
    here = {"torch": "2.6.0", "numpy": "2.0+local", "pandas": "1.0"}

    def installed(name):
        if name not in here:
            raise metadata.PackageNotFoundError(name)
        return here[name]

    monkeypatch.setattr(software.metadata, "version", installed)
    asked = ["torch>=2.6", "pandas>=2.1", "numba>=1; extra == 'fast'"]
    monkeypatch.setattr(software.metadata, "requires", lambda name: asked)
    monkeypatch.setattr(paths, "checkout", lambda: tmp_path)
    lock = tmp_path / "requirements.lock"
    lock.write_text("# comment\ntorch==2.7.0\nnumpy==2.0\nx==1 ; python_full_version < '3'\npandas==1.0\n")
    wrong, other = software.packages()
    assert (wrong.level, wrong.text) == ("error", "mnistmp needs pandas>=2.1 (here 1.0)")
    assert other.level == "warning"
    assert other.text.startswith("1 of 3 are not as in requirements.lock: torch==2.7.0 (here 2.6.0);")
    here.update(torch="2.7.0+cpu", pandas="2.1")
    lock.write_text("torch==2.7.0\n")
    assert [finding.text for finding in software.packages()] == ["all 1 as in requirements.lock"]
    monkeypatch.setitem(sys.modules, "packaging.requirements", None)
    assert next(software.packages()).level == "error"
