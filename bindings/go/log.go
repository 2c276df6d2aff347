package confer

// The log: passes the library's records to Config.Log. C keeps a cgo.Handle of that function.

/*
#include <confer.h>
*/
import "C"

import "runtime/cgo"

// LogLevel is the level of a log record.
type LogLevel int32

const (
	LogError LogLevel = C.CONFER_LOG_ERROR // something failed
	LogWarn  LogLevel = C.CONFER_LOG_WARN  // something is wrong, but the work continues
	LogInfo  LogLevel = C.CONFER_LOG_INFO  // a connection was opened or closed
	LogDebug LogLevel = C.CONFER_LOG_DEBUG // each stage of connecting
)

// String returns the name of the constant in confer.h, such as "CONFER_LOG_WARN".
func (l LogLevel) String() string { return C.GoString(C.confer_log_level_name(C.int32_t(l))) }

//export conferGoLog
func conferGoLog(handle C.uintptr_t, level C.int32_t, target, message *C.char) {
	cgo.Handle(handle).Value().(func(LogLevel, string, string))(LogLevel(level), C.GoString(target), C.GoString(message))
}

//export conferGoDestroy
func conferGoDestroy(handle C.uintptr_t) { cgo.Handle(handle).Delete() }
