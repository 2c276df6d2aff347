"""Policies, and the configuration of a client."""

from __future__ import annotations

import ctypes
import logging
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from . import _abi as c
from ._constants import Ask, Duration, Limit, LogLevel, Roots, TokenReason
from ._errors import StatusCheck, milliseconds
from ._native import Owned, destroyed, expected, function, pairs, registered, target, text, utf8
from ._report import Report, read_report

Log = Callable[[LogLevel, str, str], None]
TokenT = TypeVar("TokenT", covariant=True)
AcceptT = TypeVar("AcceptT", covariant=True)


class Policy:
    """The parties and values that are trusted: one JSON document. Clients that share a policy
    connect faster."""

    __slots__ = ("_handle",)

    def __init__(self, handle: Owned[c.confer_policy]) -> None:
        self._handle = handle

    @staticmethod
    def production() -> Policy:
        """The built-in policy for Confer's service, which is the default."""
        check, handle = StatusCheck(), Owned(c.confer_policy(), c.confer_policy_free)
        check(c.confer_policy_production(ctypes.byref(handle.raw), check.error))
        return Policy(handle)

    @staticmethod
    def strict() -> Policy:
        """The production policy, which also refuses machines whose firmware needs an update."""
        check, handle = StatusCheck(), Owned(c.confer_policy(), c.confer_policy_free)
        check(c.confer_policy_strict(ctypes.byref(handle.raw), check.error))
        return Policy(handle)

    @staticmethod
    def parse(document: str) -> Policy:
        """Parses a JSON document, which docs/policy.md in the source explains."""
        check, handle, content = StatusCheck(), Owned(c.confer_policy(), c.confer_policy_free), utf8(document)
        check(c.confer_policy_parse(content, len(content), ctypes.byref(handle.raw), check.error))
        return Policy(handle)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Policy:
        """Reads a policy from a file."""
        check, handle, name = StatusCheck(), Owned(c.confer_policy(), c.confer_policy_free), os.fsencode(path)
        check(c.confer_policy_load(name, len(name), ctypes.byref(handle.raw), check.error))
        return Policy(handle)

    @property
    def json(self) -> str:
        """The exact document."""
        return text(c.confer_policy_json, self._handle.raw) or ""

    @property
    def name(self) -> str:
        return text(c.confer_policy_name, self._handle.raw) or ""

    @property
    def sha256(self) -> str:
        """The digest of the document's exact bytes, as in reports."""
        return text(c.confer_policy_sha256, self._handle.raw) or ""


def verify_evidence(evidence: str, policy: Policy | None = None, at: float | None = None) -> Report:
    """Verifies `Report.evidence` again, offline.

    `policy`: None for the production policy. `at`: the time of the verification in Unix seconds;
    None for the time when the evidence was captured. Raises VerificationError, with the report, if
    the evidence does not satisfy the policy.
    """
    check, report, content = StatusCheck(), Owned(c.confer_report(), c.confer_report_free), utf8(evidence)
    trusted = c.confer_policy() if policy is None else expected(Policy, policy)._handle.raw
    seconds = -1 if at is None else math.floor(at)
    check(
        c.confer_evidence_verify(content, len(content), trusted, seconds, ctypes.byref(report.raw), check.error)
    )
    return read_report(report.raw)


def log_to(logger: logging.Logger) -> Log:
    """Returns a log for `Config.log` that writes to a logger."""
    levels = {
        LogLevel.ERROR: logging.ERROR,
        LogLevel.WARN: logging.WARNING,
        LogLevel.INFO: logging.INFO,
        LogLevel.DEBUG: logging.DEBUG,
    }

    def log(level: LogLevel, part: str, message: str) -> None:
        logger.log(levels.get(level, logging.DEBUG), "%s: %s", part, message)

    return log


