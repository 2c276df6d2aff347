"""Requests of every kind, tools, conversations, policies, reports and settings."""

from __future__ import annotations

import gc
import io
import json
import logging
import os
import tempfile
import threading
import tracemalloc
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import confer
from confer import ChatRequest, Completion, Status, Token, Tool, _native
from confer._stream import Collected

from .enclave import EnclaveTest


class Chats(EnclaveTest):
    def test_request_contains_all_its_fields(self) -> None:
        client = self.client()
        stored = {
            "attachmentId": "one",
            "filename": "a.pdf",
            "contentType": "application/pdf",
            "sourceBytes": 7,
            "sourceObjectKey": "o",
            "encryptionKey": "k",
            "newer": 1,
        }
        request = ChatRequest(
            [
                confer.Message("be brief", confer.Role.SYSTEM),
                {"role": "user", "content": "look", "imageRefs": []},
                "/echo-request",
            ],
            model="some/model",
            web_search=True,
            temperature=0.5,
            top_p=0.25,
            min_p=0.125,
            top_k=-1,
            presence_penalty=-1.5,
            frequency_penalty=1.5,
            repetition_penalty=1.25,
            max_tokens=1000,
            json=True,
            thinking=False,
            documents=[stored],
            tools=[Tool("clock", "tells the time")],
            properties={"newer": [1]},
        )
        sent = json.loads(client.chat(request).text())
        expected = {
            "model": "some/model",
            "webSearch": True,
            "temperature": 0.5,
            "top_p": 0.25,
            "min_p": 0.125,
            "top_k": -1,
            "presence_penalty": -1.5,
            "frequency_penalty": 1.5,
            "repetition_penalty": 1.25,
            "max_tokens": 1000,
            "json": True,
            "thinking": False,
            "newer": [1],
        }
        keys = {key.replace("_", "").lower(): value for key, value in sent.items()}
        for key, value in expected.items():
            self.assertEqual(keys.get(key.replace("_", "").lower()), value, key)
        self.assertEqual(sent["documents"], [stored])
        self.assertEqual([message["content"] for message in sent["messages"]], ["be brief", "look", "/echo-request"])
        self.assertEqual(len(sent["clientTools"]), 1)

    def test_wrong_values_are_refused(self) -> None:
        client = self.client()
        wrong = (
            ChatRequest("x", documents=[{}]),
            ChatRequest("x", tools=[Tool("")]),
            ChatRequest("x", tool_rounds=1001),
            ChatRequest("x", tool_rounds=1, tool_timeout=-1),
            ChatRequest(),
        )
        for request in wrong:
            with self.assertRaises(confer.UsageError) as caught:
                client.chat(request)
            self.assertEqual(caught.exception.status, Status.INVALID_ARGUMENT)
        with self.assertRaises(ValueError):
            client.chat(ChatRequest("x", properties={"newer": float("nan")}))
        with self.assertRaises(TypeError):
            client.embed("one text")
        with self.assertRaises(TypeError):
            client.extract("a.txt", "a text")  # type: ignore[arg-type]

    def test_answer_in_one_piece(self) -> None:
        client = self.client()
        [body] = client.chat(ChatRequest("hello there", streaming=False))
        assert isinstance(body, confer.Body)
        self.assertEqual((body.content, body.received), (b"You said: hello there", 21))

    def test_every_event_has_its_type(self) -> None:
        client = self.client()
        kinds = {
            "/thinking": confer.Thinking,
            "/server-tool": confer.ServerToolResponse,
            "/unknown-event": confer.OtherEvent,
            "/client-tool clock {}": confer.ToolCall,
        }
        for prompt, kind in kinds.items():
            events = list(client.chat(prompt))
            found = [event for event in events if isinstance(event, kind)]
            self.assertTrue(found, prompt)
            [first, *_] = found
            assert not isinstance(first, confer.Body)
            self.assertTrue(json.loads(first.json or ""), prompt)
        responses = [e for e in client.chat("/server-tool") if isinstance(e, confer.ServerToolResponse)]
        self.assertEqual(responses[0].full_content, "clear sky, 21 degrees")


