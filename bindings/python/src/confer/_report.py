"""Reports: why an enclave was trusted or refused."""

from __future__ import annotations

from dataclasses import dataclass, field

from . import _abi as c
from ._constants import Outcome, Stage
from ._native import known, text, text_at


@dataclass(frozen=True)
class Check:
    """One check of the verification."""

    #: The stable id, such as "tdx.key_binding".
    id: str
    outcome: Outcome
    #: The result as a sentence.
    detail: str
    expected: str | None
    observed: str | None


@dataclass(frozen=True)
class Report:
    """Why an enclave was trusted or refused, check by check. Unknown values are None.

    Times are Unix seconds. docs/report.md in the source explains each field and each check.
    """

    #: Whether every check passed or warned.
    verified: bool
    checks: tuple[Check, ...] = field(repr=False)
    platform: str | None
    policy_name: str | None
    policy_sha256: str | None
    endpoint: str | None
    verified_at: int | None
    #: When Intel's token expires.
    expires_at: int | None
    #: The Noise key that the enclave proved to hold.
    server_key: str | None
    manifest_sha256: str | None
    image_version: str | None
    proxy_version: str | None
    signer: str | None
    issuer: str | None
    log_url: str | None
    log_index: int | None
    log_integrated_time: int | None
    mrtd: str | None
    rtmr0: str | None
    rtmr1: str | None
    rtmr2: str | None
    rtmr3: str | None
    seam_svn: int | None
    tcb_status: str | None
    tcb_date: str | None
    advisories: tuple[str, ...]
    #: The seconds of each stage of connecting that ran, and of Stage.ALL.
    timings: dict[Stage, float]
    #: The whole report as JSON.
    json: str = field(repr=False)
    #: The evidence as JSON, for `verify_evidence`.
    evidence: str = field(repr=False)


def read_report(handle: c.confer_report) -> Report:
    """Copies a report, which may be lent."""
    timings = {stage: c.confer_report_timing_us(handle, stage) for stage in Stage}
    return Report(
        verified=c.confer_report_verified(handle),
        checks=tuple(
            Check(
                id=text_at(c.confer_report_check_id, handle, index) or "",
                outcome=Outcome(c.confer_report_check_outcome(handle, index)),
                detail=text_at(c.confer_report_check_detail, handle, index) or "",
                expected=text_at(c.confer_report_check_expected, handle, index),
                observed=text_at(c.confer_report_check_observed, handle, index),
            )
            for index in range(c.confer_report_check_count(handle))
        ),
        platform=text(c.confer_report_platform, handle),
        policy_name=text(c.confer_report_policy_name, handle),
        policy_sha256=text(c.confer_report_policy_sha256, handle),
        endpoint=text(c.confer_report_endpoint, handle),
        verified_at=known(c.confer_report_verified_at(handle)),
        expires_at=known(c.confer_report_expires_at(handle)),
        server_key=text(c.confer_report_server_key, handle),
        manifest_sha256=text(c.confer_report_manifest_sha256, handle),
        image_version=text(c.confer_report_image_version, handle),
        proxy_version=text(c.confer_report_proxy_version, handle),
        signer=text(c.confer_report_signer, handle),
        issuer=text(c.confer_report_issuer, handle),
        log_url=text(c.confer_report_log_url, handle),
        log_index=known(c.confer_report_log_index(handle)),
        log_integrated_time=known(c.confer_report_log_integrated_time(handle)),
        mrtd=text(c.confer_report_mrtd, handle),
        rtmr0=text(c.confer_report_rtmr0, handle),
        rtmr1=text(c.confer_report_rtmr1, handle),
        rtmr2=text(c.confer_report_rtmr2, handle),
        rtmr3=text(c.confer_report_rtmr3, handle),
        seam_svn=known(c.confer_report_seam_svn(handle)),
        tcb_status=text(c.confer_report_tcb_status, handle),
        tcb_date=text(c.confer_report_tcb_date, handle),
        advisories=tuple(
            text_at(c.confer_report_advisory, handle, index) or ""
            for index in range(c.confer_report_advisory_count(handle))
        ),
        timings={stage: us / 1e6 for stage, us in timings.items() if us >= 0},
        json=text(c.confer_report_json, handle) or "",
        evidence=text(c.confer_report_evidence, handle) or "",
    )