@dataclass
class BaseConfig(Generic[TokenT, AcceptT]):
    """The settings of Config and AsyncConfig."""

    #: The account's token.
    token: str | None = field(default=None, repr=False)
    #: The URL of the WebSocket. Default: Confer's service.
    endpoint: str | None = field(default=None, repr=False)
    #: What is trusted. Default: `Policy.production`.
    policy: Policy | None = field(default=None, repr=False)
    #: `http://` or `socks5://` URL of a proxy, also with credentials.
    proxy: str | None = field(default=None, repr=False)
    #: Takes the proxy from HTTPS_PROXY, ALL_PROXY and NO_PROXY.
    proxy_from_environment: bool = False
    #: The roots that TLS trusts. A text is PEM.
    roots: Roots | str = field(default=Roots.BUNDLED, repr=False)
    #: A file that keeps Intel's key set for the next process.
    jwks_cache_file: str | os.PathLike[str] | None = None
    #: Times in seconds. `Duration` has the default and the bounds of each.
    durations: Mapping[Duration, float] = field(default_factory=dict)
    #: Sizes and counts. `Limit` has the default and the bounds of each. `Limit.ATTEMPTS` turns
    #: reconnecting on.
    limits: Mapping[Limit, int] = field(default_factory=dict)
    #: Replaces a connection also when its evidence expires.
    renew_with_evidence: bool = False
    #: Gives a token when the client asks for one. An exception refuses the question.
    token_provider: Callable[[TokenReason], TokenT] | None = field(default=None, repr=False)
    #: Decides about a release that differs from the previous one. Receives both reports.
    accept_release: Callable[[Report, Report], AcceptT] | None = field(default=None, repr=False)
    #: The questions that the application answers as events of `Client.watch`.
    ask: Ask = Ask(0)
    #: Receives the log, on a thread of the library. See also `log_to`.
    log: Log | None = field(default=None, repr=False)
    log_level: LogLevel = LogLevel.DEBUG

    def _native(self) -> Owned[c.confer_config]:
        """Makes the library's configuration."""
        check, owned = StatusCheck(), Owned(c.confer_config(), c.confer_config_free)
        check(c.confer_config_new(ctypes.byref(owned.raw), check.error))
        config, error = owned.raw, check.error
        if self.token is not None:
            value = utf8(self.token)
            check(c.confer_config_set_token(config, value, len(value), error))
        if self.endpoint is not None:
            value = utf8(self.endpoint)
            check(c.confer_config_set_endpoint(config, value, len(value), error))
        if self.proxy_from_environment:
            check(c.confer_config_set_proxy_from_environment(config, error))
        if self.proxy is not None:
            value = utf8(self.proxy)
            check(c.confer_config_set_proxy(config, value, len(value), error))
        if isinstance(self.roots, str):
            value = utf8(self.roots)
            check(c.confer_config_set_roots_pem(config, value, len(value), error))
        else:
            check(c.confer_config_set_roots(config, self.roots, error))
        if (policy := self.policy) is not None:
            check(c.confer_config_set_policy(config, expected(Policy, policy)._handle.raw, error))
        if self.jwks_cache_file is not None:
            value = os.fsencode(self.jwks_cache_file)
            check(c.confer_config_set_jwks_cache_file(config, value, len(value), error))
        for duration, seconds in pairs("durations", self.durations):
            check(c.confer_config_set_duration_ms(config, duration, milliseconds(repr(duration), seconds), error))
        for limit, number in pairs("limits", self.limits):
            check(c.confer_config_set_limit(config, limit, number, error))
        if self.renew_with_evidence:
            check(c.confer_config_set_renew_with_evidence(config, True, error))
        ask = self.ask
        if function("token_provider", self.token_provider) is not None:
            ask |= Ask.TOKEN
        if function("accept_release", self.accept_release) is not None:
            ask |= Ask.RELEASE
        check(c.confer_config_set_ask(config, ask, error))
        if function("log", self.log) is not None:
            with registered(self.log) as data:
                check(c.confer_config_set_log(config, self.log_level, _log, data, destroyed, error))
        return owned


class Config(BaseConfig[str, bool]):
    """The settings of a `Client`. Its functions run on one thread of their own."""


def _record(user_data: int, level: int, part: bytes, message: bytes) -> None:
    log: Log | None = target(user_data)
    if log is not None:
        log(LogLevel(level), part.decode(), message.decode())


_log = c.confer_log_fn(_record)
