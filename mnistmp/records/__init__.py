"""What a run leaves: its record's format, its file, and all records as a table."""

from mnistmp.records.frame import *  # noqa: F403
