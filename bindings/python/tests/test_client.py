"""Connecting, chats, errors, closing, threads and forks."""

from __future__ import annotations

import gc
import os
import pickle
import signal
import threading
import time
import unittest

import confer
from confer import Status

from .enclave import EnclaveTest, counted, library_threads, nothing_is_left


class Chats(EnclaveTest):
    def test_chat_is_a_loop(self) -> None:
        client = self.client()
        text, last = "", None
        for event in client.chat("hello there"):
            if isinstance(event, confer.Token):
                text += event.text
            last = event
        self.assertEqual(text, "You said: hello there")
        assert isinstance(last, confer.Completion)
        self.assertGreater(last.context_tokens or 0, 0)
        self.assertGreater(last.max_context_tokens or 0, 0)
        self.assertIn("\x00\x1f\x7f", client.chat("/unicode").text())

    def test_two_streams_at_once(self) -> None:
        client = self.client()
        one, two = client.chat("/repeat 50 1 one"), client.chat("/repeat 50 1 two")
        seen = [next(one), next(two), next(one), next(two)]
        self.assertTrue(all(isinstance(event, confer.Token) for event in seen))
        self.assertEqual(two.text().count("two"), 48)
        self.assertEqual(one.text().count("one"), 48)

    def test_leaving_a_loop_cancels_the_rest(self) -> None:
        client = self.client()
        for _ in client.chat("/slow 1 100000"):
            break
        with client.chat("/slow 1 100000") as stream:
            next(stream)
        with self.assertRaisesRegex(confer.EndedError, "CANCELLED: this stream was closed"):
            next(stream)
        with self.assertRaises(confer.EndedError):
            stream.text()
        self.assertEqual(client.chat("still here").text(), "You said: still here")

    def test_another_thread_cancels(self) -> None:
        client = self.client()
        stream = client.chat("/slow 1 100000")
        next(stream)
        threading.Thread(target=stream.cancel).start()
        with self.assertRaises(confer.EndedError) as caught:
            for _ in stream:
                pass
        self.assertEqual(caught.exception.status, Status.CANCELLED)
        with self.assertRaises(confer.EndedError):
            list(stream)

    def test_time_limits(self) -> None:
        client = self.client()
        stream = client.chat("/silent")
        self.assertIsInstance(next(stream), confer.Token)
        with self.assertRaises(TimeoutError):
            stream.next(timeout=0)
        with self.assertRaises(TimeoutError):
            stream.collect(timeout=0.01)
        self.assertEqual(stream.received, b"")

    def test_failed_answer_keeps_its_part(self) -> None:
        stream = self.client().chat("/status-midstream 500")
        with self.assertRaises(confer.AnswerError) as caught:
            stream.text()
        error = caught.exception
        self.assertEqual((error.http_status, error.progress), (500, confer.Progress.PARTLY_ANSWERED))
        self.assertNotEqual(stream.received, b"")
        for _ in range(2):
            with self.assertRaises(confer.AnswerError):
                list(stream)


class Errors(EnclaveTest):
    def test_refused_enclave_error_has_check_and_report(self) -> None:
        enclave = self.enclave("--fault", "binding-other-key")
        with self.assertRaises(confer.VerificationError) as caught, confer.Client(enclave.config()):
            self.fail("it was accepted")
        error = caught.exception
        self.assertEqual(
            (error.status, error.check_id, error.retryable, error.progress),
            (Status.REJECTED, "tdx.key_binding", False, confer.Progress.NOT_SENT),
        )
        assert error.report is not None
        self.assertFalse(error.report.verified)
        failed = [check.id for check in error.report.checks if check.outcome is confer.Outcome.FAIL]
        self.assertEqual(failed, ["tdx.key_binding"])
        again = pickle.loads(pickle.dumps(error))
        self.assertEqual((str(again), again.report), (str(error), error.report))

    def test_refusal_reaches_every_wait(self) -> None:
        client = confer.Client(self.enclave("--fault", "binding-other-key").config())
        self.addCleanup(client.close)
        calls = (client.wait, lambda: client.chat("x").text(), lambda: list(client.watch()))
        for call in calls:
            with self.assertRaises(confer.VerificationError):
                call()
        assert client.error is not None
        self.assertEqual(client.error.check_id, "tdx.key_binding")
        with self.assertRaises(confer.UsageError) as caught:
            client.report()
        self.assertEqual(caught.exception.status, Status.NOT_CONNECTED)

    def test_each_family_is_a_class(self) -> None:
        client = self.client(self.enclave("--fault", "request-402"))
        with self.assertRaises(confer.AnswerError) as refused:
            client.chat("x").text()
        self.assertEqual((refused.exception.status, refused.exception.http_status), (Status.PAYMENT_REQUIRED, 402))
        with self.assertRaises(confer.NetworkError) as unreachable:
            confer.Client(confer.Config(token="t", endpoint="ws://127.0.0.1:9/")).wait()
        self.assertEqual((unreachable.exception.status, unreachable.exception.retryable), (Status.CONNECT, True))
        with self.assertRaises(confer.UsageError) as wrong:
            client.chat(confer.ChatRequest("x", temperature=-1))
        self.assertEqual(wrong.exception.status, Status.INVALID_ARGUMENT)

    def test_lone_surrogate_is_no_text(self) -> None:
        with self.assertRaises(confer.UsageError) as caught:
            self.client().chat("\udcff")
        self.assertEqual(caught.exception.status, Status.INVALID_UTF8)

    def test_secrets_are_never_printed(self) -> None:
        config = confer.Config(token="s3cret", proxy="http://me:s3cret@proxy.test", endpoint="http://elsewhere.test/?key=s3cret")
        with self.assertRaises(confer.UsageError) as caught:
            confer.Client(config)
        request = confer.ChatRequest("s3cret", documents=[{"encryptionKey": "s3cret"}])
        message = confer.Message("s3cret")
        tool = confer.Tool("clock", "s3cret", {"type": "object", "title": "s3cret"})
        answer = (
            confer.Token("s3cret", "s3cret"),
            confer.Thinking("s3cret", "s3cret"),
            confer.ServerToolCall("id", "search", "s3cret", "s3cret"),
            confer.ServerToolResponse("id", "search", "s3cret", "s3cret", "s3cret"),
            confer.ToolCall("id", "clock", "s3cret", "s3cret", None),
            confer.Body(b"s3cret", 6, 6),
            confer.OtherEvent(confer.EventType.TOKEN, "s3cret"),
        )
        for value in (config, caught.exception, request, message, tool, *answer):
            self.assertNotIn("s3cret", f"{value} {value!r}")
        with self.assertRaises(confer.UsageError) as bad:
            confer.Client(confer.Config(token="s3cret \udcff"))
        self.assertNotIn("s3cret", repr(bad.exception))


