package confer_test

// The constants of this package against confer.h.

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"libconfer/confer"
)

// Each enumeration of the header: the prefix of its constants in Go, and how a value is printed.
var enumerations = map[string]struct {
	prefix string
	name   func(int32) string
}{
	"E":        {"Err", func(n int32) string { return confer.Status(n).String() }},
	"ROLE":     {"Role", func(n int32) string { return confer.Role(n).String() }},
	"EVENT":    {"Event", func(n int32) string { return confer.EventType(n).String() }},
	"PROGRESS": {"", func(n int32) string { return confer.Progress(n).String() }},
	"ENDING":   {"Ending", func(n int32) string { return confer.Ending(n).String() }},
	"ROOTS":    {"Roots", func(n int32) string { return confer.Roots(n).String() }},
	"STAGE":    {"Stage", func(n int32) string { return confer.Stage(n).String() }},
	"CLIENT":   {"State", func(n int32) string { return confer.State(n).String() }},
	"TOKEN":    {"Token", func(n int32) string { return confer.TokenReason(n).String() }},
	"DURATION": {"Duration", func(n int32) string { return confer.DurationKey(n).String() }},
	"LIMIT":    {"Limit", func(n int32) string { return confer.LimitKey(n).String() }},
	"LOG":      {"Log", func(n int32) string { return confer.LogLevel(n).String() }},
	"ASK":      {"Ask", nil}, // bits
}

// Constants that are something else in Go.
var (
	noEnumeration = regexp.MustCompile(`^CONFER_(VERSION_\w+|OK|TIMEOUT|END)$`)
	fields        = regexp.MustCompile(`^CONFER_COUNTER_`)
	outcomes      = regexp.MustCompile(`^CONFER_OUTCOME_(\w+)$`)
)

// Functions of the header that the package does not call, and what it does instead.
var unused = map[*regexp.Regexp]string{
	regexp.MustCompile(`^confer_(connect|client_wait)$`):                    "Connect and Wait read a watch, because a context can end it",
	regexp.MustCompile(`^confer_(error|report)_clone$`):                     "Error and Report are copies",
	regexp.MustCompile(`^confer_report_\w+$`):                               "Report reads the JSON",
	regexp.MustCompile(`^confer_extraction_request_set_document_callback$`): "Extract writes what it reads from its Reader",
	regexp.MustCompile(`^confer_stream_fd$`):                                "a goroutine waits for the stream",
	regexp.MustCompile(`^confer_(counter|outcome)_name$`):                   "Counters has fields, and Outcome is the name",
	regexp.MustCompile(`^confer_version_number$`):                           "Version has the same as text",
}

func TestEachFunctionOfTheHeaderIsUsed(t *testing.T) {
	header, err := os.ReadFile("../../include/confer.h")
	if err != nil {
		t.Fatal(err)
	}
	code := regexp.MustCompile(`(?m)^\s*//.*$`).ReplaceAllString(packageSources(t), "")
	functions := regexp.MustCompile(`(?m)^[a-z][a-z0-9_ ]*[ *](confer_[a-z0-9_]+)\(`).FindAllStringSubmatch(string(header), -1)
	if len(functions) < 190 {
		t.Fatalf("only %d functions were found in the header", len(functions))
	}
	left := maps.Clone(unused)
	for _, match := range functions {
		if regexp.MustCompile(`\b` + match[1] + `\b`).MatchString(code) {
			continue
		}
		known := false
		for pattern := range unused {
			if pattern.MatchString(match[1]) {
				known = true
				delete(left, pattern)
			}
		}
		if !known {
			t.Errorf("the package does not use %s", match[1])
		}
	}
	for pattern := range left {
		t.Errorf("the package uses %v", pattern)
	}
}

// packageSources returns the package's files without its tests.
func packageSources(t *testing.T) (sources string) {
	t.Helper()
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		sources += string(source)
	}
	return sources
}

// Each constant of the header exists in Go with its name, and has the header's number.
func TestTablesMatchTheHeader(t *testing.T) {
	header, err := os.ReadFile("../../include/confer.h")
	if err != nil {
		t.Fatal(err)
	}
	sources := packageSources(t)
	repeated := map[string]string{}
	for _, match := range regexp.MustCompile(`(?m)^\t(\w+) +\w+ += C\.(CONFER_\w+)`).FindAllStringSubmatch(sources, -1) {
		repeated[match[2]] = match[1]
	}
	defined := regexp.MustCompile(`(?m)^#define (CONFER_\w+) (\d+)$`).FindAllStringSubmatch(string(header), -1)
	if len(defined) < 130 {
		t.Fatalf("only %d constants were found in the header", len(defined))
	}
	for _, match := range defined {
		constant := match[1]
		switch {
		case noEnumeration.MatchString(constant):
			continue
		case fields.MatchString(constant):
			if !regexp.MustCompile(`C\.` + constant + `\b`).MatchString(sources) {
				t.Errorf("%s has no field in Go", constant)
			}
			continue
		case outcomes.MatchString(constant):
			word := strings.ToLower(outcomes.FindStringSubmatch(constant)[1])
			if !regexp.MustCompile(`(?mi)^\tOutcome` + word + ` +Outcome = "` + word + `"`).MatchString(sources) {
				t.Errorf("%s has no name in Go", constant)
			}
			continue
		}
		words := strings.SplitN(constant, "_", 3)
		enumeration, known := enumerations[words[1]]
		if !known {
			t.Errorf("%s is of an enumeration that Go does not have", constant)
			continue
		}
		name, found := repeated[constant]
		if !found {
			t.Errorf("%s has no name in Go", constant)
			continue
		}
		delete(repeated, constant)
		// ErrRejected, EventServerToolCall, RoleUser, NotSent.
		if !strings.EqualFold(name, enumeration.prefix+strings.ReplaceAll(words[2], "_", "")) {
			t.Errorf("%s is called %s", constant, name)
		}
		number, err := strconv.ParseInt(match[2], 10, 32)
		if err != nil {
			t.Error(err)
		} else if enumeration.name != nil && enumeration.name(int32(number)) != constant {
			t.Errorf("%s is %d, which the library calls %s", constant, number, enumeration.name(int32(number)))
		}
	}
	for constant := range repeated {
		t.Errorf("%s is not in the header", constant)
	}
}

func TestLibraryHasAVersionAndLimitsOfTheProcess(t *testing.T) {
	if !regexp.MustCompile(`^\d+\.\d+\.\d+$`).MatchString(confer.Version()) {
		t.Errorf("version %q", confer.Version())
	}
	for _, err := range []error{confer.SetWorkers(0), confer.SetWorkers(-1), confer.SetUnreadLimit(1)} {
		if !errors.Is(err, confer.ErrInvalidArgument) {
			t.Errorf("got %v", err)
		}
	}
	if err := confer.SetUnreadLimit(1 << 30); err != nil {
		t.Error(err)
	}
	client := connect(t, startEnclave(t, "none"))
	if over, err := confer.WaitForThreads(time.Microsecond); over || err != nil {
		t.Errorf("while a client is open: %v, %v", over, err)
	}
	if err := confer.SetWorkers(3); !errors.Is(err, confer.ErrBusy) {
		t.Errorf("while workers run: %v", err)
	}
	if err := client.Close(); err != nil {
		t.Error(err)
	}
	if over, err := confer.WaitForThreads(-1); !over || err != nil {
		t.Errorf("after the last close: %v, %v", over, err)
	}
	if err := confer.SetWorkers(2); err != nil {
		t.Error(err)
	}
}
