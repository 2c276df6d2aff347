#!/usr/bin/env python3
"""Makes the vectors of evidence anew, with keys that nobody keeps.

evidence.py ENCLAVE RUNNER: ENCLAVE is confer-enclave, which makes the evidence; RUNNER is the program
of tests/c/vectors.c, which writes down the results. The table below says the status and the check
that must come out. Read the rest of the results in the diff.
"""

import copy
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent
OK, REJECTED, POLICY = "CONFER_OK", "CONFER_E_REJECTED", "CONFER_E_INVALID_POLICY"

# name of the vector and of the enclave's fault, section of attestation.md, rule
FAULTS = [
    ("evidence-bom", "3", "evidence.format: no BOM."),
    ("evidence-doubled-key", "3", "evidence.format: no doubled keys."),
    ("evidence-null-manifest", "3", "evidence.format: a null manifest fails."),
    ("evidence-null-attestation", "3", "evidence.format: a null attestation fails."),
    ("evidence-bundle-object", "3", "evidence.format: the four are strings."),
    ("evidence-not-utf8", "3", "evidence.format: UTF-8."),
    ("evidence-too-deep", "3", "evidence.format: at most 64 levels."),
    ("evidence-other-key", "3", "evidence.format: other keys are ignored."),
    ("platform-sev-snp", "1", "SEV-SNP: refuse it, by that name."),
    ("platform-attester-type", "3", "platform: attester_type is TDX."),
    ("key-not-leaf-digest", "1", "kid is the SHA-384 of the leaf certificate's DER."),
    ("key-leaf-expired", "1", "ita.key: the chain is valid at `now`."),
    ("key-leaf-altered", "1", "ita.key: the chain's signatures."),
    ("key-other-root", "1", "ita.key: never take the root's word for itself."),
    ("key-ca-no-authority", "1", "ita.key: CA flags."),
    ("key-path-too-long", "1", "ita.key: path length."),
    ("key-root-not-last", "1", "The listed root must be the last entry of x5c."),
    ("key-n-differs", "1", "The leaf's key equals n and e."),
    ("key-only-rs256", "1", "Take the entry with this kid and alg PS384."),
    ("key-set-strange-neighbours", "1", "Pass over entries that can't be read."),
    ("token-signature-altered", "3", "ita.signature: PS384 over the token verifies."),
    ("token-rs256", "1", "RS256 exists; accept only PS384."),
    ("token-alg-none", "1", "Accept only PS384."),
    ("token-crit", "1", "A crit header fails ita.signature."),
    ("token-claims-doubled-key", "1", "A doubled key fails ita.signature."),
    ("token-padding", "1", "Base64 padding fails ita.signature."),
    ("token-v2", "1", "v2 tokens put the claims under tdx."),
    ("token-v2-claim-twice", "1", "A claim in both places is a failed check."),
    ("issuer-other", "3", "ita.issuer: listed issuer."),
    ("time-too-long", "1", "exp - iat is at most 3,600 s."),
    ("time-exp-text", "1", "A claim of another type is a failed check, never a default."),
    ("debug-debuggable", "3", "tdx.debug: tdx_is_debuggable is false."),
    ("debug-bit", "3", "tdx.debug: bit 0 of the first byte of tdx_td_attributes is 0."),
    ("debug-other-end", "3", "tdx.debug: the attributes are little-endian."),
    ("debug-dbgstat-absent", "3", "tdx.debug: dbgstat is disabled if present."),
    ("binding-second-half", "3", "tdx.key_binding: tdx_report_data[0..32] is the server's key."),
    ("binding-held-data", "1", "attester_held_data is not report data: ignore."),
    ("mrtd-upper-case", "1", "Hex is lower case and of exact length."),
    ("tcb-unknown", "1", "An unknown TCB status is the worst."),
    ("tcb-warn-spelling", "1", "Compare TCB statuses without case, `_` and spaces."),
    ("release-other-bytes", "3", "release.signature: signature over the manifest's bytes."),
    ("release-no-sct", "3", "release.signature: SCT."),
    ("release-other-email", "3", "release.identity: SAN."),
    ("release-uri-san", "1", "Exactly one SAN, the email."),
    ("release-other-issuer", "3", "release.identity: issuer."),
    ("log-no-proof", "1", "The entry carries proof and SET (v1)."),
    ("log-bad-promise", "3", "release.log: Rekor entry."),
    ("log-bad-root", "3", "release.log: proof."),
    ("log-other-origin", "1", "Checkpoint of the log that logId names: origin."),
    ("log-witness", "1", "Further witness signatures are allowed."),
    ("bundle-v01", "1", "Media type exactly v0.3, else a v0.1 bundle without proof passes."),
    ("bundle-unknown-key", "1", "The guard reads the bundle against an exact list of keys."),
    ("manifest-altered", "3", "release.digest: SHA-256 of the manifest is the bundle's digest."),
    ("manifest-doubled-key", "3", "release.digest: the manifest has no doubled keys."),
    ("rtmr1-other", "3", "tdx.rtmr1: token = manifest."),
    ("rtmr2-zero", "3", "tdx.rtmr2: not all zero, for that register was never measured."),
    ("rtmr2-manifest-lacks", "3", "A measurement that the manifest lacks is a fail."),
]


def put(*path_and_value):
    """Returns a function that changes a property of the policy."""
    *path, last, value = path_and_value

    def change(policy):
        for key in path:
            policy = policy[key]
        policy[last] = value

    return change


