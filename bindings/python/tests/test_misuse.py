"""Hostile and clumsy programs: each mistake is a clear exception, and never a crash, a hang or a leak."""

from __future__ import annotations

import array
import asyncio
import copy
import gc
import io
import pickle
import random
import signal
import sys
import threading
import time
import traceback
import unittest
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import confer
from confer import ChatRequest, Message, Status, Tool, _native

from .enclave import EnclaveTest, counted, nothing_is_left

VALUES: list[Any] = [
    *(None, 0, -1, 2**31, 2**63, 2**64, 10**5000, 1.5, float("nan"), float("inf"), True),
    *("", b"s3cret", "a\0b", "\udcff", "é\U0001f600", bytearray(b"x"), memoryview(b"x")),
    *([], [None], {}, {"a": object()}, {1: 2}, (1,), object(), type, len, range(3)),
]


class Types(EnclaveTest):
    def test_wrong_values_are_refused(self) -> None:
        enclave = self.enclave()
        client = self.client(enclave)
        conversation, evidence = confer.Conversation(), client.report().evidence

        def configured(**changes: Any) -> None:
            config = enclave.config()
            for name, value in changes.items():
                setattr(config, name, value)
            confer.Client(config).close()

        def chat(**changes: Any) -> None:
            client.chat(ChatRequest(**{"messages": "x", **changes})).close()

        calls: list[Callable[[Any], object]] = [
            lambda v: configured(token=v),
            lambda v: configured(endpoint=v),
            lambda v: configured(policy=v),
            lambda v: configured(proxy=v),
            lambda v: configured(roots=v),
            lambda v: configured(jwks_cache_file=v),
            lambda v: configured(durations={v: 1} if v.__hash__ else v),
            lambda v: configured(durations={confer.Duration.PROBE: v}),
            lambda v: configured(limits={confer.Limit.REQUESTS: v}),
            lambda v: configured(token_provider=v),
            lambda v: configured(accept_release=v),
            lambda v: configured(ask=v),
            lambda v: configured(log=lambda *record: None, log_level=v),
            lambda v: confer.Client(v).close(),
            lambda v: client.chat(v).close(),
            lambda v: chat(messages=v),
            lambda v: chat(messages=[v]),
            lambda v: chat(messages=[Message(v)]),
            lambda v: chat(messages=[Message("x", v)]),
            lambda v: chat(model=v),
            lambda v: chat(temperature=v),
            lambda v: chat(top_k=v),
            lambda v: chat(max_tokens=v),
            lambda v: chat(documents=[v]),
            lambda v: chat(tools=[v]),
            lambda v: chat(tools=[Tool(v)]),
            lambda v: chat(tools=[Tool("n", v)]),
            lambda v: chat(tools=[Tool("n", "d", v)]),
            lambda v: chat(tools=[Tool("n", run=v)]),
            lambda v: chat(tool_rounds=v),
            lambda v: chat(tool_rounds=1, tool_timeout=v),
            lambda v: chat(conversation=v),
            lambda v: chat(properties={"newer": v}),
            lambda v: client.embed(v),
            lambda v: client.embed([v]),
            lambda v: client.extract(v, b"x").close(),
            lambda v: client.extract("a.txt", v).close(),
            lambda v: client.extract("a.txt", length=v).close(),
            lambda v: client.extract("a.txt", b"x", options={"content_type": v}).close(),
            lambda v: client.extract("a.txt", length=100).write(v),
            lambda v: client.fetch(v).close(),
            lambda v: client.fetch("http://x.test/", {"a": v}).close(),
            lambda v: client.raw(v, "/ping").close(),
            lambda v: client.raw("GET", v).close(),
            lambda v: client.raw("POST", "/ping", v).close(),
            lambda v: client.raw("GET", "/ping", ending=v).close(),
            lambda v: client.set_token(v),
            lambda v: client.counter(v),
            lambda v: client.wait(v),
            lambda v: confer.Conversation(v),
            lambda v: conversation.add(v, "x"),
            lambda v: conversation.add(confer.Role.USER, v),
            lambda v: conversation.truncate(v),
            lambda v: confer.Policy.parse(v),
            lambda v: confer.Policy.load(v),
            lambda v: confer.verify_evidence(v),
            lambda v: confer.verify_evidence(evidence, v),
            lambda v: confer.verify_evidence(evidence, enclave.policy, v),
            lambda v: confer.set_workers(v),
        ]
        for number, call in enumerate(calls):
            refused = 0
            for value in VALUES:
                try:
                    call(value)
                except (confer.Error, TypeError, ValueError, OverflowError, TimeoutError) as error:
                    refused += 1
                    if getattr(error, "status", None) is not Status.FILE:  # a path
                        self.assertNotIn("s3cret", str(error))
            self.assertGreater(refused, 5, number)
        confer.set_workers(2)
        self.assertEqual(client.chat("still here").text(), "You said: still here")
        client.close()
        gc.collect()
        self.assertEqual(_native._callables, {})

    def test_errors_name_the_mistake(self) -> None:
        client = self.client()
        mistakes: list[tuple[Callable[[], object], str]] = [
            (lambda: client.chat(ChatRequest("x", top_k=2**31)), "set_top_k: expected a number from -2147483648"),
            (lambda: client.chat(ChatRequest("x", max_tokens=1.5)), "max_tokens: expected an integer, not float"),  # type: ignore[arg-type]
            (lambda: client.chat(ChatRequest("x", top_p="1")), "set_top_p: expected a number, not str"),  # type: ignore[arg-type]
            (lambda: client.chat(b"x"), "expected ChatRequest, not bytes"),  # type: ignore[arg-type]
            (lambda: client.set_token(b"x"), "expected str, not bytes"),  # type: ignore[arg-type]
            (lambda: confer.Client(confer.AsyncConfig()), "expected Config, not AsyncConfig"),  # type: ignore[arg-type]
            (lambda: confer.Client(confer.Config(log="x")), "log: expected a function, not str"),  # type: ignore[arg-type]
            (lambda: confer.Client(confer.Config(policy="x")), "expected Policy, not str"),  # type: ignore[arg-type]
            (lambda: pickle.dumps(client), "a handle of the library cannot be pickled"),
        ]
        for mistake, message in mistakes:
            with self.assertRaisesRegex((TypeError, OverflowError), message):
                mistake()

    def test_unusual_texts_and_trees(self) -> None:
        client = self.client()
        circle: list[Any] = []
        circle.append(circle)
        deep: list[Any] = []
        for _ in range(100_000):
            deep = [deep]
        for value, kind in ((circle, ValueError), (deep, RecursionError), ("\udcff", confer.UsageError)):
            with self.assertRaises(kind):
                client.chat(ChatRequest("x", properties={"newer": value}))
        with self.assertRaises(confer.UsageError) as large:
            client.chat("x" * (25 << 20))
        self.assertEqual(large.exception.status, Status.TOO_LARGE)
        with self.assertRaises(confer.UsageError):
            confer.Conversation("[" * 1_000_000)
        self.assertEqual(client.chat("a\0b").text(), "You said: a\0b")
        self.assertEqual(len(client.embed(text for text in "ab")), 2)  # type: ignore[arg-type]


