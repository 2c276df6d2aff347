"""The library's version, and the threads and memory that all clients share."""

from __future__ import annotations

from . import _abi as c
from ._constants import Status, __version__
from ._errors import StatusCheck
from ._stream import waits

# Before 1.0, a minor version may remove something.
_found = c.confer_version_string().decode()
if _found.split(".")[:2] != __version__.split(".")[:2]:
    raise ImportError(f"the loaded libconfer is version {_found}: this package is for {__version__}")


def version() -> str:
    """The version of the loaded library, such as "0.1.0"."""
    return _found


def set_workers(count: int) -> None:
    """Sets the number of the library's worker threads: 1 to 64, default 2."""
    check = StatusCheck()
    check(c.confer_runtime_set_workers(count, check.error))


def set_unread_limit(size: int) -> None:
    """Sets how many unread bytes all streams of the process may have together."""
    check = StatusCheck()
    check(c.confer_runtime_set_unread_limit(size, check.error))


def wait_for_threads(timeout: float | None = None) -> None:
    """Waits until no thread of the library runs."""
    for timeout_ms in waits(timeout):
        check = StatusCheck()
        if check(c.confer_runtime_wait(timeout_ms, check.error)) == Status.OK:
            return
    raise TimeoutError("a thread of the library still runs")
