"""One run: from a spec to its result, and all that decides its numbers (batches: sweep/)."""

from mnistmp.engine.fit import *  # noqa: F403
