"""Errors: a status of the library as an exception."""

from __future__ import annotations

import ctypes
import math

from . import _abi as c
from ._constants import Progress, Status
from ._native import Exit, text
from ._report import Report, read_report


class Error(Exception):
    """A call or a stream failed."""

    #: Why it failed.
    status: Status
    #: What happened, for developers and logs. Never contains a token, prompt, answer or key.
    message: str
    #: The deciding check, such as "tdx.key_binding", for `Status.REJECTED`.
    check_id: str | None
    #: The HTTP status of a refused upgrade or tunnel, or the enclave's status for a request.
    http_status: int | None
    #: Whether the same call may succeed later, unchanged. Repeating may still do harm: see `progress`.
    retryable: bool
    #: The delay before a retry that the peer requested, in seconds.
    retry_delay: float | None
    #: How far the request got.
    progress: Progress
    #: The enclave's reason for refusing a request or closing the connection. It may repeat parts of
    #: the request: show it to the user, but do not log it.
    peer_text: str | None
    #: The report of the refused enclave, for `Status.REJECTED`.
    report: Report | None

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message
        self.check_id = None
        self.http_status = None
        self.retryable = False
        self.retry_delay = None
        self.progress = Progress.NOT_SENT
        self.peer_text = None
        self.report = None

    def __str__(self) -> str:
        return f"{self.status.name}: {self.message}"


class UsageError(Error):
    """A mistake of the caller: status 1xx."""


class EndedError(Error):
    """Ended on this side, for example by `close`: status 2xx."""


class NetworkError(Error):
    """No connection, or a lost one: status 3xx."""


class ProtocolError(Error):
    """The peer broke the protocol: status 4xx."""


class VerificationError(Error):
    """The enclave was refused: status 5xx."""


class AnswerError(Error):
    """The enclave answered with an error, or the answer failed: status 6xx."""


_FAMILIES: dict[int, type[Error]] = {
    1: UsageError,
    2: EndedError,
    3: NetworkError,
    4: ProtocolError,
    5: VerificationError,
    6: AnswerError,
}


def made(status: Status, message: str) -> Error:
    """Makes an error of this package."""
    return _FAMILIES.get(status // 100, Error)(status, message)


def read_error(handle: c.confer_error) -> Error | None:
    """Copies an error, which may be lent. None for NULL."""
    if not handle:
        return None
    error = made(Status(c.confer_error_status(handle)), text(c.confer_error_message, handle) or "")
    delay = c.confer_error_retry_delay_ms(handle)
    error.check_id = text(c.confer_error_check_id, handle)
    error.http_status = c.confer_error_http_status(handle) or None
    error.retryable = c.confer_error_retryable(handle)
    error.retry_delay = None if delay < 0 else delay / 1000
    error.progress = Progress(c.confer_error_progress(handle))
    error.peer_text = text(c.confer_error_peer_text, handle)
    report = c.confer_error_report(handle)
    error.report = read_report(report) if report else None
    return error


def milliseconds(name: str, seconds: float) -> int:
    """Converts a time for the library. Rounds up, because 0 turns some times off."""
    if not isinstance(seconds, (int, float)):
        raise TypeError(f"{name}: expected a time in seconds, not {type(seconds).__name__}")
    if not 0 <= seconds < 1e15:
        raise made(Status.INVALID_ARGUMENT, f"{name}: expected a time in seconds, found {seconds}")
    return math.ceil(round(seconds * 1000, 6))


class StatusCheck:
    """Turns the status of a call into an exception: `check(c.confer_…(…, check.error))`."""

    __slots__ = ("_handle", "error")

    def __init__(self) -> None:
        self._handle = c.confer_error()
        self.error = ctypes.byref(self._handle)

    def __call__(self, status: int) -> int:
        """Returns Status.OK, TIMEOUT or END. Raises an error for others."""
        if status <= Status.END:
            return status
        try:
            error = read_error(self._handle)
        finally:
            c.confer_error_free(self._handle)
            self._handle.value = None
        if status == Status.CLOSED:
            Exit.pause_thread()
        raise error or made(Status(status), c.confer_status_description(status).decode())
