"""Writing a file so that it is there completely or not at all."""

from __future__ import annotations

import contextlib
import os
import uuid
from pathlib import Path


def write_atomically(path: Path, content: str | bytes) -> Path:
    """Write a file, and its folders where missing; whoever reads sees the old content or the new.

    The content goes to a hidden file in the same folder, is forced to disk and then takes the
    name in one step. A crash leaves at most that hidden file, which nothing reads.

    Args:
        path: the file.
        content: bytes, or text, written as UTF-8 with "\\n" on every platform.

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
        os.replace(temporary, path)
    except BaseException:  # Ctrl-C too
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _sync_folder(path.parent)
    return path


def _sync_folder(folder: Path) -> None:
    # Makes the new name itself survive a power cut. Not every system allows it; the file is in place anyway.
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
