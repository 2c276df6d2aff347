//! The TDX checks: compares Intel's claims with the policy, the handshake's key and the release's
//! manifest.
//!
//! Each function is a check of the specification's section 3. It gets claims only if
//! `ita.signature` holds.

use aws_lc_rs::constant_time::verify_slices_are_equal;

use super::hex;
use super::ita::{ClaimError, Claims};
use super::policy::{Measurement, ReleasePin, TcbPolicy, TcbStatus};
use super::report::{Finding, TdxFacts, shown};
use crate::clock::in_words;

type Result = std::result::Result<Finding, ClaimError>;

const SECONDS_A_DAY: u64 = 86_400;

/// `tdx.debug`: the host can read the memory of a debuggable machine.
pub(super) fn debug(claims: &Claims) -> Result {
    let attributes: [u8; 8] = claims.bytes("tdx_td_attributes")?;
    let status = claims.debug_status()?;
    let debuggable = [
        ("tdx_is_debuggable", claims.boolean("tdx_is_debuggable")?),
        (
            "tdx_td_attributes_debug",
            claims.boolean("tdx_td_attributes_debug")?,
        ),
        // TUD.DEBUG is bit 0 of the first byte, in little-endian (Intel TDX module ABI,
        // ATTRIBUTES).
        ("bit 0 of tdx_td_attributes", attributes[0] & 1 != 0),
        ("dbgstat", status.is_some_and(|status| status != "disabled")),
    ];
    let set: Vec<_> = debuggable
        .into_iter()
        .filter_map(|(name, set)| set.then_some(name))
        .collect();
    Ok(if set.is_empty() {
        Finding::pass("The machine cannot be debugged from outside.")
    } else {
        Finding::fail("The machine can be debugged from outside: its memory is not confidential.")
            .expected("no sign of debugging")
            .observed(set.join(", "))
    })
}

/// `tdx.key_binding`: binds the machine that Intel measured to the peer of this handshake.
pub(super) fn key_binding(claims: &Claims, server_key: &[u8; 32]) -> Result {
    let report_data: [u8; 64] = claims.bytes("tdx_report_data")?;
    let bound = &report_data[..32];
    Ok(if verify_slices_are_equal(bound, server_key).is_ok() {
        Finding::pass("The machine that Intel appraised holds this connection's key.")
            .observed(hex::encode(server_key))
    } else {
        Finding::fail("The Intel token is for a machine with another key than this connection's.")
            .expected(hex::encode(server_key))
            .observed(hex::encode(bound))
    })
}

/// `tdx.mrtd`
pub(super) fn mrtd(claims: &Claims, listed: &[Measurement]) -> Result {
    let mrtd: Measurement = claims.bytes("tdx_mrtd")?;
    Ok(if listed.contains(&mrtd) {
        Finding::pass("The firmware is one that the policy lists.").observed(hex::encode(&mrtd))
    } else {
        let listed: Vec<_> = listed.iter().map(|mrtd| hex::encode(mrtd)).collect();
        Finding::fail("The firmware is not one that the policy lists.")
            .expected(listed.join(" or "))
            .observed(hex::encode(&mrtd))
    })
}

/// `tdx.seam_svn`
pub(super) fn seam_svn(claims: &Claims, minimum: u64) -> Result {
    let version = claims.number("tdx_seamsvn")?;
    let expected = format!("at least {minimum}");
    Ok(if version >= minimum {
        Finding::pass("The TDX module is recent enough.")
            .expected(expected)
            .observed(version.to_string())
    } else {
        Finding::fail("The TDX module is older than the policy allows.")
            .expected(expected)
            .observed(version.to_string())
    })
}

