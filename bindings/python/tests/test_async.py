"""The client for asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import unittest
from collections.abc import AsyncIterator
from unittest import mock

import confer
from confer import AsyncConfig, ChatRequest, Status, Tool, _async

from .enclave import RETRYING, Enclave, counted, nothing_is_left


class AsyncTest(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self) -> None:
        # The tests start enclaves, which blocks the loop.
        asyncio.get_running_loop().slow_callback_duration = 60

    def enclave(self, *options: str) -> Enclave:
        enclave = Enclave(*options)
        self.addCleanup(enclave.end)
        return enclave

    @contextlib.asynccontextmanager
    async def client(self, config: AsyncConfig | None = None) -> AsyncIterator[confer.AsyncClient]:
        async with confer.AsyncClient(config or self.enclave().async_config()) as client:
            yield client


class Chats(AsyncTest):
    async def test_chat_is_a_loop(self) -> None:
        async with self.client() as client:
            events = [event async for event in client.chat("hello there")]
            text = "".join(event.text for event in events if isinstance(event, confer.Token))
            self.assertEqual(text, "You said: hello there")
            self.assertIsInstance(events[-1], confer.Completion)
            self.assertIn("\x00\x1f\x7f", await client.chat("/unicode").text())

    async def test_streams_interleave_without_threads(self) -> None:
        async with self.client() as client:
            threads = threading.active_count()

            async def ask(number: int) -> str:
                return await client.chat(f"/repeat 20 1 {number}").text()

            answers = await asyncio.gather(*(ask(number) for number in range(100)))
            for number, text in enumerate(answers):
                self.assertEqual(text.count(str(number)) >= 20, True)
            self.assertEqual(threading.active_count(), threads)

    async def test_fast_stream_lets_other_tasks_run(self) -> None:
        async with self.client() as client:
            turns = 0

            async def other() -> None:
                nonlocal turns
                while True:
                    turns += 1
                    await asyncio.sleep(0)

            task = asyncio.create_task(other())
            count = len([event async for event in client.chat("/tokens 5000 4")])
            task.cancel()
            self.assertEqual(count, 5001)
            self.assertGreaterEqual(turns, 5000 // 64)

    async def test_cancelled_task_cancels_its_stream(self) -> None:
        async with self.client() as client:
            stream = client.chat("/silent")
            self.assertIsInstance(await stream.next(), confer.Token)
            task = asyncio.create_task(stream.next())
            while not stream._awaited:
                await asyncio.sleep(0)
            task.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await task
            with self.assertRaises(confer.EndedError) as caught:
                await stream.next()
            self.assertEqual(caught.exception.status, Status.CANCELLED)
            with self.assertRaises(asyncio.TimeoutError):
                await asyncio.wait_for(client.chat("/silent").text(), 0.05)
            self.assertEqual(await client.chat("still here").text(), "You said: still here")

    async def test_time_limit_leaves_the_stream_open(self) -> None:
        async with self.client() as client:
            stream = client.chat("/repeat 3 30 x")
            events: list[confer.ChatEvent] = []
            while not any(isinstance(event, confer.Completion) for event in events):
                try:
                    event = await stream.next(timeout=0.001)
                except TimeoutError:
                    continue
                assert event is not None
                events.append(event)
            self.assertEqual(len(events), 4)
            self.assertIsNone(await stream.next())
            silent = client.chat("/silent")
            await silent.next()
            for _ in range(3):
                with self.assertRaises(TimeoutError):
                    await silent.next(timeout=0.001)
            waiting = asyncio.create_task(silent.next())
            await asyncio.sleep(0)
            silent.cancel()
            with self.assertRaises(confer.EndedError):
                await waiting
            with self.assertRaises(TimeoutError):
                await client.chat("/silent").collect(timeout=0.01)

    async def test_second_task_may_not_read(self) -> None:
        async with self.client() as client:
            stream = client.chat("/silent")
            await stream.next()
            first = asyncio.create_task(stream.next())
            while not stream._awaited:
                await asyncio.sleep(0)
            with self.assertRaises(confer.UsageError) as caught:
                await stream.next()
            self.assertEqual(caught.exception.status, Status.BUSY)
            stream.cancel()
            with self.assertRaises(confer.EndedError):
                await first

    async def test_leaving_a_block_cancels_the_rest(self) -> None:
        async with self.client() as client:
            async with client.chat("/slow 1 100000") as stream:
                await stream.next()
            with self.assertRaisesRegex(confer.EndedError, "this stream was closed"):
                await stream.next()
            async for _ in client.chat("/slow 1 100000"):
                break
            self.assertEqual(await client.chat("still here").text(), "You said: still here")

    async def test_failed_answer_keeps_its_part(self) -> None:
        async with self.client() as client:
            stream = client.chat("/status-midstream 500")
            with self.assertRaises(confer.AnswerError):
                await stream.text()
            self.assertNotEqual(stream.received, b"")
            with self.assertRaises(confer.AnswerError):
                await stream.next()


class Tools(AsyncTest):
    async def test_calls_run_at_once(self) -> None:
        async with self.client() as client:
            begun, both = 0, asyncio.Event()

            async def clock(arguments: str) -> str:
                nonlocal begun
                begun += 1
                if begun == 2:
                    both.set()
                await both.wait()
                return "noon"

            request = ChatRequest("/client-tools 2 clock {}", tools=[Tool("clock", run=clock)])
            self.assertEqual(await client.chat(request).text(), "The tools answered: noon | noon")
            request.tools = [Tool("clock", run=lambda arguments: "night")]
            self.assertEqual(await client.chat(request).text(), "The tools answered: night | night")

    async def test_too_long_answer_fails_again(self) -> None:
        async with self.client() as client:
            tools = [Tool("clock", run=lambda arguments: "noon")]
            stream = client.chat(ChatRequest("/tokens 33 1048576", tools=tools))
            for _ in range(2):
                with self.assertRaises(confer.Error) as caught:
                    await stream.collect()
                self.assertEqual(caught.exception.status, Status.TOO_LARGE)
                self.assertRegex(caught.exception.message, "^the answer is larger than 33554432 bytes; ")

    async def test_model_receives_the_failure_of_a_tool(self) -> None:
        async def fails(_: str) -> str:
            raise OSError("it stands")

        async def garbled(_: str) -> str:
            return "\udcff"

        async def never(_: str) -> str:
            return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

        async with self.client() as client:
            for run, reason in ((fails, "it stands"), (garbled, "UTF-8"), (never, "")):
                request = ChatRequest("/client-tools 1 clock {}", tools=[Tool("clock", run=run)])
                request.tool_timeout = 0.05 if run is never else 300
                text = await client.chat(request).text()
                self.assertTrue(text.startswith("The tools answered: Error: "), text)
                self.assertIn(reason, text)

    async def test_tool_ends_with_its_chat(self) -> None:
        ended = 0
        begun = asyncio.Semaphore(0)

        async def waits(_: str) -> str:
            nonlocal ended
            begun.release()
            try:
                return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]
            finally:
                ended += 1

        async with self.client() as client:
            request = ChatRequest("/client-tools 3 clock {}", tools=[Tool("clock", run=waits)])
            async with client.chat(request) as stream:
                while not isinstance(await stream.next(), confer.Completion):
                    pass
                for _ in range(3):
                    await begun.acquire()
            self.assertEqual(ended, 3)
            # Cancelled while it waits.
            task = asyncio.create_task(client.chat(request).text())
            for _ in range(3):
                await begun.acquire()
            task.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await task
            # A stream that is dropped.
            async for event in client.chat(request):
                if isinstance(event, confer.Completion):
                    for _ in range(3):
                        await begun.acquire()
                    break
            gc.collect()
            while ended < 9:
                await asyncio.sleep(0)


class Others(AsyncTest):
    async def test_requests_of_every_kind(self) -> None:
        text = b"a line of text\n" * 200_000
        async with self.client() as client:
            self.assertLess(await client.ping(), 60)
            self.assertEqual(len(await client.embed(["a", "b"])), 2)
            self.assertIn(b"<html", await client.fetch("http://x.test/").collect())
            self.assertEqual(len([event async for event in client.raw("GET", "/ping")]), 1)
            memory = await client.extract("a.txt", text).collect()
            upload = client.extract("a.txt", length=len(text))
            async with upload:
                for at in range(0, len(text), 999_999):
                    await upload.write(text[at : at + 999_999])
                self.assertEqual(await upload.collect(), memory)
            unknown = client.extract("a.txt")
            await unknown.write(b"x")
            unknown.finish()
            with self.assertRaises(confer.AnswerError):
                await unknown.collect()

    async def test_cancelled_write_ends_the_upload(self) -> None:
        async with self.client(self.enclave("--fault", "upload-not-read").async_config()) as client:
            upload = client.extract("a.pdf", length=200 << 20)
            with self.assertRaises(asyncio.TimeoutError):
                await asyncio.wait_for(upload.write(bytes(200 << 20)), 0.1)
            with self.assertRaises(confer.EndedError):
                await upload.next()


class Life(AsyncTest):
    async def test_refused_enclave_error_has_check_and_report(self) -> None:
        config = self.enclave("--fault", "binding-other-key").async_config()
        with self.assertRaises(confer.VerificationError) as caught:
            async with confer.AsyncClient(config):
                self.fail("it was accepted")
        self.assertEqual(caught.exception.check_id, "tdx.key_binding")
        assert caught.exception.report is not None

    async def test_cancelling_ends_connecting(self) -> None:
        config = self.enclave("--fault", "message1-stall").async_config()

        async def connect() -> None:
            async with confer.AsyncClient(config):
                self.fail("it connected")

        with self.assertRaises(asyncio.TimeoutError):
            await asyncio.wait_for(connect(), 0.05)

    async def test_use_after_close_is_an_error(self) -> None:
        async with self.client() as client:
            stream = client.chat("/slow 1 100000")
            await stream.next()
            await client.aclose()
            await client.aclose()
            self.assertEqual(client.state, confer.State.ENDED)
            for call in (stream.text, client.wait, client.ping, lambda: client.embed(["x"])):
                with self.assertRaises(confer.EndedError) as caught:
                    await call()
                self.assertEqual(caught.exception.status, Status.CLOSED)
            with self.assertRaises(confer.EndedError):
                client.chat("x")
            self.assertEqual([event async for event in client.watch()], [])

    async def test_functions_answer_questions(self) -> None:
        for accept in (True, False):
            enclave = self.enclave()
            config = enclave.async_config()
            reasons: list[confer.TokenReason] = []
            versions: list[str | None] = []

            async def provider(
                reason: confer.TokenReason,
                reasons: list[confer.TokenReason] = reasons,
                token: str = enclave.token,
            ) -> str:
                await asyncio.sleep(0)
                reasons.append(reason)
                return token

            async def decide(
                previous: confer.Report,
                now: confer.Report,
                versions: list[str | None] = versions,
                accept: bool = accept,
            ) -> bool:
                versions.append(now.image_version)
                return accept

            config.token, config.token_provider, config.accept_release = None, provider, decide
            config.durations, config.limits = RETRYING, {confer.Limit.ATTEMPTS: 1_000_000}
            async with self.client(config) as client:
                watch = client.watch()
                self.assertIsInstance(await watch.next(), confer.Connected)
                enclave.kill()
                self.enclave(*enclave.again("--release", "9.9.9"))
                try:
                    async for event in watch:
                        if isinstance(event, confer.Connected):
                            self.assertTrue(event.release_changed and accept)
                            break
                except confer.VerificationError as error:
                    self.assertEqual((error.status, accept), (Status.RELEASE_REFUSED, False))
            self.assertEqual(reasons[:2], [confer.TokenReason.FIRST, confer.TokenReason.RECONNECT])
            self.assertEqual(versions, ["9.9.9"])

    async def test_provider_ends_when_nobody_needs_its_token(self) -> None:
        enclave = self.enclave()
        config = enclave.async_config()
        asked, ended = asyncio.Event(), asyncio.Event()

        async def never(reason: confer.TokenReason) -> str:
            asked.set()
            try:
                return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]
            finally:
                ended.set()

        config.token, config.token_provider = None, never
        client = confer.AsyncClient(config)
        await asked.wait()
        client.set_token(enclave.token)
        await ended.wait()
        await client.wait()
        await client.aclose()
        # A client that is closed, and one that is forgotten.
        for close in (True, False):
            asked.clear()
            ended.clear()
            client = confer.AsyncClient(config)
            await asked.wait()
            if close:
                await client.aclose()
            del client
            gc.collect()
            await ended.wait()

    async def test_failing_provider_is_the_cause(self) -> None:
        failure = RuntimeError("s3cret")

        def fails(reason: confer.TokenReason) -> str:
            raise failure

        config = self.enclave().async_config()
        config.token, config.token_provider = None, fails
        with self.assertRaises(confer.EndedError) as caught:
            async with confer.AsyncClient(config):
                self.fail("it connected")
        self.assertNotIn("s3cret", str(caught.exception))
        self.assertIs(caught.exception.__cause__, failure)

    async def test_nothing_is_left(self) -> None:
        config = self.enclave().async_config()
        config.log = lambda *record: None
        await asyncio.to_thread(gc.collect)
        before = counted()
        for _ in range(3):
            async with confer.AsyncClient(config) as client:
                for _ in range(20):
                    async for _ in client.chat("/slow 1 100000"):
                        break
                await client.chat("hello").text()
            del client
        gc.collect()
        await asyncio.to_thread(confer.wait_for_threads)
        nothing_is_left(self, before)
        self.assertEqual(len(asyncio.all_tasks()), 1)


class WithoutLoop(unittest.TestCase):
    def test_client_needs_a_running_loop(self) -> None:
        with self.assertRaisesRegex(RuntimeError, "no running event loop"):
            confer.AsyncClient(confer.AsyncConfig(token="t"))


class WithReady(unittest.TestCase):
    """The same with wake-ups by a callback, as on Windows."""

    def test_every_promise_holds(self) -> None:
        loader = unittest.TestLoader()
        suite = unittest.TestSuite(loader.loadTestsFromTestCase(case) for case in (Chats, Tools, Others, Life))
        result = unittest.TestResult()
        with mock.patch.object(_async, "_DESCRIPTORS", False):
            suite.run(result)
        for _, failure in result.failures + result.errors:
            self.fail(failure)
        self.assertGreater(result.testsRun, 15)
