"""What a run leaves: its record's format (record.py), its file (store.py), and where it comes from (provenance.py)."""

from mnistmp.errors import RecordError
from mnistmp.records.record import Epoch, RunRecord
from mnistmp.records.store import (
    COLUMNS,
    check_writable,
    find,
    frame,
    history,
    load,
    read,
    record_path,
    recorded,
    save,
    status,
)
