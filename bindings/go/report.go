package confer

// Policies, reports, and the verification of kept evidence. The report's fields are those of its
// JSON.

/*
#include <confer.h>
*/
import "C"

import (
	"encoding/json"
	"fmt"
	"runtime"
	"time"
)

// Policy says which enclaves are trusted, as one JSON document. Immutable. Clients that share a
// policy connect faster.
type Policy struct{ handle *C.confer_policy }

// ProductionPolicy returns the built-in policy for Confer's service.
func ProductionPolicy() (*Policy, error) {
	return newPolicy(func(p **C.confer_policy, e **C.confer_error) C.confer_status { return C.confer_policy_production(p, e) })
}

// StrictPolicy returns ProductionPolicy, but refuses machines whose firmware needs an update or
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
	var failure *C.confer_error
	if status := make(&handle, &failure); status != C.CONFER_OK {
		return nil, takeError(status, failure)
	}
	policy := &Policy{handle}
	runtime.AddCleanup(policy, func(handle *C.confer_policy) { C.confer_policy_free(handle) }, handle)
	return policy, nil
}

// JSON returns the exact bytes of the document.
func (p *Policy) JSON() string {
	defer runtime.KeepAlive(p)
	return textOf(func(n *C.size_t) *C.char { return C.confer_policy_json(p.handle, n) })
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

	// JSON is the complete report. Evidence can be kept for VerifyEvidence.
	JSON     string `json:"-"`
	Evidence string `json:"-"`
}

// Check is one verification check.
type Check struct {
	ID       string `json:"id"`
	Outcome  string `json:"outcome"` // "pass", "warn", "fail" or "skip"
	Detail   string `json:"detail"`
	Expected string `json:"expected"`
	Observed string `json:"observed"`
}

// Verified returns whether every check passed or warned.
func (r *Report) Verified() bool { return r.Verdict == "verified" }

// VerifyEvidence verifies exported evidence again, offline. A nil policy means ProductionPolicy, a
// zero time the time of the evidence's capture. If the evidence is refused, the error's Report says
// why.
func VerifyEvidence(evidence string, policy *Policy, at time.Time) (*Report, error) {
	var trusted *C.confer_policy
	if policy != nil {
		defer runtime.KeepAlive(policy)
		if trusted = policy.handle; trusted == nil {
			return nil, madeHere(ErrInvalidArgument, "policy: it was not made by a function of this package")
		}
	}
	seconds := C.int64_t(-1)
	if !at.IsZero() {
		seconds = C.int64_t(at.Unix())
	}
	text, length := bytesOf(evidence)
	var report *C.confer_report
	var failure *C.confer_error
	status := C.confer_evidence_verify(text, length, trusted, seconds, &report, &failure)
	if status != C.CONFER_OK {
		return nil, takeError(status, failure)
	}
	defer C.confer_report_free(report)
	return readReport(report)
}

func readReport(report *C.confer_report) (*Report, error) {
	read := &Report{
		JSON:     textOf(func(n *C.size_t) *C.char { return C.confer_report_json(report, n) }),
		Evidence: textOf(func(n *C.size_t) *C.char { return C.confer_report_evidence(report, n) }),
	}
	if err := json.Unmarshal([]byte(read.JSON), read); err != nil {
		return nil, fmt.Errorf("the report cannot be read: %w", err)
	}
	return read, nil
}
