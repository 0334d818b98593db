"""What a look at one thing gave."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """A line of `mnistmp doctor`.

    Attributes:
        name: of what was looked at.
        level: "ok"; "warning" where something works less well, or is not there yet; "error".
        text: what was found.
        remedy: what to do about it; "" where all is well.
    """

    name: str
    level: str
    text: str
    remedy: str = ""