class Tools(EnclaveTest):
    def test_tools_run_until_an_answer_calls_none(self) -> None:
        client = self.client()
        called: list[str] = []

        def clock(arguments: str) -> str:
            called.append(arguments)
            return ["noon", "night"][len(called) - 1]

        request = ChatRequest('/client-tools 2 clock {"zone":"UTC"}', tools=[Tool("clock", run=clock)])
        events = list(client.chat(request))
        text = "".join(event.text for event in events if isinstance(event, confer.Token))
        self.assertEqual(text, "The tools answered: noon | night")
        self.assertEqual(called, ['{"zone":"UTC"}'] * 2)
        self.assertEqual(len([e for e in events if isinstance(e, confer.Completion)]), 2)
        self.assertFalse(any(e.wants_answer for e in events if isinstance(e, confer.ToolCall)))
        called.clear()
        # The text is that of the last round.
        mixed = ChatRequest("/mixed-tools clock {}", tools=[Tool("clock", run=lambda _: "noon")])
        self.assertTrue(client.chat(mixed).text().startswith("The tools answered: "))

    def test_model_receives_the_failure_of_a_tool(self) -> None:
        client = self.client()

        def fails(_: str) -> str:
            raise OSError("it stands")

        async def waits(_: str) -> str:
            return "noon"

        def number(_: str) -> str:
            return 12  # type: ignore[return-value]

        answers: dict[Callable[[str], str | Awaitable[str]], str] = {
            fails: "Error: it stands",
            number: "Error: a tool must return a text, not int",
            waits: "Error: a coroutine function needs an AsyncClient",
        }
        for run, answer in answers.items():
            request = ChatRequest("/client-tools 1 clock {}", tools=[Tool("clock", run=run)])
            self.assertEqual(client.chat(request).text(), f"The tools answered: {answer}")
        garbled = ChatRequest("/client-tools 1 clock {}", tools=[Tool("clock", run=lambda _: "\udcff")])
        self.assertIn("UTF-8", client.chat(garbled).text())

    def test_loop_answers_by_itself(self) -> None:
        client = self.client()
        request = ChatRequest("/client-tools 2 clock {}", tools=[Tool("clock")], tool_rounds=1)
        kept: list[confer.ToolCall] = []
        text = ""
        for event in client.chat(request):
            if isinstance(event, confer.ToolCall):
                self.assertTrue(event.wants_answer)
                kept.append(event)
            elif isinstance(event, confer.Completion) and len(kept) == 2:
                gc.collect()
                kept[1].fail("it stands")
                thread = threading.Thread(target=kept[0].answer, args=("noon",))
                thread.start()
                thread.join()
                kept.append(kept[0])
            elif isinstance(event, confer.Token):
                text += event.text
        self.assertEqual(text, "The tools answered: noon | Error: it stands")
        with self.assertRaises(confer.UsageError) as caught:
            kept[0].answer("night")
        self.assertEqual(caught.exception.status, Status.STALE)
        # Without rounds the chat ends with the calls, which want no answer.
        for event in client.chat(ChatRequest("/client-tools 2 clock {}", tools=[Tool("clock")])):
            if isinstance(event, confer.ToolCall):
                with self.assertRaises(confer.UsageError):
                    event.answer("noon")
            else:
                assert isinstance(event, confer.Completion)
                self.assertTrue(event.pending_tool_calls)
        with self.assertRaises(confer.UsageError):
            client.chat(request).text()

    def test_too_long_answer_with_tools_is_not_complete(self) -> None:
        client = self.client()
        failures = set()
        for tools in ([], [Tool("clock", run=lambda _: "noon")]):
            stream = client.chat(ChatRequest("/tokens 33 1048576", tools=tools))
            for _ in range(2):
                with self.assertRaises(confer.Error) as caught:
                    stream.collect()
                failures.add((caught.exception.status, caught.exception.progress, caught.exception.message))
                self.assertEqual(len(stream.received), 32 << 20)
        # The library's words, also where this package collects the text.
        self.assertEqual(len(failures), 1, failures)
        self.assertEqual(failures.pop()[:2], (Status.TOO_LARGE, confer.Progress.PARTLY_ANSWERED))

    def test_last_round_without_a_text_is_empty(self) -> None:
        collected, stream = Collected(), self.client().chat("hello")
        for event in (Token("Let me look", ""), Completion(True, None, None, ""), Completion(False, None, None, "")):
            collected.add(event, stream)
        self.assertEqual(collected.content, b"")

    def test_dropped_call_fails_at_once(self) -> None:
        client = self.client()
        request = ChatRequest("/client-tools 1 clock {}", tools=[Tool("clock")], tool_rounds=1)
        text = "".join(event.text for event in client.chat(request) if isinstance(event, confer.Token))
        self.assertTrue(text.startswith("The tools answered: Error: "), text)

    def test_failing_chat_adds_nothing_to_its_conversation(self) -> None:
        client = self.client()
        conversation = confer.Conversation()
        clock = [Tool("clock", run=lambda _: "noon")]
        self.assertEqual((conversation.context_tokens, conversation.max_context_tokens), (None, None))
        client.chat(ChatRequest("hello", conversation=conversation)).text()
        client.chat(ChatRequest("/tool-rounds 3 clock {}", conversation=conversation, tools=clock)).text()
        self.assertEqual(len(conversation), 10)
        self.assertGreater(conversation.context_tokens or 0, 0)
        self.assertGreater(conversation.max_context_tokens or 0, 0)
        whole = conversation.json
        again = confer.Conversation(whole)
        self.assertEqual((again.json, len(again)), (whole, 10))
        endless = ChatRequest("/endless-tool clock {}", conversation=conversation, tools=clock, tool_rounds=3)
        with self.assertRaises(confer.AnswerError) as caught:
            client.chat(endless).text()
        self.assertEqual(caught.exception.status, Status.TOOL_ROUNDS)
        for event in client.chat(endless):
            if isinstance(event, confer.ToolCall):
                break
        self.assertEqual(conversation.json, whole)
        # Leaving the loop at its last event still gives the whole answer.
        for event in client.chat(ChatRequest("bye", conversation=conversation)):
            if isinstance(event, confer.Completion):
                break
        self.assertEqual(len(conversation), 12)
        conversation.truncate(1)
        conversation.add(confer.Role.ASSISTANT, "hi")
        self.assertEqual(len(conversation), 2)
        with self.assertRaises(confer.UsageError):
            confer.Conversation("{}")


