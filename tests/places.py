"""Places that refuse: a disk that is full, a folder that cannot be written. The system refuses, no stand-in."""

import os
import shutil
import subprocess
from contextlib import contextmanager

import pytest


def _mount(*arguments):
    """Mount, which takes an administrator; where that is not allowed, the test is skipped."""
    if shutil.which("mount") is None or not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("needs an administrator, to mount a small disk")
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"this machine mounts nothing: {done.stderr.strip()}")


@contextmanager
def small_disk(folder, size):
    """A disk of so many bytes at a folder; it comes with whatever is in it and goes with it."""
    folder.mkdir(parents=True, exist_ok=True)
    _mount("-t", "tmpfs", "-o", f"size={size}", "none", str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def read_only(folder):
    """A folder in which nothing can be written, not even by an administrator."""
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # whom permissions do not stop
        _mount("--bind", str(folder), str(folder))
        try:
            subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)
            yield
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
        return
    folders = [path for path in (folder, *folder.rglob("*")) if path.is_dir()]
    for path in folders:
        path.chmod(0o555)
    try:
        yield
    finally:
        for path in folders:
            path.chmod(0o755)


def fill(folder, leave):
    """Fill a small disk up to so many bytes; returns the file that does it."""
    filler = folder / "filler"
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    filler.write_bytes(bytes(max(0, free - leave)))
    return filler


@contextmanager
def largest_file(size):
    """No process started meanwhile writes a file beyond so many bytes."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
