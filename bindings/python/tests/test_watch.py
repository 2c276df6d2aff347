"""A client's life: states, events, questions, reconnecting."""

from __future__ import annotations

import gc
import threading
from typing import TypeVar

import confer
from confer import Status

from .enclave import RETRYING, Enclave, EnclaveTest

E = TypeVar("E")


def until(watch: confer.Stream[confer.ClientEvent], kind: type[E]) -> E:
    """Reads events until one of a type."""
    for event in watch:
        if isinstance(event, kind):
            return event
    raise AssertionError("the watch ended")


def retrying(enclave: Enclave) -> confer.Config:
    config = enclave.config()
    config.durations, config.limits = RETRYING, {confer.Limit.ATTEMPTS: 1_000_000}
    return config


class Watching(EnclaveTest):
    def test_client_starts_at_once_and_its_requests_wait(self) -> None:
        client = self.started(self.enclave().config())
        watch = client.watch()
        self.assertEqual(client.chat("before it was connected").text(), "You said: before it was connected")
        client.wait(timeout=60)
        self.assertEqual((client.state, client.error), (confer.State.CONNECTED, None))
        connected = until(watch, confer.Connected)
        self.assertTrue(connected.report.verified)
        self.assertFalse(connected.release_changed)
        # A watch that is opened late begins with the state. Leaving one ends only the watch.
        with client.watch() as late:
            self.assertIsInstance(next(late), confer.Connected)
        client.close()
        self.assertEqual(list(watch), [])
        assert client.error is not None
        self.assertEqual(client.error.status, Status.CLOSED)

    def test_wait_has_a_time_limit(self) -> None:
        client = self.started(self.enclave("--fault", "message1-stall").config())
        until_stage = (event for event in client.watch() if isinstance(event, confer.StageBegan))
        self.assertTrue(any(event.stage is confer.Stage.HANDSHAKE for event in until_stage))
        with self.assertRaises(TimeoutError):
            client.wait(timeout=0.01)
        self.assertEqual(client.state, confer.State.CONNECTING)

    def test_lost_connection_is_replaced(self) -> None:
        enclave = self.enclave()
        client = self.client(retrying(enclave))
        watch = client.watch()
        until(watch, confer.Connected)
        lost = client.chat("/slow 1 100000")
        next(lost)
        enclave.kill()
        disconnected = until(watch, confer.Disconnected)
        assert disconnected.error is not None
        self.assertEqual(disconnected.error.status, Status.CONNECTION_LOST)
        retry = until(watch, confer.Retry)
        self.assertEqual((retry.attempt, retry.error), (1, None))
        # The end of a process may close its connections before its listener, so first attempts can
        # still be accepted, and lost.
        failure = Status.CONNECTION_LOST
        while failure == Status.CONNECTION_LOST:
            attempt, retry = retry.attempt, until(watch, confer.Retry)
            assert retry.error is not None
            failure = retry.error.status
            self.assertEqual(retry.attempt, attempt + 1)
        self.assertEqual(failure, Status.CONNECT)
        with self.assertRaises(confer.NetworkError) as caught:
            for _ in lost:
                pass
        self.assertEqual(caught.exception.progress, confer.Progress.PARTLY_ANSWERED)
        self.enclave(*enclave.again())
        self.assertFalse(until(watch, confer.Connected).release_changed)
        self.assertEqual(client.chat("again").text(), "You said: again")
        self.assertEqual(client.counter(confer.Counter.CONNECTIONS), 2)
        self.assertGreater(client.counters()[confer.Counter.FAILED_ATTEMPTS], 0)

    def test_changed_network_is_probed_at_once(self) -> None:
        config = self.enclave("--fault", "mute", "--fault-until", "1").config()
        config.limits = {confer.Limit.ATTEMPTS: 10}
        config.durations = {**RETRYING, confer.Duration.PROBE: 0.05}
        client = self.client(config)
        watch = client.watch()
        until(watch, confer.Connected)
        client.network_changed()
        lost = until(watch, confer.Disconnected)
        assert lost.error is not None
        self.assertEqual(lost.error.status, Status.DEAD_PEER)
        until(watch, confer.Connected)

    def test_slow_watch_drops_old_events(self) -> None:
        config = self.enclave("--fault", "message1-drop").config()
        config.durations, config.limits = RETRYING, {confer.Limit.ATTEMPTS: 200}
        client = self.started(config)
        watch = client.watch()
        next(watch)
        with self.assertRaises(confer.NetworkError):
            client.wait()
        self.assertGreater(watch.dropped, 0)


