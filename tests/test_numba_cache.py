"""What numba keeps between processes may be torn or switched off: the same results, by the path that is recorded."""

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("numba")

# One process imports torch and forks one per fault, which is four seconds less for each.
SCRIPT = """
import json, os, pathlib, shutil, sys
import torch
torch.set_num_threads(1)

def tried(fault):
    pattern, content = fault
    for path in pathlib.Path(os.environ["NUMBA_CACHE_DIR"]).rglob(pattern):
        path.write_bytes(content.encode())
    from mnistmp import LeNet, engine
    torch.manual_seed(0)
    network = LeNet().to(memory_format=torch.channels_last)
    images = torch.randn(4, 3, 28, 28).to(memory_format=torch.channels_last)
    network(images).square().sum().backward()
    return engine.path_name(torch.device("cpu")), network.features.conv1.weight.grad.norm().item()

kept = os.environ["NUMBA_CACHE_DIR"]
for place, fault in enumerate(json.loads(sys.argv[1])):
    if place:  # the first one fills the cache
        os.environ["NUMBA_CACHE_DIR"] = f"{kept}-{place}"
        shutil.copytree(kept, f"{kept}-{place}")
    sys.stdout.flush()
    child = os.fork()
    if not child:
        try:
            print(json.dumps(tried(fault)))
        except Exception as error:
            print(json.dumps([type(error).__name__, 0]))
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(child, 0)
"""

FAULTS = [("none", ""), ("*pool_forward*.nbi", ""), ("*update*.nbi", ""), ("*pool_backward*.nbc", ""),
          ("*pool_forward*.nbi", "hello\n")]  # fmt: skip


def outcomes(folder, faults, **variables):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder / "cache"), **variables}
    environment.pop("MNISTMP_KERNELS", None)
    command = [sys.executable, "-c", SCRIPT, json.dumps(faults)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    return [tuple(json.loads(line)) for line in done.stdout.splitlines() if line.startswith("[")]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_torn_cache_is_none(tmp_path):
    whole, *torn = outcomes(tmp_path, FAULTS)
    assert whole[0] == "cpu-numba"
    assert torn == [whole] * (len(FAULTS) - 1)


def test_without_the_compiler_the_path_is_torchs(tmp_path):
    ((path, _),) = outcomes(tmp_path, FAULTS[:1], NUMBA_DISABLE_JIT="1")
    assert path == "cpu-torch"
    command = [sys.executable, "-m", "mnistmp.doctor", "compiled kernels"]
    said = subprocess.run(command, env={**os.environ, "NUMBA_DISABLE_JIT": "1"}, capture_output=True, text=True).stdout
    assert '"level": "warning"' in said and "NUMBA_DISABLE_JIT is set" in said