class Objects(EnclaveTest):
    def test_copies_share_their_handle(self) -> None:
        client = self.client()
        stream = client.chat("/slow 1 100000")
        next(stream)
        for twin in (copy.copy(client), copy.deepcopy(client)):
            self.assertEqual(twin.chat("x").text(), "You said: x")
        next(copy.copy(stream))
        self.assertEqual(copy.deepcopy(confer.Policy.production()).name, confer.Policy.production().name)
        for shared in (copy.deepcopy, pickle.dumps):
            with self.assertRaises(TypeError):
                shared(stream)
        report = client.report()
        self.assertEqual((copy.deepcopy(report), pickle.loads(pickle.dumps(report))), (report, report))
        for status in (Status.CLOSED, Status(699)):
            self.assertEqual((copy.deepcopy(status), pickle.loads(pickle.dumps(status))), (status, status))
        gone = weakref.ref(stream)
        del stream
        gc.collect()
        self.assertIsNone(gone())
        client.__init__(self.enclave().config())  # type: ignore[misc]
        self.assertEqual(client.chat("x").text(), "You said: x")

    def test_subclass_that_forgets_its_base_is_an_error(self) -> None:
        class Forgetful(confer.Client):
            def __init__(self) -> None:
                pass

        with self.assertRaises(AttributeError):
            Forgetful().chat("x")
        with self.assertRaises(AttributeError):
            confer.Policy(None).name  # type: ignore[arg-type]

    def test_closing_again_and_late(self) -> None:
        client = self.client()
        with client:
            client.close()
        client.close(timeout=0)
        with self.assertRaises(confer.EndedError), client:
            self.fail("it is closed")
        with self.client().extract("a.txt", length=100) as upload:
            upload.close()
            upload.close()
            for late in (lambda: upload.write(b"x"), upload.finish, upload.next, upload.collect):
                with self.assertRaisesRegex(confer.EndedError, "this stream was closed"):
                    late()

    def test_suspended_generator_holds_its_stream(self) -> None:
        client = self.client()

        def words() -> Iterator[confer.ChatEvent]:
            with client.chat("/slow 1 100000") as stream:
                yield from stream

        kept = words()
        next(kept)
        dropped = words()
        next(dropped)
        del dropped
        client.close()
        with self.assertRaises(confer.EndedError):
            list(kept)

    def test_unusual_buffers_and_files(self) -> None:
        client = self.client()
        released = memoryview(b"x")
        released.release()
        for buffer in (memoryview(b"abcdef")[::2], "text", released, None):
            with self.assertRaises((TypeError, ValueError)):
                client.extract("a.txt", length=100).write(buffer)  # type: ignore[arg-type]
        numbers = array.array("d", [1.0])
        client.extract("a.txt", length=100).write(numbers)  # type: ignore[arg-type]
        numbers.append(2.0)  # nothing holds its buffer
        closed = io.BytesIO(b"abc")
        closed.close()
        for file in (closed, io.StringIO("abc")):
            with self.assertRaises(confer.EndedError) as caught:
                client.extract("a.txt", file, length=3).collect()  # type: ignore[arg-type]
            self.assertIsInstance(caught.exception.__cause__, (ValueError, TypeError))
        for path in ("/", "/dev/zero", "a\0b"):
            with self.assertRaises(confer.UsageError):
                client.extract("a.txt", Path(path)).collect()