class Pieces(io.RawIOBase):
    """A file that gives small pieces, and fails after them."""

    def __init__(self, content: bytes, failure: Exception | None = None) -> None:
        self.rest = content
        self.failure = failure

    def read(self, size: int = -1, /) -> bytes:
        piece = self.rest[: min(size, 4099)]
        self.rest = self.rest[len(piece) :]
        if not piece and self.failure:
            raise self.failure
        return piece


class Others(EnclaveTest):
    text = b"a line of text\n" * 200_000

    def extracted(self, upload: confer.Upload) -> bytes:
        content: str = json.loads(upload.collect())["document"]["md_content"]
        return content.encode()

    def test_ping_embeddings_and_pages(self) -> None:
        client = self.client()
        self.assertLess(client.ping(), 60)
        rows = client.embed(["a", "b", "a"], is_query=True)
        self.assertEqual((len(rows), len(rows[0]), rows[0] == rows[2], rows[0] == rows[1]), (3, 64, True, False))
        self.assertAlmostEqual(sum(value * value for value in rows[1]), 1, places=5)
        self.assertNotEqual(client.embed(["a"]), [rows[0]])
        for texts, status in ((["a"] * 65, Status.TOO_LARGE), ([], Status.INVALID_ARGUMENT)):
            with self.assertRaises(confer.UsageError) as caught:
                client.embed(texts)
            self.assertEqual(caught.exception.status, status)
        page = client.fetch("https://a.test/?q=<b>", {"Accept": "text/html"}).collect()
        self.assertIn(b"<code>https://a.test/?q=&lt;b&gt;</code>", page)
        with self.assertRaises(confer.AnswerError) as refused:
            client.fetch("http://unreachable.test/").collect()
        self.assertEqual(refused.exception.http_status, 502)
        self.assertTrue(refused.exception.peer_text)
        self.assertNotIn(refused.exception.peer_text or "", str(refused.exception))

    def test_document_from_memory_and_files(self) -> None:
        client = self.client()
        options: Mapping[str, object] = {"content_type": "text/plain", "ocr": False}
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "lines.txt")
            path.write_bytes(self.text)
            sent: list[int] = []
            pieces = b""
            for event in client.extract("lines.txt", self.text, options=options):
                if isinstance(event, confer.UploadProgress):
                    self.assertEqual(event.total, len(self.text))
                    sent.append(event.sent)
                elif isinstance(event, confer.Body):
                    pieces += event.content
                    self.assertEqual(event.received, len(pieces))
            self.assertEqual(sent[-1], len(self.text))
            self.assertEqual(json.loads(pieces)["document"]["md_content"].encode(), self.text)
            self.assertEqual(self.extracted(client.extract("lines.txt", path)), self.text)
            self.assertEqual(self.extracted(client.extract("lines.txt", bytearray(self.text))), self.text)
            with path.open("rb") as file:
                self.assertEqual(self.extracted(client.extract("lines.txt", file, length=len(self.text))), self.text)
        with self.assertRaises(confer.UsageError) as caught:
            client.extract("x.txt", Path("/nonexistent"))
        self.assertEqual(caught.exception.status, Status.FILE)
        with self.assertRaises(confer.AnswerError) as refused:
            client.extract("x.txt", b"x", options={"content_type": "x/y"}).collect()
        self.assertEqual(refused.exception.http_status, 415)

    def test_document_from_a_file_object_that_fails(self) -> None:
        client = self.client()
        size = len(self.text)
        self.assertEqual(self.extracted(client.extract("a.txt", Pieces(self.text), length=size)), self.text)
        broken = OSError("the disk is gone")
        with self.assertRaises(confer.EndedError) as caught:
            client.extract("a.txt", Pieces(self.text[:100_000], broken), length=size).collect()
        self.assertEqual(caught.exception.status, Status.STOPPED)
        self.assertIs(caught.exception.__cause__, broken)
        with self.assertRaises(confer.UsageError):
            client.extract("a.txt", Pieces(self.text), length=size + 1).collect()
        with self.assertRaises(confer.AnswerError):
            client.extract("a.txt", Pieces(b"x")).collect()
        client.close()
        self.assertEqual(_native._callables, {})

    def test_document_is_written_in_pieces(self) -> None:
        client = self.client()
        upload = client.extract("a.txt", length=len(self.text))
        for at in range(0, len(self.text), 999_999):
            upload.write(self.text[at : at + 999_999])
        self.assertEqual(self.extracted(upload), self.text)
        with self.assertRaises(confer.UsageError) as caught:
            upload.write(b"more")
        self.assertIn(caught.exception.status, (Status.STALE, Status.INVALID_ARGUMENT))
        short = client.extract("a.txt", length=10)
        short.write(b"x")
        with self.assertRaises(confer.UsageError):
            short.finish()
        stopped = client.extract("a.txt", length=10)
        stopped.close()
        with self.assertRaises(confer.EndedError):
            stopped.collect()

    def test_write_copies_only_a_piece(self) -> None:
        size = 64 << 20
        content = bytearray(size)
        upload = self.client(self.enclave("--fault", "upload-not-read")).extract("a.pdf", length=size)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        with self.assertRaises(TimeoutError):
            upload.write(content, timeout=0.02)
        self.assertLess(tracemalloc.get_traced_memory()[1], 2 << 20)

    def test_write_waits_no_longer_than_it_should(self) -> None:
        client = self.client(self.enclave("--fault", "upload-not-read"))
        upload = client.extract("a.pdf", length=200 << 20)
        with self.assertRaises(TimeoutError):
            for _ in range(200):
                upload.write(bytes(1 << 20), timeout=0.02)

    def test_any_route_works(self) -> None:
        client = self.client()
        self.assertEqual(len(list(client.raw("GET", "/ping"))), 1)
        chat = {"model": "m", "messages": [{"role": "user", "content": "hello"}], "stream": True, "webSearch": False}
        raw = client.raw("POST", "/v1/vllm/chat/completions", json.dumps(chat), ending=confer.Ending.COMPLETION)
        self.assertEqual(raw.collect(), b"You said: hello")
        stored = '{"filename":"a.pdf","total_length":9,"source_object_key":"k","encryption_key":"e"}'
        raw = client.raw("POST", "/v2/document/extract", stored, ending=confer.Ending.CONTENT_LENGTH)
        self.assertTrue(json.loads(raw.collect()))
        with self.assertRaises(confer.AnswerError):
            client.raw("GET", "/nowhere").collect()
        with self.assertRaises(confer.UsageError):
            client.raw("", "/ping")


