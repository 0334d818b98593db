"""Files that are there completely or not at all, and that cannot surprise whoever reads them."""

from __future__ import annotations

import contextlib
import os
import stat
import uuid
from pathlib import Path

from mnistmp.errors import InputError


def write_atomically(path: Path, content: str | bytes, *, keep: bool = False) -> Path:
    """Write a file, and its folders where missing; whoever reads sees the old content or the new.

    The content goes to a hidden file in the same folder, is forced to disk and then takes the
    name in one step. A crash leaves at most that hidden file, which nothing reads.

    Args:
        path: the file.
        content: bytes, or text, written as UTF-8 with "\\n" on every platform.
        keep: a file that is there stays as it is: of several writers the first counts, however
            close they are.

    Raises:
        OSError: folder not writable, disk full, ...; the file is as it was before.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{os.getpid()}-{uuid.uuid4().hex}.tmp"
    try:
        with open(temporary, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        if keep:
            _take_name_if_free(temporary, path)
        else:
            os.replace(temporary, path)
    except BaseException:  # Ctrl-C too
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _sync_folder(path.parent)
    return path


def write(path: Path, content: str | bytes, remedy: str = "free or repair the place") -> Path:
    """`write_atomically`; where it fails, an InputError with the file, the reason and the remedy."""
    try:
        return write_atomically(path, content)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror or error}); {remedy}.") from None


def read_bounded(path: str | Path, limit: int) -> bytes:
    """The content of a regular file, at most `limit` + 1 bytes of it: one more says that it is too large.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it cannot be read, or is a folder, a pipe or a device: neither may hang or flood us.
    """
    with open(path, "rb", opener=_without_waiting) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(0, "not a file", str(path))
        return file.read(limit + 1)


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # opening a pipe would wait for a writer


def _take_name_if_free(temporary: Path, path: Path) -> None:
    # To rename would replace what another process wrote since we looked; a link never does.
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without links
        if not os.path.lexists(path):
            os.replace(temporary, path)
            return
    with contextlib.suppress(OSError):  # the file has its name; that it also has this one is no failure
        temporary.unlink()


def _sync_folder(folder: Path) -> None:
    # Makes the new name itself survive a power cut. Not every system allows it; the file is in place anyway.
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
