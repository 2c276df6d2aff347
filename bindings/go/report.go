package confer

// Policies, reports, and the verification of kept evidence. The report's fields are those of its
// JSON.

/*
#include <confer.h>
*/
import "C"

import (
	"encoding/json"
	"time"
)

// Policy says which enclaves are trusted, as one JSON document. Immutable. Clients that share a
// policy connect faster.
type Policy struct{ owner *owner[*C.confer_policy] }

// ProductionPolicy returns the built-in policy for Confer's service.
func ProductionPolicy() (*Policy, error) {
	return newPolicy(func(p **C.confer_policy, e **C.confer_error) C.confer_status { return C.confer_policy_production(p, e) })
}

// StrictPolicy returns [ProductionPolicy], but refuses machines whose firmware needs an update or
// another configuration.
func StrictPolicy() (*Policy, error) {
	return newPolicy(func(p **C.confer_policy, e **C.confer_error) C.confer_status { return C.confer_policy_strict(p, e) })
}

// ParsePolicy parses a policy's JSON document.
func ParsePolicy(document string) (*Policy, error) {
	return newPolicy(func(p **C.confer_policy, e **C.confer_error) C.confer_status {
		text, length := bytesOf(document)
		return C.confer_policy_parse(text, length, p, e)
	})
}

// LoadPolicy reads a policy from a file.
func LoadPolicy(path string) (*Policy, error) {
	return newPolicy(func(p **C.confer_policy, e **C.confer_error) C.confer_status {
		text, length := bytesOf(path)
		return C.confer_policy_load(text, length, p, e)
	})
}

func newPolicy(make func(**C.confer_policy, **C.confer_error) C.confer_status) (*Policy, error) {
	var handle *C.confer_policy
	if err := do(func(e **C.confer_error) C.confer_status { return make(&handle, e) }); err != nil {
		return nil, err
	}
	return &Policy{own(handle, func(handle *C.confer_policy) { C.confer_policy_free(handle) })}, nil
}

// JSON returns the exact bytes of the document.
func (p *Policy) JSON() string {
	return p.text(func(policy *C.confer_policy, n *C.size_t) *C.char { return C.confer_policy_json(policy, n) })
}

// Name returns the policy's name.
func (p *Policy) Name() string {
	return p.text(func(policy *C.confer_policy, n *C.size_t) *C.char { return C.confer_policy_name(policy, n) })
}

// SHA256 returns the digest of the document's exact bytes, 64 hex digits, as in reports.
func (p *Policy) SHA256() string {
	return p.text(func(policy *C.confer_policy, n *C.size_t) *C.char { return C.confer_policy_sha256(policy, n) })
}

func (p *Policy) text(get func(*C.confer_policy, *C.size_t) *C.char) (text string) {
	p.owner.use(func(policy *C.confer_policy) {
		text = textOf(func(n *C.size_t) *C.char { return get(policy, n) })
	})
	return text
}

// Report says why an enclave was trusted or refused, check by check. Unknown texts and times are
// zero.
type Report struct {
	Verdict    string `json:"verdict"` // "verified" or "rejected"
	Platform   string `json:"platform"`
	Policy     struct{ Name, SHA256 string }
	VerifiedAt int64  `json:"verified_at"` // Unix seconds
	ExpiresAt  int64  `json:"expires_at"`  // of Intel's token
	Endpoint   string `json:"endpoint"`
	ServerKey  string `json:"server_key"`
	Manifest   string `json:"manifest_sha256"`
	Release    struct {
		ImageVersion string `json:"image_version"`
		ProxyVersion string `json:"proxy_version"`
		Signer       string `json:"signer"`
		Issuer       string `json:"issuer"`
		Log          struct {
			URL            string `json:"url"`
			Index          int64  `json:"index"`
			IntegratedTime int64  `json:"integrated_time"`
		} `json:"log"`
	} `json:"release"`
	TDX struct {
		MRTD       string   `json:"mrtd"`
		RTMR0      string   `json:"rtmr0"`
		RTMR1      string   `json:"rtmr1"`
		RTMR2      string   `json:"rtmr2"`
		RTMR3      string   `json:"rtmr3"`
		SEAMSVN    int64    `json:"seam_svn"`
		TCBStatus  string   `json:"tcb_status"`
		TCBDate    string   `json:"tcb_date"`
		Advisories []string `json:"advisories"`
	} `json:"tdx"`
	Checks []Check `json:"checks"`
	// TimingsUS has the duration of each stage of connecting in microseconds, by its name in the
	// JSON.
	TimingsUS map[string]int64 `json:"timings_us"`

	// JSON is the complete report. Evidence can be kept for VerifyEvidence.
	JSON     string `json:"-"`
	Evidence string `json:"-"`
}

// Check is one verification check.
type Check struct {
	ID       string  `json:"id"` // such as "tdx.key_binding"
	Outcome  Outcome `json:"outcome"`
	Detail   string  `json:"detail"` // one English sentence
	Expected string  `json:"expected"`
	Observed string  `json:"observed"`
}

// Outcome is the outcome of a check.
type Outcome string

const (
	OutcomePass Outcome = "pass" // the check holds
	OutcomeWarn Outcome = "warn" // the policy tolerates the result, but the machine needs an update
	OutcomeFail Outcome = "fail" // the check does not hold
	OutcomeSkip Outcome = "skip" // the check could not run, and rejects like a failure
)

// Verified returns whether every check passed or warned.
func (r *Report) Verified() bool { return r.Verdict == "verified" }

// VerifyEvidence verifies exported evidence again, offline. A nil policy means [ProductionPolicy],
// a zero time the time of the evidence's capture. If the evidence is refused, [Error.Report] says
// why.
func VerifyEvidence(evidence string, policy *Policy, at time.Time) (*Report, error) {
	if policy == nil {
		policy = new(Policy)
	} else if err := policy.owner.made("policy"); err != nil {
		return nil, err
	}
	seconds := C.int64_t(-1)
	if !at.IsZero() {
		if seconds = C.int64_t(at.Unix()); seconds < 0 {
			return nil, madeHere(ErrInvalidArgument, "at: it is before 1970")
		}
	}
	var report *C.confer_report
	err := policy.owner.do(func(trusted *C.confer_policy, e **C.confer_error) C.confer_status {
		text, length := bytesOf(evidence)
		return C.confer_evidence_verify(text, length, trusted, seconds, &report, e)
	})
	if err != nil {
		return nil, err
	}
	defer C.confer_report_free(report)
	return readReport(report), nil
}

// readReport copies a report, nil for NULL.
func readReport(report *C.confer_report) *Report {
	if report == nil {
		return nil
	}
	document := textOf(func(n *C.size_t) *C.char { return C.confer_report_json(report, n) })
	read := new(Report)
	if err := json.Unmarshal([]byte(document), read); err != nil {
		read = &Report{Verdict: "unreadable: " + err.Error()}
	}
	read.JSON = document
	read.Evidence = textOf(func(n *C.size_t) *C.char { return C.confer_report_evidence(report, n) })
	return read
}