class Trust(EnclaveTest):
    def test_evidence_verifies_again(self) -> None:
        enclave = self.enclave()
        report = self.client(enclave).report()
        self.assertTrue(report.verified)
        self.assertEqual((report.platform, report.endpoint), ("TDX", enclave.url))
        self.assertEqual((len(report.server_key or ""), len(report.rtmr1 or ""), len(report.checks)), (64, 96, 20))
        self.assertEqual(report.policy_sha256, enclave.policy.sha256)
        self.assertGreater(report.timings[confer.Stage.ALL], report.timings[confer.Stage.VERIFY])
        self.assertEqual(json.loads(report.json)["release"]["signer"], report.signer)
        self.assertTrue(confer.verify_evidence(report.evidence, enclave.policy).verified)
        with self.assertRaises(confer.VerificationError) as caught:
            confer.verify_evidence(report.evidence)
        assert caught.exception.report is not None
        self.assertFalse(caught.exception.report.verified)
        with self.assertRaises(confer.VerificationError):
            confer.verify_evidence(report.evidence, enclave.policy, at=0)
        with self.assertRaises(confer.UsageError):
            confer.verify_evidence("{}")

    def test_policy_can_be_read_back(self) -> None:
        production, strict = confer.Policy.production(), confer.Policy.strict()
        again = confer.Policy.parse(production.json)
        self.assertEqual((again.json, again.sha256, again.name), (production.json, production.sha256, production.name))
        self.assertNotEqual(strict.sha256, production.sha256)
        with self.assertRaises(confer.UsageError) as caught:
            confer.Policy.parse("{}")
        self.assertEqual(caught.exception.status, Status.INVALID_POLICY)
        with self.assertRaises(confer.UsageError) as caught:
            confer.Policy.load("/nonexistent")
        self.assertEqual(caught.exception.status, Status.FILE)