OTHER = "0" * 95 + "1"
# name, section, rule, change of the policy, seconds after the capture, status, check
GENUINE = [
    ("genuine", "3", "Every check passes.", None, 0, OK, None),
    ("time-within-leeway", "1", "Leeway 60 s: a token that expired 30 seconds ago.", None, "exp+30", OK, None),
    ("time-expired", "3", "ita.time: now < exp, with leeway.", None, "exp+60", REJECTED, "ita.time"),
    ("time-not-yet", "3", "ita.time: nbf, iat <= now. The log entry is from the future too.", None, -3600, REJECTED, "ita.time"),
    ("policy-platform", "3", "platform: the policy lists it.", put("platforms", ["SEV-SNP"]), 0, REJECTED, "platform"),
    ("policy-root", "3", "ita.key: the chain ends in a listed root.", put("ita", "root_sha256", ["00" * 32]), 0, REJECTED, "ita.key"),
    ("policy-issuer", "3", "ita.issuer: listed issuer.", put("ita", "issuers", ["https://other.test"]), 0, REJECTED, "ita.issuer"),
    ("policy-mrtd", "3", "tdx.mrtd: against the policy.", put("tdx", "mrtd", [OTHER]), 0, REJECTED, "tdx.mrtd"),
    ("policy-seam-svn", "3", "tdx.seam_svn: against the policy.", put("tdx", "min_seam_svn", 99), 0, REJECTED, "tdx.seam_svn"),
    ("policy-tcb-status", "2", "tcb_status: in neither list = fail.", put("tdx", "tcb_status", {"accept": ["SWHardeningNeeded"], "warn": []}), 0, REJECTED, "tdx.tcb_status"),
    ("policy-tcb-warn", "2", "tcb_status: warn is tolerated.", put("tdx", "tcb_status", {"accept": [], "warn": ["UpToDate"]}), 0, OK, None),
    ("policy-tcb-age", "3", "tdx.tcb_age: against the policy.", put("tdx", "max_tcb_age_days", 1), 0, REJECTED, "tdx.tcb_age"),
    ("policy-releases", "2", "releases: only these.", put("tdx", "releases", [{"rtmr1": OTHER, "rtmr2": OTHER}]), 0, REJECTED, "tdx.release"),
    ("policy-signer", "3", "release.identity: SAN.", put("sigstore", "identity", "other@enclave.test"), 0, REJECTED, "release.identity"),
    ("policy-production-log", "2", "trusted_root: null = the built-in production root.", put("sigstore", "trusted_root", None), 0, REJECTED, "release.log"),
    ("policy-unknown-key", "2", "Unknown keys are errors.", put("tdx", "more", 1), 0, POLICY, None),
    ("policy-unknown-version", "2", "version 1.", put("version", 2), 0, POLICY, None),
    ("policy-missing-key", "2", "Every key must be present.", lambda policy: policy.pop("sigstore"), 0, POLICY, None),
]


def main(enclave, runner):
    for folder in ("evidence", "policies"):
        shutil.rmtree(HERE / folder, ignore_errors=True)
        (HERE / folder).mkdir()
    faults = subprocess.run([enclave, "--list-faults"], check=True, capture_output=True, text=True).stdout
    faults = {fault["fault"]: fault for fault in map(json.loads, faults.splitlines())}
    with tempfile.TemporaryDirectory() as folder:
        made = pathlib.Path(folder)

        def export(fault):
            subprocess.run([enclave, "--export", made / fault, "--state", made, "--fault", fault], check=True)
            return [json.loads((made / fault / f"{name}.json").read_text()) for name in ("evidence", "policy", "keys")]

        genuine, policy, keys = export("none")
        write("policies/keyless", policy)
        write("policies/keys", {**policy, "ita": {**policy["ita"], "jwks": keys}})
        write("evidence/genuine", {**genuine, "jwks": keys})
        for name, section, rule in FAULTS:
            evidence, _, shown = export(name)
            own_keys = name.startswith("key-")
            write(f"evidence/{name}", {**evidence, "jwks": shown if own_keys else None})
            rejected = faults[name]["outcome"] == "fail"
            vector(runner, name, section, rule, "keyless" if own_keys else "keys", name, None,
                   REJECTED if rejected else OK, faults[name]["check"] if rejected else None)

    lifetime = expiry(genuine) - genuine["captured_at"]
    for name, section, rule, change, after, status, check in GENUINE:
        other = "keyless"
        if change:
            changed = copy.deepcopy(policy)
            change(changed)
            write(f"policies/{(other := name)}", changed)
        after = lifetime + int(after[3:]) if isinstance(after, str) else after
        at = genuine["captured_at"] + after if after else None
        vector(runner, name, section, rule, other, "genuine", at, status, check)


def expiry(export):
    import base64

    evidence = json.loads(base64.b64decode(export["evidence_base64"]))
    claims = evidence["attestation"].split(".")[1]
    return json.loads(base64.urlsafe_b64decode(claims + "=="))["exp"]


def write(name, value):
    (HERE / f"{name}.json").write_text(json.dumps(value) + "\n")


def vector(runner, name, section, rule, policy, export, at, status, check):
    file = HERE / f"{name}.json"
    value = {
        "rule": {"document": "attestation.md", "section": section, "text": rule},
        "evidence": {"policy": f"policies/{policy}.json", "export": f"evidence/{export}.json", "at": at},
    }
    file.write_text(json.dumps(value))
    printed = subprocess.run([runner, "--print", file], check=True, capture_output=True, text=True).stdout
    results = json.loads(printed)
    found = results[0]["status"], results[0]["check"]
    assert found == (status, check), f"{name}: {found}"
    file.write_text(json.dumps({**value, "results": results}, indent=1) + "\n")


main(*sys.argv[1:])