/// `tdx.tcb_status`
pub(super) fn tcb_status(claims: &Claims, policy: &TcbPolicy) -> Result {
    let text = claims.text("attester_tcb_status")?;
    let status = TcbStatus::parse(text);
    let is_in = |list: &[TcbStatus]| status.is_some_and(|status| list.contains(&status));
    Ok(if is_in(&policy.accept) {
        Finding::pass("The platform's patch level is one that the policy accepts.").observed(text)
    } else if is_in(&policy.warn) {
        Finding::warn("The platform's patch level is one that the policy tolerates.")
            .expected(names(&policy.accept))
            .observed(text)
    } else {
        let tolerated: Vec<_> = policy.accept.iter().chain(&policy.warn).copied().collect();
        Finding::fail("The platform's patch level is not one that the policy accepts.")
            .expected(names(&tolerated))
            .observed(text)
    })
}

fn names(statuses: &[TcbStatus]) -> String {
    statuses
        .iter()
        .map(|status| status.as_str())
        .collect::<Vec<_>>()
        .join(" or ")
}

/// `tdx.advisories`
pub(super) fn advisories(claims: &Claims, denied: &[String]) -> Result {
    let advisories = claims.texts("attester_advisory_ids")?;
    let hits: Vec<_> = advisories
        .iter()
        .copied()
        .filter(|id| denied.iter().any(|denied| denied.eq_ignore_ascii_case(id)))
        .collect();
    Ok(if hits.is_empty() {
        Finding::pass("No security advisory applies that the policy denies.")
            .observed(advisories.join(", "))
    } else {
        Finding::fail("A security advisory applies that the policy denies.")
            .expected(format!("none of {}", denied.join(", ")))
            .observed(hits.join(", "))
    })
}

/// `tdx.tcb_age`
pub(super) fn tcb_age(claims: &Claims, max_days: Option<u64>, now: u64, leeway: u64) -> Result {
    let Some(max_days) = max_days else {
        return Ok(Finding::pass(
            "The policy sets no limit on the age of the platform's patch level.",
        ));
    };
    let text = claims.text("attester_tcb_date")?;
    let expected = format!("at most {max_days} days before {}", in_words(now));
    let unusable = |detail: &'static str| Finding::fail(detail).expected(&expected).observed(text);
    let Some(date) = text
        .parse::<jiff::Timestamp>()
        .ok()
        .and_then(|date| u64::try_from(date.as_second()).ok())
    else {
        return Ok(unusable(
            "The date of the platform's patch level cannot be read.",
        ));
    };
    if date > now.saturating_add(leeway) {
        return Ok(unusable(
            "The date of the platform's patch level is in the future.",
        ));
    }
    Ok(
        if now.saturating_sub(date) <= max_days.saturating_mul(SECONDS_A_DAY) {
            Finding::pass("The platform's patch level is recent enough.")
                .expected(expected)
                .observed(text)
        } else {
            unusable("The platform's patch level is older than the policy allows.")
        },
    )
}

/// The registers to compare with the manifest.
#[derive(Clone, Copy)]
pub(super) enum Register {
    Rtmr1,
    Rtmr2,
}

impl Register {
    fn claim(self) -> &'static str {
        match self {
            Register::Rtmr1 => "tdx_rtmr1",
            Register::Rtmr2 => "tdx_rtmr2",
        }
    }
}

/// `tdx.rtmr1`, `tdx.rtmr2`: the machine runs the release. `stated` is the manifest's measurement,
/// if there is one.
pub(super) fn rtmr(
    claims: Option<&Claims>,
    register: Register,
    stated: Option<&Measurement>,
) -> Result {
    let Some(stated) = stated else {
        return Ok(
            Finding::fail("The release's manifest has no measurement of this register.")
                .expected("96 lower-case hex digits"),
        );
    };
    // A zero register was never extended. It says nothing about the software, even if it is signed.
    if stated.iter().all(|byte| *byte == 0) {
        return Ok(Finding::fail(
            "The release's manifest gives zero for this register: it was never measured.",
        )
        .expected("a measurement")
        .observed(hex::encode(stated)));
    }
    let Some(claims) = claims else {
        return Ok(without_claims());
    };
    let measured: Measurement = claims.bytes(register.claim())?;
    Ok(if verify_slices_are_equal(&measured, stated).is_ok() {
        Finding::pass("The machine runs what the release's manifest says.")
            .observed(hex::encode(&measured))
    } else {
        Finding::fail("The machine does not run what the release's manifest says.")
            .expected(hex::encode(stated))
            .observed(hex::encode(&measured))
    })
}