class Settings(EnclaveTest):
    def test_invalid_settings_are_refused_by_name(self) -> None:
        enclave = self.enclave()

        def refused(status: Status, named: str, change: Callable[[confer.Config], object]) -> None:
            config = enclave.config()
            change(config)
            with self.assertRaises(confer.UsageError) as caught:
                confer.Client(config).wait()
            self.assertEqual(caught.exception.status, status)
            self.assertTrue(caught.exception.message.startswith(named), caught.exception)

        def duration(key: confer.Duration, value: float) -> Callable[[confer.Config], object]:
            return lambda config: setattr(config, "durations", {key: value})

        invalid = Status.INVALID_ARGUMENT
        refused(invalid, "CONFER_DURATION_MAX_AGE", duration(confer.Duration.MAX_AGE, 1))
        refused(invalid, "CONFER_DURATION_MAX_AGE", duration(confer.Duration.MAX_AGE, 1e-9 + 1e-6))
        refused(invalid, "<Duration.PROBE", duration(confer.Duration.PROBE, -1))
        refused(invalid, "<Duration.PROBE", duration(confer.Duration.PROBE, float("nan")))
        refused(invalid, "duration", duration(confer.Duration(999), 1))
        refused(invalid, "limit", lambda config: setattr(config, "limits", {confer.Limit(99): 1}))
        refused(invalid, "CONFER_LIMIT", lambda config: setattr(config, "limits", {confer.Limit.UNFINISHED: 1}))
        refused(invalid, "questions", lambda config: setattr(config, "ask", 1 << 20))
        refused(invalid, "token", lambda config: setattr(config, "token", ""))
        refused(invalid, "roots", lambda config: setattr(config, "roots", confer.Roots(9)))
        refused(invalid, "pem", lambda config: setattr(config, "roots", "none"))
        refused(Status.INVALID_URL, "proxy", lambda config: setattr(config, "proxy", "ftp://proxy.test"))
        refused(Status.INVALID_URL, "endpoint", lambda config: setattr(config, "proxy", "socks5://proxy.test"))
        os.environ["HTTPS_PROXY"] = "ftp://proxy.test"
        self.addCleanup(os.environ.pop, "HTTPS_PROXY")
        refused(
            Status.INVALID_URL, "HTTPS_PROXY", lambda config: setattr(config, "proxy_from_environment", True)
        )
        log = confer.Config(log=lambda *record: None, log_level=confer.LogLevel(99))
        with self.assertRaises(confer.UsageError):
            confer.Client(log)
        gc.collect()
        self.assertEqual(_native._callables, {})

    def test_limit_of_open_requests(self) -> None:
        config = self.enclave().config()
        config.limits = {confer.Limit.REQUESTS: 1}
        config.renew_with_evidence = True
        client = self.client(config)
        with client.chat("/silent") as stream:
            next(stream)
            with self.assertRaises(confer.UsageError) as caught:
                client.ping()
        self.assertEqual((caught.exception.status, caught.exception.retryable), (Status.TOO_MANY, True))

    def test_key_sets_are_kept_in_a_file(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            config = self.enclave().config()
            config.jwks_cache_file = Path(folder, "keys.json")
            self.client(config)
            self.assertTrue(config.jwks_cache_file.exists())

    def test_log_reaches_a_logger_without_secrets(self) -> None:
        enclave = self.enclave()
        config = enclave.config()
        config.log = confer.log_to(logging.getLogger("confer.test"))
        with self.assertLogs("confer.test", logging.DEBUG) as logs:
            with confer.Client(config) as client:
                client.chat("s3cret prompt").text()
        output = "\n".join(logs.output)
        self.assertIn("confer::", output)
        self.assertNotIn("s3cret", output)
        self.assertNotIn(enclave.token, output)
        del client
        gc.collect()
        confer.wait_for_threads()
        self.assertEqual(_native._callables, {})

    def test_log_may_not_close_its_client(self) -> None:
        config = self.enclave().config()
        results: list[BaseException] = []
        clients: list[confer.Client] = []
        connected = threading.Event()

        def log(level: confer.LogLevel, part: str, message: str) -> None:
            if clients and not results:
                try:
                    clients[0].close()
                except confer.Error as error:
                    results.append(error)
                    connected.set()

        config.log = log
        client = self.client(config)
        clients.append(client)
        client.network_changed()
        client.chat("x").text()
        client._close(0)
        connected.wait()
        assert isinstance(results[0], confer.Error)
        self.assertEqual(results[0].status, Status.WOULD_DEADLOCK)
        clients.clear()

    def test_limits_of_the_process(self) -> None:
        self.assertRegex(confer.version(), r"^\d+\.\d+\.\d+$")
        gc.collect()
        confer.wait_for_threads()
        with self.assertRaises(confer.UsageError):
            confer.set_workers(0)
        with self.assertRaises(confer.UsageError):
            confer.set_unread_limit(1)
        confer.set_unread_limit(1 << 30)
        client = self.client()
        with self.assertRaises(TimeoutError):
            confer.wait_for_threads(0)
        with self.assertRaises(confer.UsageError) as caught:
            confer.set_workers(3)
        self.assertEqual(caught.exception.status, Status.BUSY)
        client.close()
        confer.wait_for_threads()
        confer.set_workers(2)