class Questions(EnclaveTest):
    def asking(self, enclave: Enclave) -> confer.Config:
        config = retrying(enclave)
        config.token, config.ask = None, confer.Ask.TOKEN
        return config

    def test_token_question_takes_one_answer(self) -> None:
        enclave = self.enclave()
        client = self.started(self.asking(enclave))
        question = until(client.watch(), confer.TokenQuestion)
        self.assertEqual(question.reason, confer.TokenReason.FIRST)
        with self.assertRaises(confer.UsageError) as caught:
            question.answer("s3 cret")
        self.assertNotIn("s3 cret", str(caught.exception))
        until(client.watch(), confer.TokenQuestion).answer(enclave.token)
        gc.collect()
        for late in (question.answer, question.refuse):
            with self.assertRaises(confer.UsageError) as caught:
                late("late")
            self.assertEqual(caught.exception.status, Status.STALE)
        client.wait()
        refused = self.started(self.asking(enclave))
        watch = refused.watch()
        until(watch, confer.TokenQuestion).refuse("signed out")
        with self.assertRaisesRegex(confer.EndedError, "signed out"):
            list(watch)

    def test_token_that_is_given_unasked_answers(self) -> None:
        enclave = self.enclave()
        client = self.started(self.asking(enclave))
        watch = client.watch()
        until(watch, confer.TokenQuestion)
        client.set_token(enclave.token)
        until(watch, confer.Answered)
        client.wait()
        with self.assertRaises(confer.UsageError):
            client.set_token("")

    def test_token_provider_serves_each_connection(self) -> None:
        enclave = self.enclave()
        config = retrying(enclave)
        reasons: list[confer.TokenReason] = []

        def provider(reason: confer.TokenReason) -> str:
            reasons.append(reason)
            return "fresh" if len(reasons) > 1 else enclave.token

        config.token, config.token_provider = None, provider
        client = self.client(config)
        watch = client.watch()
        until(watch, confer.Connected)
        enclave.kill()
        until(watch, confer.Disconnected)
        # The next enclave takes only the fresh token.
        self.enclave(*enclave.at_its_port(), "--token", "fresh")
        until(watch, confer.Connected)
        self.assertEqual(reasons[:2], [confer.TokenReason.FIRST, confer.TokenReason.RECONNECT])

    def test_refused_token_is_replaced_and_the_request_repeated(self) -> None:
        enclave = self.enclave("--expired-token", "old")
        config = retrying(enclave)
        tokens = ["old", enclave.token]
        reasons: list[confer.TokenReason] = []

        def provider(reason: confer.TokenReason) -> str:
            reasons.append(reason)
            return tokens[min(len(reasons), 2) - 1]

        config.token, config.token_provider = None, provider
        client = self.client(config)
        self.assertEqual(client.chat("hello").text(), "You said: hello")
        self.assertEqual(reasons, [confer.TokenReason.FIRST, confer.TokenReason.REFUSED])

    def test_failing_token_provider_is_a_refusal_without_details(self) -> None:
        failure = RuntimeError("s3cret")

        def fails(reason: confer.TokenReason) -> str:
            raise failure

        config = retrying(self.enclave())
        config.token, config.token_provider = None, fails
        with self.assertRaisesRegex(confer.EndedError, "the token provider failed") as caught:
            self.started(config).wait()
        self.assertNotIn("s3cret", str(caught.exception))
        self.assertIs(caught.exception.__cause__, failure)
        config.token_provider = lambda reason: "s3 cret"
        with self.assertRaisesRegex(confer.EndedError, "white space") as caught:
            self.started(config).wait()
        self.assertNotIn("s3 cret", str(caught.exception))

    def test_another_release_is_accepted_or_ends_the_client(self) -> None:
        for accept in (True, False):
            enclave = self.enclave()
            config = retrying(enclave)
            asked: list[tuple[confer.Report, confer.Report]] = []

            def decide(previous: confer.Report, now: confer.Report, accept: bool = accept) -> bool:
                asked.append((previous, now))
                return accept

            config.accept_release = decide
            client = self.client(config)
            watch = client.watch()
            until(watch, confer.Connected)
            enclave.kill()
            self.enclave(*enclave.again("--release", "9.9.9"))
            if accept:
                self.assertTrue(until(watch, confer.Connected).release_changed)
            else:
                with self.assertRaises(confer.VerificationError) as caught:
                    list(watch)
                self.assertEqual(caught.exception.status, Status.RELEASE_REFUSED)
            [(previous, now)] = asked
            self.assertNotEqual(previous.manifest_sha256, now.manifest_sha256)
            self.assertEqual(now.image_version, "9.9.9")

    def test_watch_answers_release_questions(self) -> None:
        enclave = self.enclave()
        config = retrying(enclave)
        config.ask = confer.Ask.RELEASE
        client = self.client(config)
        watch = client.watch()
        until(watch, confer.Connected)
        enclave.kill()
        self.enclave(*enclave.again("--release", "9.9.9"))
        question = until(watch, confer.ReleaseQuestion)
        self.assertEqual(question.now.image_version, "9.9.9")
        question.answer(True)
        with self.assertRaises(confer.UsageError):
            question.answer(False)
        self.assertTrue(until(watch, confer.Connected).release_changed)

    def test_forgotten_client_ends_with_its_questions(self) -> None:
        enclave = self.enclave()
        config = retrying(enclave)
        asked = threading.Event()

        def provider(reason: confer.TokenReason) -> str:
            asked.set()
            return enclave.token

        config.token, config.token_provider = None, provider
        client = confer.Client(config)
        asked.wait()
        del client
        gc.collect()
        confer.wait_for_threads()
