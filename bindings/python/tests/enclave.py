"""A local enclave for a test: a separate process, which ends with its stdin."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import threading
import time
import unittest
from urllib.parse import urlsplit

import confer
from confer import _native

PROGRAM = os.environ["CONFER_ENCLAVE"]
STATE = os.environ["CONFER_ENCLAVE_STATE"]


class Enclave:
    """A running enclave, and the settings of a client for it."""

    def __init__(self, *options: str) -> None:
        self._process = subprocess.Popen(
            [PROGRAM, "--exit-with-stdin", "--state", STATE, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        started = json.loads(self._process.stdout.readline())
        self.url: str = started["url"]
        self.token: str = started["token"]
        self.policy = confer.Policy.load(started["policy"])

    def config(self) -> confer.Config:
        return confer.Config(token=self.token, endpoint=self.url, policy=self.policy)

    def async_config(self) -> confer.AsyncConfig:
        return confer.AsyncConfig(token=self.token, endpoint=self.url, policy=self.policy)

    def kill(self) -> None:
        """Ends it as in a crash."""
        self._process.kill()
        self.end()

    def end(self) -> None:
        if self._process.returncode is None:
            self._process.communicate()

    def status(self) -> int:
        """Ends it, and returns its exit status: 1 if a client left its script."""
        self.end()
        return self._process.returncode

    def again(self, *options: str) -> list[str]:
        """The options of another enclave on the same port, with the same token."""
        return [*self.at_its_port(), "--token", self.token, *options]

    def at_its_port(self) -> list[str]:
        return ["--port", str(urlsplit(self.url).port)]


#: Retries that hardly pause.
RETRYING: dict[confer.Duration, float] = {
    confer.Duration.FIRST_RETRY: 0.001,
    confer.Duration.LONGEST_RETRY: 0.02,
}


class EnclaveTest(unittest.TestCase):
    """A test that starts enclaves."""

    def enclave(self, *options: str) -> Enclave:
        enclave = Enclave(*options)
        self.addCleanup(enclave.end)
        return enclave

    def client(self, config: confer.Config | Enclave | None = None) -> confer.Client:
        """A connected client, by default of a new enclave without faults."""
        if config is None:
            config = self.enclave()
        if isinstance(config, Enclave):
            config = config.config()
        client = self.started(config)
        client.wait()
        return client

    def started(self, config: confer.Config) -> confer.Client:
        """A client that begins to connect."""
        client = confer.Client(config)
        self.addCleanup(client.close)
        return client


def library_threads() -> int:
    """Counts the threads of the library in this process."""
    count = 0
    for task in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{task}/comm") as name:
                count += name.read().startswith("confer-")
        except OSError:
            pass  # it has ended
    return count


def descriptors() -> int:
    """Counts the open descriptors, once those of dropped clients are closed."""
    gc.collect()
    confer.wait_for_threads(60)
    return len(os.listdir("/proc/self/fd"))


def counted() -> tuple[int, int]:
    """The threads of Python and the descriptors before a test, for `nothing_is_left`."""
    files = descriptors()
    return threading.active_count(), files


def nothing_is_left(test: unittest.TestCase, before: tuple[int, int]) -> None:
    """Waits for the threads, and fails if descriptors or functions are left."""
    files = descriptors()
    # Threads that have ended may be counted for a moment longer.
    while threading.active_count() > before[0] or library_threads():
        time.sleep(0.001)
    test.assertEqual((files, _native._callables), (before[1], {}))