/// `tdx.release`
pub(super) fn release(claims: &Claims, pins: Option<&[ReleasePin]>) -> Result {
    let Some(pins) = pins else {
        return Ok(Finding::pass(
            "The policy accepts every release that the signer signed.",
        ));
    };
    let rtmr1: Measurement = claims.bytes(Register::Rtmr1.claim())?;
    let rtmr2: Measurement = claims.bytes(Register::Rtmr2.claim())?;
    let observed = format!(
        "rtmr1 {}, rtmr2 {}",
        hex::encode(&rtmr1),
        hex::encode(&rtmr2)
    );
    Ok(
        if pins
            .iter()
            .any(|pin| pin.rtmr1 == rtmr1 && pin.rtmr2 == rtmr2)
        {
            Finding::pass("The release is one that the policy lists.").observed(observed)
        } else {
            Finding::fail("The release is not one that the policy lists.")
                .expected(format!(
                    "one of the policy's tdx.releases ({} listed)",
                    pins.len()
                ))
                .observed(observed)
        },
    )
}

/// The result of a check whose claims are not trusted.
pub(super) fn without_claims() -> Finding {
    Finding::skip("Not evaluated: there is no verified Intel token.")
}

/// Returns the machine's facts for the report. Leaves out an unreadable claim; its check says why.
pub(super) fn facts(claims: &Claims) -> TdxFacts {
    let register = |name| {
        claims
            .bytes::<48>(name)
            .ok()
            .map(|bytes| hex::encode(&bytes))
    };
    let text = |name| claims.text(name).ok().map(shown);
    TdxFacts {
        mrtd: register("tdx_mrtd"),
        rtmr0: register("tdx_rtmr0"),
        rtmr1: register("tdx_rtmr1"),
        rtmr2: register("tdx_rtmr2"),
        rtmr3: register("tdx_rtmr3"),
        seam_svn: claims.number("tdx_seamsvn").ok(),
        tcb_status: text("attester_tcb_status"),
        tcb_date: text("attester_tcb_date"),
        advisories: claims
            .texts("attester_advisory_ids")
            .ok()
            .map(shown_advisories),
    }
}

/// Most advisories in a report. Real tokens have a handful.
const MAX_ADVISORIES: usize = 64;