class Functions(EnclaveTest):
    def test_exceptions_of_every_kind(self) -> None:
        client = self.client()
        unraisable: list[object] = []
        self.addCleanup(setattr, sys, "unraisablehook", sys.unraisablehook)
        sys.unraisablehook = lambda unraised: unraisable.append(unraised.exc_type)
        for failure in (ValueError("v"), StopIteration(), GeneratorExit(), KeyboardInterrupt(), SystemExit(3)):

            def fails(*_: object, failure: BaseException = failure) -> str:
                raise failure

            class File:
                read = fails

            config = self.enclave().config()
            config.log = fails  # type: ignore[assignment]
            logged = self.client(config)
            self.assertEqual(logged.chat("x").text(), "You said: x")
            logged.close()
            self.assertIn(type(failure), unraisable)
            config.log, config.token, config.token_provider = None, None, fails
            with self.assertRaises(confer.EndedError) as refused:
                self.started(config).wait()
            self.assertIs(refused.exception.__cause__, failure)
            with self.assertRaises(confer.EndedError) as stopped:
                client.extract("a.txt", File(), length=10).collect()  # type: ignore[arg-type]
            self.assertIs(stopped.exception.__cause__, failure)
            chat = client.chat(ChatRequest("/client-tools 1 clock {}", tools=[Tool("clock", run=fails)]))
            if isinstance(failure, Exception):
                self.assertTrue(chat.text().startswith("The tools answered: Error: "))
            else:
                with self.assertRaises(type(failure)):
                    chat.text()

    def test_functions_that_close_what_they_serve(self) -> None:
        client = self.client()
        chat: confer.ChatStream

        def closes(_: str) -> str:
            self.assertEqual(client.chat("x").text(), "You said: x")
            chat.close()
            return "noon"

        chat = client.chat(ChatRequest("/client-tools 2 clock {}", tools=[Tool("clock", run=closes)]))
        with self.assertRaisesRegex(confer.EndedError, "this stream was closed"):
            chat.text()

        class File:
            def read(self, size: int, /) -> bytes:
                for waits in (client.close, client.chat("/silent").next):
                    try:
                        waits()
                    except confer.Error as error:
                        assert error.status is Status.WOULD_DEADLOCK
                client._close(0)
                return bytes(size)

        with self.assertRaises(confer.EndedError) as caught:
            client.extract("a.txt", File(), length=10).collect()
        self.assertEqual(caught.exception.status, Status.CLOSED)

    def test_client_may_be_freed_by_its_log(self) -> None:
        config = self.enclave().config()
        clients: list[confer.Client] = []
        made, freed = threading.Event(), threading.Event()

        def log(*_: object) -> None:
            made.wait()
            clients.clear()
            freed.set()

        config.log = log
        clients.append(confer.Client(config))
        made.set()
        freed.wait()
        gc.collect()
        confer.wait_for_threads()
        self.assertEqual(_native._callables, {})