class Ends(EnclaveTest):
    def test_use_after_close_is_an_error(self) -> None:
        client = self.client()
        stream = client.chat("/slow 1 100000")
        next(stream)
        client.close()
        client.close()
        self.assertEqual(client.state, confer.State.ENDED)
        self.assertTrue(client.report().verified)
        calls = (
            stream.text,
            client.wait,
            client.ping,
            lambda: client.chat("x"),
            lambda: client.embed(["x"]),
            lambda: client.extract("a.txt", b"x"),
            lambda: client.fetch("http://x.test/"),
            lambda: client.raw("GET", "/"),
        )
        for call in calls:
            with self.assertRaises(confer.EndedError) as caught:
                call()
            self.assertEqual(caught.exception.status, Status.CLOSED)
        client.set_token("t")
        client.network_changed()
        self.assertEqual(list(client.watch()), [])

    def test_nothing_is_left(self) -> None:
        enclave = self.enclave()
        before = counted()
        config = enclave.config()
        config.token, config.token_provider = None, lambda reason: enclave.token
        config.log = lambda level, part, message: None

        def use() -> None:
            with confer.Client(config) as client:
                self.assertGreater(library_threads(), 0)
                for _ in client.chat("/slow 1 100000"):
                    break
                list(client.chat("hello"))
                next(client.watch())

        for _ in range(3):
            use()
        # A client without a close, and one that is still connecting.
        forgotten = confer.Client(config)
        forgotten.wait()
        confer.Client(config)
        del forgotten, config
        nothing_is_left(self, before)

    def test_interrupt_ends_a_wait(self) -> None:
        # A job in the background of a shell begins without Python's handler.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        self.addCleanup(signal.signal, signal.SIGINT, before)
        stream = self.client().chat("/silent")
        next(stream)
        main = threading.get_ident()

        def interrupt() -> None:
            while not stream._reading.locked():
                time.sleep(0.001)
            signal.pthread_kill(main, signal.SIGINT)

        threading.Thread(target=interrupt).start()
        with self.assertRaises(KeyboardInterrupt):
            next(stream)


class Sharing(EnclaveTest):
    def test_many_threads_use_one_client(self) -> None:
        client = self.client()
        answers: list[str] = []

        def ask(number: int) -> None:
            for turn in range(5):
                answers.append(client.chat(f"{number} {turn}").text())

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        expected = {f"You said: {number} {turn}" for number in range(16) for turn in range(5)}
        self.assertEqual(set(answers), expected)

    def test_second_reader_of_a_stream_is_refused(self) -> None:
        stream = self.client().chat("/silent")
        next(stream)
        results: list[Status] = []

        def read() -> None:
            try:
                stream.next()
            except confer.Error as error:
                results.append(error.status)

        first = threading.Thread(target=read)
        first.start()
        while not stream._reading.locked():
            time.sleep(0.001)
        read()
        self.assertEqual(results, [Status.BUSY])
        stream.cancel()
        first.join()
        self.assertEqual(results, [Status.BUSY, Status.CANCELLED])

    def test_closing_in_other_threads_ends_readers(self) -> None:
        client = self.client()
        ends: list[Status] = []
        begun = threading.Barrier(9)

        def read() -> None:
            stream = client.chat("/slow 1 100000")
            next(stream)
            begun.wait()
            try:
                for _ in stream:
                    pass
            except confer.Error as error:
                ends.append(error.status)

        threads = [threading.Thread(target=read) for _ in range(8)]
        threads += [threading.Thread(target=client.close) for _ in range(3)]
        for thread in threads[:8]:
            thread.start()
        begun.wait()
        for thread in threads[8:]:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(ends, [Status.CLOSED] * 8)

    @unittest.skipUnless(hasattr(os, "fork"), "no fork")
    def test_forked_child_gets_errors(self) -> None:
        client = self.client()
        stream = client.chat("/slow 1 100000")
        next(stream)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                if client.state is confer.State.ENDED:
                    for call in (lambda: client.chat("x"), lambda: next(stream), client.close, confer.Conversation):
                        try:
                            call()
                        except confer.UsageError as error:
                            assert error.status is Status.FORKED
                        else:
                            raise AssertionError
                    del client, stream
                    gc.collect()
                    code = 0
            finally:
                os._exit(code)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0)
        self.assertIsInstance(next(stream), confer.Token)