fn shown_advisories(ids: Vec<&str>) -> Vec<String> {
    ids.into_iter().take(MAX_ADVISORIES).map(shown).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::attestation::report::{CheckId, Outcome};
    use crate::attestation::world::{self, NOW, SERVER_KEY};

    type Change<'a> = &'a dyn Fn(&mut Value);

    fn claims(change: Change<'_>) -> Claims {
        let mut value = world::claims();
        change(&mut value);
        Claims::new(value.as_object().unwrap().clone())
    }

    fn outcome(result: Result) -> Outcome {
        result
            .unwrap_or_else(Finding::from)
            .at(CheckId::TdxDebug)
            .outcome()
    }

    #[test]
    fn each_sign_of_debugging_refuses_the_machine() {
        assert_eq!(outcome(debug(&claims(&|_| {}))), Outcome::Pass);
        assert_eq!(
            outcome(debug(&claims(&|c| drop(
                c.as_object_mut().unwrap().remove("dbgstat")
            )))),
            Outcome::Pass
        );
        let signs: [Change<'_>; 12] = [
            &|c| c["tdx_is_debuggable"] = true.into(),
            &|c| c["tdx_td_attributes_debug"] = true.into(),
            &|c| c["tdx_td_attributes"] = "0100001000000000".into(),
            &|c| c["tdx_td_attributes"] = "ff00000000000000".into(),
            &|c| c["tdx_td_attributes"] = "00000010000000".into(),
            &|c| c["dbgstat"] = "enabled".into(),
            &|c| c["dbgstat"] = "Disabled".into(),
            &|c| c["dbgstat"] = Value::Null,
            &|c| c["tdx"] = json!({ "dbgstat": "disabled" }),
            &|c| c["tdx_is_debuggable"] = "false".into(),
            &|c| drop(c.as_object_mut().unwrap().remove("tdx_is_debuggable")),
            &|c| drop(c.as_object_mut().unwrap().remove("tdx_td_attributes_debug")),
        ];
        for (index, sign) in signs.iter().enumerate() {
            assert_eq!(outcome(debug(&claims(sign))), Outcome::Fail, "{index}");
        }
        // Bit 0 of the last byte, which is another bit in little-endian.
        assert_eq!(
            outcome(debug(&claims(
                &|c| c["tdx_td_attributes"] = "0000001000000001".into()
            ))),
            Outcome::Pass
        );
    }

    #[test]
    fn report_data_starts_with_the_handshakes_key() {
        let bound = |change: Change<'_>| outcome(key_binding(&claims(change), &SERVER_KEY));
        assert_eq!(bound(&|_| {}), Outcome::Pass);
        let second_half = |text: &str| json!(format!("{}{text}", "00".repeat(32)));
        assert_eq!(
            bound(&|c| c["tdx_report_data"] = second_half(&hex::encode(&SERVER_KEY))),
            Outcome::Fail
        );
        assert_eq!(
            bound(&|c| c["tdx_report_data"] = hex::encode(&SERVER_KEY).into()),
            Outcome::Fail
        );
        assert_eq!(
            bound(&|c| c["tdx_report_data"] = "5A".repeat(64).into()),
            Outcome::Fail
        );
        assert_eq!(
            bound(&|c| c["tdx_report_data"] = "5a".repeat(64).into()),
            Outcome::Pass
        );
        for bit in 0..256 {
            let mut other = SERVER_KEY;
            other[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                outcome(key_binding(&claims(&|_| {}), &other)),
                Outcome::Fail,
                "{bit}"
            );
        }
    }

    #[test]
    fn unlisted_or_unknown_patch_level_fails() {
        let policy = TcbPolicy {
            accept: vec![TcbStatus::UpToDate],
            warn: vec![TcbStatus::OutOfDate],
        };
        let with = |status: Value| {
            outcome(tcb_status(
                &claims(&|c| c["attester_tcb_status"] = status.clone()),
                &policy,
            ))
        };
        assert_eq!(with("UP_TO_DATE".into()), Outcome::Pass);
        assert_eq!(with("out of date".into()), Outcome::Warn);
        for other in [
            json!("Revoked"),
            json!("SWHardeningNeeded"),
            json!("Fine"),
            json!(""),
            json!(null),
            json!(0),
        ] {
            assert_eq!(with(other), Outcome::Fail);
        }
    }

    #[test]
    fn denied_advisory_or_malformed_list_fails() {
        let with = |ids: Value| {
            outcome(advisories(
                &claims(&|c| c["attester_advisory_ids"] = ids.clone()),
                &["INTEL-SA-1".to_owned()],
            ))
        };
        assert_eq!(
            outcome(advisories(&claims(&|_| {}), &["INTEL-SA-1".to_owned()])),
            Outcome::Pass
        );
        assert_eq!(with(json!(["INTEL-SA-2", "INTEL-SA-11"])), Outcome::Pass);
        assert_eq!(with(json!(["INTEL-SA-2", "intel-sa-1"])), Outcome::Fail);
        for other in [json!("INTEL-SA-1"), json!([1]), json!({}), json!(null)] {
            assert_eq!(with(other), Outcome::Fail);
        }
    }

    #[test]
    fn patch_level_age_is_exact_to_the_second() {
        let date = |date: &str, days| {
            outcome(tcb_age(
                &claims(&|c| c["attester_tcb_date"] = date.into()),
                Some(days),
                NOW,
                60,
            ))
        };
        assert_eq!(date("2027-01-15T08:00:00Z", 0), Outcome::Pass); // NOW
        assert_eq!(date("2027-01-15T07:59:59Z", 0), Outcome::Fail);
        assert_eq!(date("2027-01-14T08:00:00Z", 1), Outcome::Pass);
        assert_eq!(date("2027-01-14T09:00:00+01:00", 1), Outcome::Pass);
        assert_eq!(date("2027-01-15T08:01:01Z", 1), Outcome::Fail); // in the future
        assert_eq!(date("yesterday", 1_000), Outcome::Fail);
        assert_eq!(date("1960-01-01T00:00:00Z", u64::MAX), Outcome::Fail);
        assert_eq!(
            outcome(tcb_age(
                &claims(&|c| c["attester_tcb_date"] = "?".into()),
                None,
                NOW,
                60
            )),
            Outcome::Pass
        );
    }

    #[test]
    fn register_must_equal_the_manifest_and_not_be_zero() {
        let compare = |stated: Option<&str>, measured: Value| {
            let stated = stated.and_then(hex::decode);
            let claims = claims(&|c| c["tdx_rtmr1"] = measured.clone());
            outcome(rtmr(Some(&claims), Register::Rtmr1, stated.as_ref()))
        };
        let (one, other, zero) = ("11".repeat(48), "12".repeat(48), "00".repeat(48));
        assert_eq!(compare(Some(&one), json!(one)), Outcome::Pass);
        assert_eq!(compare(Some(&one), json!(other)), Outcome::Fail);
        assert_eq!(compare(Some(&one), json!(one[..94])), Outcome::Fail);
        assert_eq!(compare(Some(&one), Value::Null), Outcome::Fail);
        assert_eq!(compare(Some(&zero), json!(zero)), Outcome::Fail);
        assert_eq!(compare(None, json!(one)), Outcome::Fail);

        let stated = hex::decode(&one);
        assert_eq!(
            outcome(rtmr(None, Register::Rtmr1, stated.as_ref())),
            Outcome::Skip
        );
        assert_eq!(outcome(rtmr(None, Register::Rtmr1, None)), Outcome::Fail);
    }

    #[test]
    fn release_must_be_listed_with_both_registers() {
        let pin = |rtmr1: u8, rtmr2: u8| ReleasePin {
            rtmr1: [rtmr1; 48],
            rtmr2: [rtmr2; 48],
        };
        let with = |pins: &[ReleasePin]| outcome(release(&claims(&|_| {}), Some(pins)));
        assert_eq!(outcome(release(&claims(&|_| {}), None)), Outcome::Pass);
        assert_eq!(with(&[pin(1, 2), pin(0x11, 0x22)]), Outcome::Pass);
        assert_eq!(with(&[pin(0x11, 2), pin(1, 0x22)]), Outcome::Fail);
        assert_eq!(with(&[]), Outcome::Fail);
    }

    #[test]
    fn firmware_and_module_must_satisfy_the_policy() {
        let listed = [hex::decode(world::claims()["tdx_mrtd"].as_str().unwrap()).unwrap()];
        assert_eq!(outcome(mrtd(&claims(&|_| {}), &listed)), Outcome::Pass);
        assert_eq!(outcome(mrtd(&claims(&|_| {}), &[[0; 48]])), Outcome::Fail);
        assert_eq!(outcome(mrtd(&claims(&|_| {}), &[])), Outcome::Fail);
        assert_eq!(outcome(seam_svn(&claims(&|_| {}), 3)), Outcome::Pass);
        assert_eq!(outcome(seam_svn(&claims(&|_| {}), 4)), Outcome::Fail);
        assert_eq!(
            outcome(seam_svn(&claims(&|c| c["tdx_seamsvn"] = "3".into()), 0)),
            Outcome::Fail
        );
    }
}