class Races(EnclaveTest):
    def setUp(self) -> None:
        self.served = self.enclave()
        self.before = counted()

    def test_closing_and_dropping_race_with_readers(self) -> None:
        config = self.served.config()
        config.log = lambda *record: None
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        self.addCleanup(sys.setswitchinterval, interval)
        wrong: list[BaseException] = []

        def read(streams: list[confer.Stream[Any]], number: int) -> None:
            try:
                for _ in streams[number]:
                    pass
            except (confer.EndedError, IndexError):
                pass
            except BaseException as error:
                wrong.append(error)

        def end(clients: list[confer.Client], streams: list[confer.Stream[Any]], way: int) -> None:
            try:
                if way == 0:
                    clients[0].close()
                elif way == 1:
                    streams[0].close()
                elif way == 2:
                    clients.clear()
                    streams.clear()
                else:
                    clients[0]._close(0)
            except IndexError:
                pass
            except BaseException as error:
                wrong.append(error)

        chance = random.Random(1)

        def race() -> None:
            clients = [confer.Client(config)]
            streams: list[confer.Stream[Any]] = [clients[0].chat("/slow 1 100000"), clients[0].watch()]
            # The readers keep the streams that the others drop.
            every = weakref.WeakSet(streams)
            threads = [threading.Thread(target=read, args=(streams, number)) for number in (0, 1)]
            threads += [threading.Thread(target=end, args=(clients, streams, chance.randrange(4))) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads[2:]:
                thread.join()
            for stream in list(every):
                stream.close()
            for thread in threads:
                thread.join()

        for _ in range(60):
            race()
        self.assertEqual(wrong, [])
        nothing_is_left(self, self.before)

    @unittest.skipIf(sys.platform == "win32", "no signals")
    def test_interrupts_at_any_moment_leave_nothing(self) -> None:
        config, token = self.served.config(), self.served.token
        config.log = lambda *record: None
        config.token, config.token_provider = None, lambda reason: token
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        self.addCleanup(signal.signal, signal.SIGINT, before)
        # A destructor cannot raise: Python reports its exception here, and goes on.
        swallowed: list[BaseException] = []
        self.addCleanup(setattr, sys, "unraisablehook", sys.unraisablehook)
        sys.unraisablehook = lambda unraised: swallowed.append(unraised.exc_value or unraised.exc_type())
        main, used, ended = threading.get_ident(), threading.Event(), threading.Event()

        def interrupt() -> None:
            chance = random.Random(1)
            for _ in range(300):
                used.wait()
                time.sleep(chance.random() * 0.01)
                signal.pthread_kill(main, signal.SIGINT)
            ended.set()

        thread = threading.Thread(target=interrupt)
        thread.start()
        interrupted = 0
        while not ended.is_set():
            try:
                used.set()
                client = confer.Client(config)
                client.chat("/repeat 5 1 x").text()
                client.extract("a.txt", b"text").collect()
                client.report()
                confer.Conversation()
            except KeyboardInterrupt:
                interrupted += 1
        thread.join()
        self.assertGreater(interrupted, 0)
        client = confer.Client(config)
        self.assertEqual(client.chat("x").text(), "You said: x")
        client.close()
        del client

        # An interrupt of Thread.start() can make Python fail in the new thread before it runs our code.
        def of_start(error: BaseException) -> bool:
            return [frame.name for frame in traceback.extract_tb(error.__traceback__)][:1] == ["_bootstrap"]

        others = [error for error in swallowed if not isinstance(error, KeyboardInterrupt) and not of_start(error)]
        self.assertEqual(others, [], "".join(line for error in others for line in traceback.format_exception(error)))
        if not swallowed:  # an interrupted destructor may keep its handle
            nothing_is_left(self, self.before)


class Loops(EnclaveTest):
    def test_stream_continues_in_another_loop(self) -> None:
        config = self.enclave().async_config()

        async def begin() -> tuple[confer.AsyncClient, confer.AsyncChatStream]:
            client = confer.AsyncClient(config)
            stream = client.chat("/slow 1 100000")
            await stream.next()
            return client, stream

        async def go_on(client: confer.AsyncClient, stream: confer.AsyncChatStream) -> None:
            await stream.next()
            await client.ping()
            await client.aclose()

        asyncio.run(go_on(*asyncio.run(begin())))
