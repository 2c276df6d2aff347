"""The functions and types of confer.h. Written by generate.py; do not edit."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from ._library import Double, Int32, Int64, UInt32, UInt64, quick, waiting


class confer_chat_request(ctypes.c_void_p):
    pass


class confer_client(ctypes.c_void_p):
    pass


class confer_config(ctypes.c_void_p):
    pass


class confer_conversation(ctypes.c_void_p):
    pass


class confer_embeddings_request(ctypes.c_void_p):
    pass


class confer_error(ctypes.c_void_p):
    pass


class confer_event(ctypes.c_void_p):
    pass


class confer_extraction_request(ctypes.c_void_p):
    pass


class confer_fetch_request(ctypes.c_void_p):
    pass


class confer_policy(ctypes.c_void_p):
    pass


class confer_raw_request(ctypes.c_void_p):
    pass


class confer_report(ctypes.c_void_p):
    pass


class confer_stream(ctypes.c_void_p):
    pass


confer_destroy_fn = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

confer_log_fn = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int32, ctypes.c_char_p, ctypes.c_char_p)

confer_read_fn = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


# The callbacks of confer_stream_callbacks.

on_event_fn = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, confer_stream, confer_event)
on_done_fn = ctypes.CFUNCTYPE(None, ctypes.c_void_p, confer_stream, ctypes.c_int32, confer_error)
on_ready_fn = ctypes.CFUNCTYPE(None, ctypes.c_void_p, confer_stream)


class confer_stream_callbacks(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_size_t),
        ("user_data", ctypes.c_void_p),
        ("on_event", on_event_fn),
        ("on_done", on_done_fn),
        ("destroy", confer_destroy_fn),
        ("on_ready", on_ready_fn),
    ]


confer_status_name: Callable[[int], bytes] = quick(
    "confer_status_name", ctypes.c_char_p, [Int32]
)
confer_status_description: Callable[[int], bytes] = quick(
    "confer_status_description", ctypes.c_char_p, [Int32]
)
confer_error_status: Callable[[confer_error], int] = quick(
    "confer_error_status", ctypes.c_int32, [confer_error]
)
confer_error_message: Callable[[confer_error, Any], int | None] = quick(
    "confer_error_message", ctypes.c_void_p, [confer_error, ctypes.POINTER(ctypes.c_size_t)]
)
confer_error_check_id: Callable[[confer_error, Any], int | None] = quick(
    "confer_error_check_id", ctypes.c_void_p, [confer_error, ctypes.POINTER(ctypes.c_size_t)]
)
confer_error_http_status: Callable[[confer_error], int] = quick(
    "confer_error_http_status", ctypes.c_int32, [confer_error]
)
confer_error_retryable: Callable[[confer_error], bool] = quick(
    "confer_error_retryable", ctypes.c_bool, [confer_error]
)
confer_error_retry_delay_ms: Callable[[confer_error], int] = quick(
    "confer_error_retry_delay_ms", ctypes.c_int64, [confer_error]
)
confer_error_progress: Callable[[confer_error], int] = quick(
    "confer_error_progress", ctypes.c_int32, [confer_error]
)
confer_error_peer_text: Callable[[confer_error, Any], int | None] = quick(
    "confer_error_peer_text", ctypes.c_void_p, [confer_error, ctypes.POINTER(ctypes.c_size_t)]
)
confer_error_report: Callable[[confer_error], confer_report] = quick(
    "confer_error_report", confer_report, [confer_error]
)
confer_error_clone: Callable[[confer_error], confer_error] = quick(
    "confer_error_clone", confer_error, [confer_error]
)
confer_error_free: Callable[[confer_error], None] = quick(
    "confer_error_free", None, [confer_error]
)
confer_version_number: Callable[[], int] = quick(
    "confer_version_number", ctypes.c_uint32, []
)
confer_version_string: Callable[[], bytes] = quick(
    "confer_version_string", ctypes.c_char_p, []
)
confer_runtime_set_workers: Callable[[int, Any], int] = waiting(
    "confer_runtime_set_workers", ctypes.c_int32, [UInt64, ctypes.POINTER(confer_error)]
)
confer_runtime_set_unread_limit: Callable[[int, Any], int] = waiting(
    "confer_runtime_set_unread_limit", ctypes.c_int32, [UInt64, ctypes.POINTER(confer_error)]
)
confer_runtime_wait: Callable[[int, Any], int] = waiting(
    "confer_runtime_wait", ctypes.c_int32, [Int64, ctypes.POINTER(confer_error)]
)
confer_config_new: Callable[[Any, Any], int] = waiting(
    "confer_config_new", ctypes.c_int32, [ctypes.POINTER(confer_config), ctypes.POINTER(confer_error)]
)
confer_config_set_endpoint: Callable[[confer_config, bytes | None, int, Any], int] = waiting(
    "confer_config_set_endpoint", ctypes.c_int32, [confer_config, ctypes.c_char_p, UInt64, ctypes.POINTER(confer_error)]
)
confer_config_set_proxy: Callable[[confer_config, bytes | None, int, Any], int] = waiting(
    "confer_config_set_proxy", ctypes.c_int32, [confer_config, ctypes.c_char_p, UInt64, ctypes.POINTER(confer_error)]
)
confer_config_set_proxy_from_environment: Callable[[confer_config, Any], int] = waiting(
    "confer_config_set_proxy_from_environment", ctypes.c_int32, [confer_config, ctypes.POINTER(confer_error)]
)
confer_config_set_roots: Callable[[confer_config, int, Any], int] = waiting(
    "confer_config_set_roots", ctypes.c_int32, [confer_config, Int32, ctypes.POINTER(confer_error)]
)
confer_config_set_roots_pem: Callable[[confer_config, bytes | None, int, Any], int] = waiting(
    "confer_config_set_roots_pem", ctypes.c_int32, [confer_config, ctypes.c_char_p, UInt64, ctypes.POINTER(confer_error)]
)
confer_config_set_token: Callable[[confer_config, bytes | None, int, Any], int] = waiting(
    "confer_config_set_token", ctypes.c_int32, [confer_config, ctypes.c_char_p, UInt64, ctypes.POINTER(confer_error)]
)
confer_config_set_policy: Callable[[confer_config, confer_policy, Any], int] = waiting(
    "confer_config_set_policy", ctypes.c_int32, [confer_config, confer_policy, ctypes.POINTER(confer_error)]
)
confer_config_set_jwks_cache_file: Callable[[confer_config, bytes | None, int, Any], int] = waiting(
    "confer_config_set_jwks_cache_file", ctypes.c_int32, [confer_config, ctypes.c_char_p, UInt64, ctypes.POINTER(confer_error)]
)
confer_config_free: Callable[[confer_config], None] = quick(
    "confer_config_free", None, [confer_config]
)
confer_config_set_duration_ms: Callable[[confer_config, int, int, Any], int] = waiting(
    "confer_config_set_duration_ms", ctypes.c_int32, [confer_config, Int32, UInt64, ctypes.POINTER(confer_error)]
)
confer_config_set_limit: Callable[[confer_config, int, int, Any], int] = waiting(
    "confer_config_set_limit", ctypes.c_int32, [confer_config, Int32, UInt64, ctypes.POINTER(confer_error)]
)
confer_config_set_renew_with_evidence: Callable[[confer_config, bool, Any], int] = waiting(
    "confer_config_set_renew_with_evidence", ctypes.c_int32, [confer_config, ctypes.c_bool, ctypes.POINTER(confer_error)]
)
confer_config_set_log: Callable[[confer_config, int, Any, int | None, Any, Any], int] = waiting(
    "confer_config_set_log", ctypes.c_int32, [confer_config, Int32, confer_log_fn, ctypes.c_void_p, confer_destroy_fn, ctypes.POINTER(confer_error)]
)
confer_policy_production: Callable[[Any, Any], int] = waiting(
    "confer_policy_production", ctypes.c_int32, [ctypes.POINTER(confer_policy), ctypes.POINTER(confer_error)]
)
confer_policy_strict: Callable[[Any, Any], int] = waiting(
    "confer_policy_strict", ctypes.c_int32, [ctypes.POINTER(confer_policy), ctypes.POINTER(confer_error)]
)
confer_policy_parse: Callable[[bytes | None, int, Any, Any], int] = waiting(
    "confer_policy_parse", ctypes.c_int32, [ctypes.c_char_p, UInt64, ctypes.POINTER(confer_policy), ctypes.POINTER(confer_error)]
)
confer_policy_load: Callable[[bytes | None, int, Any, Any], int] = waiting(
    "confer_policy_load", ctypes.c_int32, [ctypes.c_char_p, UInt64, ctypes.POINTER(confer_policy), ctypes.POINTER(confer_error)]
)
confer_policy_json: Callable[[confer_policy, Any], int | None] = quick(
    "confer_policy_json", ctypes.c_void_p, [confer_policy, ctypes.POINTER(ctypes.c_size_t)]
)
confer_policy_name: Callable[[confer_policy, Any], int | None] = quick(
    "confer_policy_name", ctypes.c_void_p, [confer_policy, ctypes.POINTER(ctypes.c_size_t)]
)
confer_policy_sha256: Callable[[confer_policy, Any], int | None] = quick(
    "confer_policy_sha256", ctypes.c_void_p, [confer_policy, ctypes.POINTER(ctypes.c_size_t)]
)
confer_policy_free: Callable[[confer_policy], None] = quick(
    "confer_policy_free", None, [confer_policy]
)
confer_connect: Callable[[confer_config, Any, Any], int] = waiting(
    "confer_connect", ctypes.c_int32, [confer_config, ctypes.POINTER(confer_client), ctypes.POINTER(confer_error)]
)
confer_connect_start: Callable[[confer_config, Any, Any], int] = waiting(
    "confer_connect_start", ctypes.c_int32, [confer_config, ctypes.POINTER(confer_client), ctypes.POINTER(confer_error)]
)
confer_client_wait: Callable[[confer_client, int, Any], int] = waiting(
    "confer_client_wait", ctypes.c_int32, [confer_client, Int64, ctypes.POINTER(confer_error)]
)
confer_client_state: Callable[[confer_client], int] = quick(
    "confer_client_state", ctypes.c_int32, [confer_client]
)
confer_client_check: Callable[[confer_client, Any], int] = waiting(
    "confer_client_check", ctypes.c_int32, [confer_client, ctypes.POINTER(confer_error)]
)
confer_client_set_token: Callable[[confer_client, bytes | None, int, Any], int] = waiting(
    "confer_client_set_token", ctypes.c_int32, [confer_client, ctypes.c_char_p, UInt64, ctypes.POINTER(confer_error)]
)
confer_attestation_report: Callable[[confer_client, Any, Any], int] = waiting(
    "confer_attestation_report", ctypes.c_int32, [confer_client, ctypes.POINTER(confer_report), ctypes.POINTER(confer_error)]
)
confer_client_network_changed: Callable[[confer_client, Any], int] = waiting(
    "confer_client_network_changed", ctypes.c_int32, [confer_client, ctypes.POINTER(confer_error)]
)
confer_client_counter: Callable[[confer_client, int], int] = quick(
    "confer_client_counter", ctypes.c_uint64, [confer_client, Int32]
)
confer_close: Callable[[confer_client, int, Any], int] = waiting(
    "confer_close", ctypes.c_int32, [confer_client, Int64, ctypes.POINTER(confer_error)]
)
confer_client_free: Callable[[confer_client], None] = quick(
    "confer_client_free", None, [confer_client]
)
confer_report_verified: Callable[[confer_report], bool] = quick(
    "confer_report_verified", ctypes.c_bool, [confer_report]
)
confer_report_json: Callable[[confer_report, Any], int | None] = quick(
    "confer_report_json", ctypes.c_void_p, [confer_report, ctypes.POINTER(ctypes.c_size_t)]
)
confer_report_evidence: Callable[[confer_report, Any], int | None] = quick(
    "confer_report_evidence", ctypes.c_void_p, [confer_report, ctypes.POINTER(ctypes.c_size_t)]
)
confer_report_timing_us: Callable[[confer_report, int], int] = quick(
    "confer_report_timing_us", ctypes.c_int64, [confer_report, Int32]
)
confer_report_check_count: Callable[[confer_report], int] = quick(
    "confer_report_check_count", ctypes.c_size_t, [confer_report]
)
confer_report_check_outcome: Callable[[confer_report, int], int] = quick(
    "confer_report_check_outcome", ctypes.c_int32, [confer_report, UInt64]
)
confer_report_check_id: Callable[[confer_report, int, Any], int | None] = quick(
    "confer_report_check_id", ctypes.c_void_p, [confer_report, UInt64, ctypes.POINTER(ctypes.c_size_t)]
)
confer_report_check_detail: Callable[[confer_report, int, Any], int | None] = quick(
    "confer_report_check_detail", ctypes.c_void_p, [confer_report, UInt64, ctypes.POINTER(ctypes.c_size_t)]
)
confer_report_check_expected: Callable[[confer_report, int, Any], int | None] = quick(
    "confer_report_check_expected", ctypes.c_void_p, [confer_report, UInt64, ctypes.POINTER(ctypes.c_size_t)]
)
confer_report_check_observed: Callable[[confer_report, int, Any], int | None] = quick(
    "confer_report_check_observed", ctypes.c_void_p, [confer_report, UInt64, ctypes.POINTER(ctypes.c_size_t)]
)
confer_report_clone: Callable[[confer_report], confer_report] = quick(
    "confer_report_clone", confer_report, [confer_report]
)
confer_report_free: Callable[[confer_report], None] = quick(
    "confer_report_free", None, [confer_report]
)
confer_report_platform: Callable[[confer_report, Any], int | None] = quick(
    "confer_report_platform", ctypes.c_void_p, [confer_report, ctypes.POINTER(ctypes.c_size_t)]
)
confer_report_policy_name: Callable[[confer_report, Any], int | None] = quick(
    "confer_report_policy_name", ctypes.c_void_p, [confer_report, ctypes.POINTER(ctypes.c_size_t)]
)
confer_report_policy_sha256: Callable[[confer_report, Any], int | None] = quick(
    "confer_report_policy_sha256", ctypes.c_void_p, [confer_report, ctypes.POINTER(ctypes.c_size_t)]
)
confer_report_endpoint: Callable[[confer_report, Any], int | None] = quick(
    "confer_report_endpoint", ctypes.c_void_p, [confer_report, ctypes.POINTER(ctypes.c_size_t)]
)
confer_report_manifest_sha256: Callable[[confer_report, Any], int | None] = quick(
    "confer_report_manifest_sha256", ctypes.c_void_p, [confer_report, ctypes.POINTER(ctypes.c_size_t)]
)
confer_report_image_version: Callable[[confer_report, Any], int | None] = quick(
    "confer_report_image_version", ctypes.c_void_p, [confer_report, ctypes.POINTER(ctypes.c_size_t)]
)
confer_report_proxy_version: Callable[[confer_report, Any], int | None] = quick(
    "confer_report_proxy_version", ctypes.c_void_p, [confer_report, ctypes.POINTER(ctypes.c_size_t)]
)
confer_report_signer: Callable[[confer_report, Any], int | None] = quick(
    "confer_report_signer", ctypes.c_void_p, [confer_report, ctypes.POINTER(ctypes.c_size_t)]
)
confer_report_issuer: Callable[[confer_report, Any], int | None] = quick(
    "confer_report_issuer", ctypes.c_void_p, [confer_report, ctypes.POINTER(ctypes.c_size_t)]
)
confer_report_log_url: Callable[[confer_report, Any], int | None] = quick(
    "confer_report_log_url", ctypes.c_void_p, [confer_report, ctypes.POINTER(ctypes.c_size_t)]
)
confer_report_mrtd: Callable[[confer_report, Any], int | None] = quick(
    "confer_report_mrtd", ctypes.c_void_p, [confer_report, ctypes.POINTER(ctypes.c_size_t)]
)
confer_report_rtmr0: Callable[[confer_report, Any], int | None] = quick(
    "confer_report_rtmr0", ctypes.c_void_p, [confer_report, ctypes.POINTER(ctypes.c_size_t)]
)
confer_report_rtmr1: Callable[[confer_report, Any], int | None] = quick(
    "confer_report_rtmr1", ctypes.c_void_p, [confer_report, ctypes.POINTER(ctypes.c_size_t)]
)
confer_report_rtmr2: Callable[[confer_report, Any], int | None] = quick(
    "confer_report_rtmr2", ctypes.c_void_p, [confer_report, ctypes.POINTER(ctypes.c_size_t)]
)
confer_report_rtmr3: Callable[[confer_report, Any], int | None] = quick(
    "confer_report_rtmr3", ctypes.c_void_p, [confer_report, ctypes.POINTER(ctypes.c_size_t)]
)
confer_report_tcb_status: Callable[[confer_report, Any], int | None] = quick(
    "confer_report_tcb_status", ctypes.c_void_p, [confer_report, ctypes.POINTER(ctypes.c_size_t)]
)
confer_report_tcb_date: Callable[[confer_report, Any], int | None] = quick(
    "confer_report_tcb_date", ctypes.c_void_p, [confer_report, ctypes.POINTER(ctypes.c_size_t)]
)
confer_report_verified_at: Callable[[confer_report], int] = quick(
    "confer_report_verified_at", ctypes.c_int64, [confer_report]
)
confer_report_expires_at: Callable[[confer_report], int] = quick(
    "confer_report_expires_at", ctypes.c_int64, [confer_report]
)
confer_report_log_index: Callable[[confer_report], int] = quick(
    "confer_report_log_index", ctypes.c_int64, [confer_report]
)
confer_report_log_integrated_time: Callable[[confer_report], int] = quick(
    "confer_report_log_integrated_time", ctypes.c_int64, [confer_report]
)
confer_report_seam_svn: Callable[[confer_report], int] = quick(
    "confer_report_seam_svn", ctypes.c_int64, [confer_report]
)
confer_report_server_key: Callable[[confer_report, Any], int | None] = quick(
    "confer_report_server_key", ctypes.c_void_p, [confer_report, ctypes.POINTER(ctypes.c_size_t)]
)
confer_report_advisory_count: Callable[[confer_report], int] = quick(
    "confer_report_advisory_count", ctypes.c_size_t, [confer_report]
)
confer_report_advisory: Callable[[confer_report, int, Any], int | None] = quick(
    "confer_report_advisory", ctypes.c_void_p, [confer_report, UInt64, ctypes.POINTER(ctypes.c_size_t)]
)
confer_evidence_verify: Callable[[bytes | None, int, confer_policy, int, Any, Any], int] = waiting(
    "confer_evidence_verify", ctypes.c_int32, [ctypes.c_char_p, UInt64, confer_policy, Int64, ctypes.POINTER(confer_report), ctypes.POINTER(confer_error)]
)
confer_conversation_new: Callable[[Any, Any], int] = waiting(
    "confer_conversation_new", ctypes.c_int32, [ctypes.POINTER(confer_conversation), ctypes.POINTER(confer_error)]
)
confer_conversation_parse: Callable[[bytes | None, int, Any, Any], int] = waiting(
    "confer_conversation_parse", ctypes.c_int32, [ctypes.c_char_p, UInt64, ctypes.POINTER(confer_conversation), ctypes.POINTER(confer_error)]
)
confer_conversation_json: Callable[[confer_conversation, Any], int | None] = quick(
    "confer_conversation_json", ctypes.c_void_p, [confer_conversation, ctypes.POINTER(ctypes.c_size_t)]
)
confer_conversation_add_message: Callable[[confer_conversation, int, bytes | None, int, Any], int] = waiting(
    "confer_conversation_add_message", ctypes.c_int32, [confer_conversation, Int32, ctypes.c_char_p, UInt64, ctypes.POINTER(confer_error)]
)
confer_conversation_truncate: Callable[[confer_conversation, int, Any], int] = waiting(
    "confer_conversation_truncate", ctypes.c_int32, [confer_conversation, UInt64, ctypes.POINTER(confer_error)]
)
confer_conversation_message_count: Callable[[confer_conversation], int] = quick(
    "confer_conversation_message_count", ctypes.c_size_t, [confer_conversation]
)
confer_conversation_context_tokens: Callable[[confer_conversation, Any], int] = quick(
    "confer_conversation_context_tokens", ctypes.c_int64, [confer_conversation, ctypes.POINTER(ctypes.c_int64)]
)
confer_conversation_free: Callable[[confer_conversation], None] = quick(
    "confer_conversation_free", None, [confer_conversation]
)
confer_chat_request_new: Callable[[Any, Any], int] = waiting(
    "confer_chat_request_new", ctypes.c_int32, [ctypes.POINTER(confer_chat_request), ctypes.POINTER(confer_error)]
)
confer_chat_request_add_message: Callable[[confer_chat_request, int, bytes | None, int, Any], int] = waiting(
    "confer_chat_request_add_message", ctypes.c_int32, [confer_chat_request, Int32, ctypes.c_char_p, UInt64, ctypes.POINTER(confer_error)]
)
confer_chat_request_add_message_json: Callable[[confer_chat_request, bytes | None, int, Any], int] = waiting(
    "confer_chat_request_add_message_json", ctypes.c_int32, [confer_chat_request, ctypes.c_char_p, UInt64, ctypes.POINTER(confer_error)]
)
confer_chat_request_set_model: Callable[[confer_chat_request, bytes | None, int, Any], int] = waiting(
    "confer_chat_request_set_model", ctypes.c_int32, [confer_chat_request, ctypes.c_char_p, UInt64, ctypes.POINTER(confer_error)]
)
confer_chat_request_set_web_search: Callable[[confer_chat_request, bool, Any], int] = waiting(
    "confer_chat_request_set_web_search", ctypes.c_int32, [confer_chat_request, ctypes.c_bool, ctypes.POINTER(confer_error)]
)
confer_chat_request_set_streaming: Callable[[confer_chat_request, bool, Any], int] = waiting(
    "confer_chat_request_set_streaming", ctypes.c_int32, [confer_chat_request, ctypes.c_bool, ctypes.POINTER(confer_error)]
)
confer_chat_request_add_document_json: Callable[[confer_chat_request, bytes | None, int, Any], int] = waiting(
    "confer_chat_request_add_document_json", ctypes.c_int32, [confer_chat_request, ctypes.c_char_p, UInt64, ctypes.POINTER(confer_error)]
)
confer_chat_request_add_tool: Callable[[confer_chat_request, bytes | None, int, bytes | None, int, bytes | None, int, Any], int] = waiting(
    "confer_chat_request_add_tool", ctypes.c_int32, [confer_chat_request, ctypes.c_char_p, UInt64, ctypes.c_char_p, UInt64, ctypes.c_char_p, UInt64, ctypes.POINTER(confer_error)]
)
confer_chat_request_set_tool_rounds: Callable[[confer_chat_request, int, int, Any], int] = waiting(
    "confer_chat_request_set_tool_rounds", ctypes.c_int32, [confer_chat_request, UInt32, UInt64, ctypes.POINTER(confer_error)]
)
confer_chat_request_set_conversation: Callable[[confer_chat_request, confer_conversation, Any], int] = waiting(
    "confer_chat_request_set_conversation", ctypes.c_int32, [confer_chat_request, confer_conversation, ctypes.POINTER(confer_error)]
)
confer_chat_request_set_property: Callable[[confer_chat_request, bytes | None, int, bytes | None, int, Any], int] = waiting(
    "confer_chat_request_set_property", ctypes.c_int32, [confer_chat_request, ctypes.c_char_p, UInt64, ctypes.c_char_p, UInt64, ctypes.POINTER(confer_error)]
)
confer_chat_request_free: Callable[[confer_chat_request], None] = quick(
    "confer_chat_request_free", None, [confer_chat_request]
)
confer_chat_request_set_temperature: Callable[[confer_chat_request, float, Any], int] = waiting(
    "confer_chat_request_set_temperature", ctypes.c_int32, [confer_chat_request, Double, ctypes.POINTER(confer_error)]
)
confer_chat_request_set_top_p: Callable[[confer_chat_request, float, Any], int] = waiting(
    "confer_chat_request_set_top_p", ctypes.c_int32, [confer_chat_request, Double, ctypes.POINTER(confer_error)]
)
confer_chat_request_set_min_p: Callable[[confer_chat_request, float, Any], int] = waiting(
    "confer_chat_request_set_min_p", ctypes.c_int32, [confer_chat_request, Double, ctypes.POINTER(confer_error)]
)
confer_chat_request_set_top_k: Callable[[confer_chat_request, int, Any], int] = waiting(
    "confer_chat_request_set_top_k", ctypes.c_int32, [confer_chat_request, Int32, ctypes.POINTER(confer_error)]
)
confer_chat_request_set_presence_penalty: Callable[[confer_chat_request, float, Any], int] = waiting(
    "confer_chat_request_set_presence_penalty", ctypes.c_int32, [confer_chat_request, Double, ctypes.POINTER(confer_error)]
)
confer_chat_request_set_frequency_penalty: Callable[[confer_chat_request, float, Any], int] = waiting(
    "confer_chat_request_set_frequency_penalty", ctypes.c_int32, [confer_chat_request, Double, ctypes.POINTER(confer_error)]
)
confer_chat_request_set_repetition_penalty: Callable[[confer_chat_request, float, Any], int] = waiting(
    "confer_chat_request_set_repetition_penalty", ctypes.c_int32, [confer_chat_request, Double, ctypes.POINTER(confer_error)]
)
confer_chat_request_set_max_tokens: Callable[[confer_chat_request, int, Any], int] = waiting(
    "confer_chat_request_set_max_tokens", ctypes.c_int32, [confer_chat_request, Int64, ctypes.POINTER(confer_error)]
)
confer_chat_request_set_json: Callable[[confer_chat_request, bool, Any], int] = waiting(
    "confer_chat_request_set_json", ctypes.c_int32, [confer_chat_request, ctypes.c_bool, ctypes.POINTER(confer_error)]
)
confer_chat_request_set_thinking: Callable[[confer_chat_request, bool, Any], int] = waiting(
    "confer_chat_request_set_thinking", ctypes.c_int32, [confer_chat_request, ctypes.c_bool, ctypes.POINTER(confer_error)]
)
confer_embeddings_request_new: Callable[[Any, Any], int] = waiting(
    "confer_embeddings_request_new", ctypes.c_int32, [ctypes.POINTER(confer_embeddings_request), ctypes.POINTER(confer_error)]
)
confer_embeddings_request_add_text: Callable[[confer_embeddings_request, bytes | None, int, Any], int] = waiting(
    "confer_embeddings_request_add_text", ctypes.c_int32, [confer_embeddings_request, ctypes.c_char_p, UInt64, ctypes.POINTER(confer_error)]
)
confer_embeddings_request_set_is_query: Callable[[confer_embeddings_request, bool, Any], int] = waiting(
    "confer_embeddings_request_set_is_query", ctypes.c_int32, [confer_embeddings_request, ctypes.c_bool, ctypes.POINTER(confer_error)]
)
confer_embeddings_request_free: Callable[[confer_embeddings_request], None] = quick(
    "confer_embeddings_request_free", None, [confer_embeddings_request]
)
confer_extraction_request_new: Callable[[bytes | None, int, Any, Any], int] = waiting(
    "confer_extraction_request_new", ctypes.c_int32, [ctypes.c_char_p, UInt64, ctypes.POINTER(confer_extraction_request), ctypes.POINTER(confer_error)]
)
confer_extraction_request_set_option: Callable[[confer_extraction_request, bytes | None, int, bytes | None, int, Any], int] = waiting(
    "confer_extraction_request_set_option", ctypes.c_int32, [confer_extraction_request, ctypes.c_char_p, UInt64, ctypes.c_char_p, UInt64, ctypes.POINTER(confer_error)]
)
confer_extraction_request_set_document_bytes: Callable[[confer_extraction_request, bytes | None, int, Any], int] = waiting(
    "confer_extraction_request_set_document_bytes", ctypes.c_int32, [confer_extraction_request, ctypes.c_char_p, UInt64, ctypes.POINTER(confer_error)]
)
confer_extraction_request_set_document_file: Callable[[confer_extraction_request, bytes | None, int, Any], int] = waiting(
    "confer_extraction_request_set_document_file", ctypes.c_int32, [confer_extraction_request, ctypes.c_char_p, UInt64, ctypes.POINTER(confer_error)]
)
confer_extraction_request_set_document_callback: Callable[[confer_extraction_request, int, Any, int | None, Any, Any], int] = waiting(
    "confer_extraction_request_set_document_callback", ctypes.c_int32, [confer_extraction_request, Int64, confer_read_fn, ctypes.c_void_p, confer_destroy_fn, ctypes.POINTER(confer_error)]
)
confer_extraction_request_set_document_stream: Callable[[confer_extraction_request, int, Any], int] = waiting(
    "confer_extraction_request_set_document_stream", ctypes.c_int32, [confer_extraction_request, Int64, ctypes.POINTER(confer_error)]
)
confer_extraction_request_free: Callable[[confer_extraction_request], None] = quick(
    "confer_extraction_request_free", None, [confer_extraction_request]
)
confer_fetch_request_new: Callable[[bytes | None, int, Any, Any], int] = waiting(
    "confer_fetch_request_new", ctypes.c_int32, [ctypes.c_char_p, UInt64, ctypes.POINTER(confer_fetch_request), ctypes.POINTER(confer_error)]
)
confer_fetch_request_set_header: Callable[[confer_fetch_request, bytes | None, int, bytes | None, int, Any], int] = waiting(
    "confer_fetch_request_set_header", ctypes.c_int32, [confer_fetch_request, ctypes.c_char_p, UInt64, ctypes.c_char_p, UInt64, ctypes.POINTER(confer_error)]
)
confer_fetch_request_free: Callable[[confer_fetch_request], None] = quick(
    "confer_fetch_request_free", None, [confer_fetch_request]
)
confer_raw_request_new: Callable[[bytes | None, int, bytes | None, int, int, Any, Any], int] = waiting(
    "confer_raw_request_new", ctypes.c_int32, [ctypes.c_char_p, UInt64, ctypes.c_char_p, UInt64, Int32, ctypes.POINTER(confer_raw_request), ctypes.POINTER(confer_error)]
)
confer_raw_request_set_body: Callable[[confer_raw_request, bytes | None, int, Any], int] = waiting(
    "confer_raw_request_set_body", ctypes.c_int32, [confer_raw_request, ctypes.c_char_p, UInt64, ctypes.POINTER(confer_error)]
)
confer_raw_request_free: Callable[[confer_raw_request], None] = quick(
    "confer_raw_request_free", None, [confer_raw_request]
)
confer_chat_stream: Callable[[confer_client, confer_chat_request, Any, Any, Any], int] = waiting(
    "confer_chat_stream", ctypes.c_int32, [confer_client, confer_chat_request, ctypes.POINTER(confer_stream_callbacks), ctypes.POINTER(confer_stream), ctypes.POINTER(confer_error)]
)
confer_embeddings_stream: Callable[[confer_client, confer_embeddings_request, Any, Any, Any], int] = waiting(
    "confer_embeddings_stream", ctypes.c_int32, [confer_client, confer_embeddings_request, ctypes.POINTER(confer_stream_callbacks), ctypes.POINTER(confer_stream), ctypes.POINTER(confer_error)]
)
confer_extraction_stream: Callable[[confer_client, confer_extraction_request, Any, Any, Any], int] = waiting(
    "confer_extraction_stream", ctypes.c_int32, [confer_client, confer_extraction_request, ctypes.POINTER(confer_stream_callbacks), ctypes.POINTER(confer_stream), ctypes.POINTER(confer_error)]
)
confer_fetch_stream: Callable[[confer_client, confer_fetch_request, Any, Any, Any], int] = waiting(
    "confer_fetch_stream", ctypes.c_int32, [confer_client, confer_fetch_request, ctypes.POINTER(confer_stream_callbacks), ctypes.POINTER(confer_stream), ctypes.POINTER(confer_error)]
)
confer_raw_stream: Callable[[confer_client, confer_raw_request, Any, Any, Any], int] = waiting(
    "confer_raw_stream", ctypes.c_int32, [confer_client, confer_raw_request, ctypes.POINTER(confer_stream_callbacks), ctypes.POINTER(confer_stream), ctypes.POINTER(confer_error)]
)
confer_ping_stream: Callable[[confer_client, Any, Any, Any], int] = waiting(
    "confer_ping_stream", ctypes.c_int32, [confer_client, ctypes.POINTER(confer_stream_callbacks), ctypes.POINTER(confer_stream), ctypes.POINTER(confer_error)]
)
confer_stream_next: Callable[[confer_stream, int, Any, Any], int] = waiting(
    "confer_stream_next", ctypes.c_int32, [confer_stream, Int64, ctypes.POINTER(confer_event), ctypes.POINTER(confer_error)]
)
confer_stream_collect: Callable[[confer_stream, int, Any, Any, Any], int] = waiting(
    "confer_stream_collect", ctypes.c_int32, [confer_stream, Int64, ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(ctypes.c_size_t), ctypes.POINTER(confer_error)]
)
confer_stream_text: Callable[[confer_stream, Any], int | None] = quick(
    "confer_stream_text", ctypes.c_void_p, [confer_stream, ctypes.POINTER(ctypes.c_size_t)]
)
confer_stream_fd: Callable[[confer_stream, Any, Any], int] = waiting(
    "confer_stream_fd", ctypes.c_int32, [confer_stream, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(confer_error)]
)
confer_stream_cancel: Callable[[confer_stream], None] = quick(
    "confer_stream_cancel", None, [confer_stream]
)
confer_stream_free: Callable[[confer_stream], None] = quick(
    "confer_stream_free", None, [confer_stream]
)
confer_stream_write: Callable[[confer_stream, bytes | None, int, int, Any, Any], int] = waiting(
    "confer_stream_write", ctypes.c_int32, [confer_stream, ctypes.c_char_p, UInt64, Int64, ctypes.POINTER(ctypes.c_size_t), ctypes.POINTER(confer_error)]
)
confer_stream_finish: Callable[[confer_stream, Any], int] = waiting(
    "confer_stream_finish", ctypes.c_int32, [confer_stream, ctypes.POINTER(confer_error)]
)
confer_event_type: Callable[[confer_event], int] = quick(
    "confer_event_type", ctypes.c_int32, [confer_event]
)
confer_event_json: Callable[[confer_event, Any], int | None] = quick(
    "confer_event_json", ctypes.c_void_p, [confer_event, ctypes.POINTER(ctypes.c_size_t)]
)
confer_event_content: Callable[[confer_event, Any], int | None] = quick(
    "confer_event_content", ctypes.c_void_p, [confer_event, ctypes.POINTER(ctypes.c_size_t)]
)
confer_event_full_content: Callable[[confer_event, Any], int | None] = quick(
    "confer_event_full_content", ctypes.c_void_p, [confer_event, ctypes.POINTER(ctypes.c_size_t)]
)
confer_event_tool_call_id: Callable[[confer_event, Any], int | None] = quick(
    "confer_event_tool_call_id", ctypes.c_void_p, [confer_event, ctypes.POINTER(ctypes.c_size_t)]
)
confer_event_tool_name: Callable[[confer_event, Any], int | None] = quick(
    "confer_event_tool_name", ctypes.c_void_p, [confer_event, ctypes.POINTER(ctypes.c_size_t)]
)
confer_event_tool_arguments: Callable[[confer_event, Any], int | None] = quick(
    "confer_event_tool_arguments", ctypes.c_void_p, [confer_event, ctypes.POINTER(ctypes.c_size_t)]
)
confer_event_pending_tool_calls: Callable[[confer_event], bool] = quick(
    "confer_event_pending_tool_calls", ctypes.c_bool, [confer_event]
)
confer_event_context_tokens: Callable[[confer_event], int] = quick(
    "confer_event_context_tokens", ctypes.c_int64, [confer_event]
)
confer_event_max_context_tokens: Callable[[confer_event], int] = quick(
    "confer_event_max_context_tokens", ctypes.c_int64, [confer_event]
)
confer_event_sent: Callable[[confer_event, Any], int] = quick(
    "confer_event_sent", ctypes.c_int64, [confer_event, ctypes.POINTER(ctypes.c_int64)]
)
confer_event_received: Callable[[confer_event, Any], int] = quick(
    "confer_event_received", ctypes.c_int64, [confer_event, ctypes.POINTER(ctypes.c_int64)]
)
confer_event_embeddings: Callable[[confer_event, Any, Any], int | None] = quick(
    "confer_event_embeddings", ctypes.c_void_p, [confer_event, ctypes.POINTER(ctypes.c_size_t), ctypes.POINTER(ctypes.c_size_t)]
)
confer_event_round_trip_us: Callable[[confer_event], int] = quick(
    "confer_event_round_trip_us", ctypes.c_int64, [confer_event]
)
confer_event_clone: Callable[[confer_event], confer_event] = quick(
    "confer_event_clone", confer_event, [confer_event]
)
confer_event_free: Callable[[confer_event], None] = quick(
    "confer_event_free", None, [confer_event]
)
confer_event_wants_answer: Callable[[confer_event], bool] = quick(
    "confer_event_wants_answer", ctypes.c_bool, [confer_event]
)
confer_event_answer_tool: Callable[[confer_event, bytes | None, int, Any], int] = waiting(
    "confer_event_answer_tool", ctypes.c_int32, [confer_event, ctypes.c_char_p, UInt64, ctypes.POINTER(confer_error)]
)
confer_event_fail_tool: Callable[[confer_event, bytes | None, int, Any], int] = waiting(
    "confer_event_fail_tool", ctypes.c_int32, [confer_event, ctypes.c_char_p, UInt64, ctypes.POINTER(confer_error)]
)
confer_config_set_ask: Callable[[confer_config, int, Any], int] = waiting(
    "confer_config_set_ask", ctypes.c_int32, [confer_config, UInt32, ctypes.POINTER(confer_error)]
)
confer_client_watch: Callable[[confer_client, Any, Any, Any], int] = waiting(
    "confer_client_watch", ctypes.c_int32, [confer_client, ctypes.POINTER(confer_stream_callbacks), ctypes.POINTER(confer_stream), ctypes.POINTER(confer_error)]
)
confer_stream_dropped: Callable[[confer_stream], int] = quick(
    "confer_stream_dropped", ctypes.c_uint64, [confer_stream]
)
confer_event_stage: Callable[[confer_event], int] = quick(
    "confer_event_stage", ctypes.c_int32, [confer_event]
)
confer_event_report: Callable[[confer_event], confer_report] = quick(
    "confer_event_report", confer_report, [confer_event]
)
confer_event_previous_report: Callable[[confer_event], confer_report] = quick(
    "confer_event_previous_report", confer_report, [confer_event]
)
confer_event_error: Callable[[confer_event], confer_error] = quick(
    "confer_event_error", confer_error, [confer_event]
)
confer_event_release_changed: Callable[[confer_event], bool] = quick(
    "confer_event_release_changed", ctypes.c_bool, [confer_event]
)
confer_event_attempt: Callable[[confer_event], int] = quick(
    "confer_event_attempt", ctypes.c_uint32, [confer_event]
)
confer_event_delay_ms: Callable[[confer_event], int] = quick(
    "confer_event_delay_ms", ctypes.c_int64, [confer_event]
)
confer_event_token_reason: Callable[[confer_event], int] = quick(
    "confer_event_token_reason", ctypes.c_int32, [confer_event]
)
confer_event_answer_token: Callable[[confer_event, bytes | None, int, Any], int] = waiting(
    "confer_event_answer_token", ctypes.c_int32, [confer_event, ctypes.c_char_p, UInt64, ctypes.POINTER(confer_error)]
)
confer_event_refuse_token: Callable[[confer_event, bytes | None, int, Any], int] = waiting(
    "confer_event_refuse_token", ctypes.c_int32, [confer_event, ctypes.c_char_p, UInt64, ctypes.POINTER(confer_error)]
)
confer_event_answer_release: Callable[[confer_event, bool, Any], int] = waiting(
    "confer_event_answer_release", ctypes.c_int32, [confer_event, ctypes.c_bool, ctypes.POINTER(confer_error)]
)
confer_event_type_name: Callable[[int], bytes] = quick(
    "confer_event_type_name", ctypes.c_char_p, [Int32]
)
confer_role_name: Callable[[int], bytes] = quick(
    "confer_role_name", ctypes.c_char_p, [Int32]
)
confer_ending_name: Callable[[int], bytes] = quick(
    "confer_ending_name", ctypes.c_char_p, [Int32]
)
confer_progress_name: Callable[[int], bytes] = quick(
    "confer_progress_name", ctypes.c_char_p, [Int32]
)
confer_outcome_name: Callable[[int], bytes] = quick(
    "confer_outcome_name", ctypes.c_char_p, [Int32]
)
confer_stage_name: Callable[[int], bytes] = quick(
    "confer_stage_name", ctypes.c_char_p, [Int32]
)
confer_client_state_name: Callable[[int], bytes] = quick(
    "confer_client_state_name", ctypes.c_char_p, [Int32]
)
confer_token_reason_name: Callable[[int], bytes] = quick(
    "confer_token_reason_name", ctypes.c_char_p, [Int32]
)
confer_roots_name: Callable[[int], bytes] = quick(
    "confer_roots_name", ctypes.c_char_p, [Int32]
)
confer_limit_name: Callable[[int], bytes] = quick(
    "confer_limit_name", ctypes.c_char_p, [Int32]
)
confer_log_level_name: Callable[[int], bytes] = quick(
    "confer_log_level_name", ctypes.c_char_p, [Int32]
)
confer_counter_name: Callable[[int], bytes] = quick(
    "confer_counter_name", ctypes.c_char_p, [Int32]
)
confer_duration_name: Callable[[int], bytes] = quick(
    "confer_duration_name", ctypes.c_char_p, [Int32]
)
