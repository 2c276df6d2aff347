"""Processes that end while clients live: each program's exit code and standard error are exact."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from .enclave import EnclaveTest

#: `config` and `async_config` have a log, so that a thread of the library calls Python until the end.
#: A process that waits for its threads in vain hangs, and does not just end late.
BEGIN = """
import asyncio, atexit, gc, multiprocessing, os, signal, sys, threading, time, warnings
import confer

confer._client._EXIT_LIMIT = 1e9
# Forks of a process with threads are the point of some programs.
warnings.filterwarnings("ignore", "This process", DeprecationWarning)

def settings(kind):
    return kind(
        token=os.environ["TOKEN"],
        endpoint=os.environ["URL"],
        policy=confer.Policy.parse(os.environ["POLICY"]),
        log=lambda level, part, message: None,
    )

config, async_config = settings(confer.Config), settings(confer.AsyncConfig)

class Endless:
    def read(self, size, /):
        return bytes(min(size, 4096))
"""

#: Name, exit code and program.
PROGRAMS: dict[str, tuple[int, str]] = {
    "client, stream and watch in globals": (
        0,
        """
config.token_provider = lambda reason: os.environ["TOKEN"]
client = confer.Client(config)
stream, watch = client.chat("/slow 1 100000"), client.watch()
next(stream)
""",
    ),
    "SystemExit": (
        3,
        """
client = confer.Client(config)
stream = client.chat("/slow 1 100000")
next(stream)
sys.exit(3)
""",
    ),
    "everything dropped a moment before": (
        0,
        """
config.token_provider = lambda reason: os.environ["TOKEN"]
client = confer.Client(config)
stream = client.chat("/slow 1 100000")
next(stream)
del client, stream
""",
    ),
    "connecting": (
        0,
        """
client = confer.Client(config)
dropped = confer.Client(config)
del dropped
""",
    ),
    "upload from an open file": (
        0,
        """
client = confer.Client(config)
upload = client.extract("a.pdf", Endless(), length=200 << 20)
next(upload)
""",
    ),
    "upload from an open file, dropped": (
        0,
        """
client = confer.Client(config)
upload = client.extract("a.pdf", Endless(), length=200 << 20)
next(upload)
del client, upload
""",
    ),
    "upload from a file whose read never returns": (
        0,
        """
confer._client._EXIT_LIMIT = 0.1
reading = threading.Event()
ends = os.pipe()
class Blocked:
    def read(self, size, /):
        reading.set()
        return os.read(ends[0], size)
client = confer.Client(config)
upload = client.extract("a.pdf", Blocked(), length=200 << 20)
reading.wait()
""",
    ),
    "asyncio.run without aclose": (
        0,
        """
async def main():
    client = confer.AsyncClient(async_config)
    await client.chat("/slow 1 100000").next()
asyncio.run(main())
""",
    ),
    "asyncio.run without aclose, client in a global": (
        0,
        """
async def main():
    global client, stream
    client = confer.AsyncClient(async_config)
    stream = client.chat("/slow 1 100000")
    await stream.next()
asyncio.run(main())
""",
    ),
    "asyncio.run without aclose, wake-ups by a callback": (
        0,
        """
from confer import _async
_async._DESCRIPTORS = False
async def main():
    global client, stream
    client = confer.AsyncClient(async_config)
    stream = client.chat("/slow 1 100000")
    await stream.next()
asyncio.run(main())
""",
    ),
    "asyncio.run ends a token provider": (
        0,
        """
async def main():
    global client
    asked = asyncio.Event()
    async def never(reason):
        asked.set()
        await asyncio.get_running_loop().create_future()
    async_config.token, async_config.token_provider = None, never
    client = confer.AsyncClient(async_config)
    await asked.wait()
asyncio.run(main())
""",
    ),
    "asyncio.run ends tools, begun or not": (
        0,
        """
async def never(arguments):
    await asyncio.get_running_loop().create_future()
async def main():
    global client, stream
    client = confer.AsyncClient(async_config)
    clock = confer.Tool("clock", run=never)
    stream = client.chat(confer.ChatRequest("/client-tools 3 clock {}", tools=[clock]))
    while not isinstance(await stream.next(), confer.Completion):
        pass
asyncio.run(main())
""",
    ),
    "daemon threads that read and begin streams": (
        0,
        """
client = confer.Client(config)
answered = threading.Semaphore(0)
def slow():
    for event in client.chat("/slow 1 100000"):
        answered.release()
def short():
    while True:
        client.chat("hello").text()
        answered.release()
for run in [slow, short] * 4:
    threading.Thread(target=run, daemon=True).start()
for _ in range(20):
    answered.acquire()
""",
    ),
    "daemon threads that make clients": (
        0,
        """
answered = threading.Semaphore(0)
def run():
    while True:
        confer.Client(config).chat("hello").text()
        answered.release()
for _ in range(4):
    threading.Thread(target=run, daemon=True).start()
for _ in range(4):
    answered.acquire()
""",
    ),
    "daemon threads, no callbacks": (
        0,
        """
config.log = None
client = confer.Client(config)
answered = threading.Semaphore(0)
def run():
    for event in client.chat("/slow 1 100000"):
        answered.release()
threading.Thread(target=run, daemon=True).start()
answered.acquire()
""",
    ),
    "thread that reads on after the main thread": (
        0,
        """
client = confer.Client(config)
stream = client.chat("/repeat 20 1 x")
def run():
    if len(list(stream)) != 21:
        os._exit(9)
threading.Thread(target=run).start()
""",
    ),
    "client in a reference cycle": (
        0,
        """
gc.disable()
class Node:
    pass
node = Node()
node.itself = node
node.client = confer.Client(config)
node.stream = node.client.chat("/slow 1 100000")
next(node.stream)
del node
""",
    ),
    "sys.exit in a token provider of asyncio": (
        7,
        """
async def leaves(reason):
    sys.exit(7)
async_config.token, async_config.token_provider = None, leaves
async def main():
    async with confer.AsyncClient(async_config):
        pass
asyncio.run(main())
""",
    ),
    "sys.exit in a tool": (
        7,
        """
def leaves(arguments):
    sys.exit(7)
client = confer.Client(config)
clock = confer.Tool("clock", run=leaves)
client.chat(confer.ChatRequest("/client-tools 3 clock {}", tools=[clock])).text()
""",
    ),
    "sys.exit in a tool of asyncio": (
        7,
        """
async def leaves(arguments):
    sys.exit(7)
async def main():
    async with confer.AsyncClient(async_config) as client:
        clock = confer.Tool("clock", run=leaves)
        await client.chat(confer.ChatRequest("/client-tools 3 clock {}", tools=[clock])).text()
asyncio.run(main())
""",
    ),
    "os._exit": (
        5,
        """
client = confer.Client(config)
stream = client.chat("/slow 1 100000")
next(stream)
os._exit(5)
""",
    ),
    "exit handler that uses its client and a new one": (
        0,
        """
client = confer.Client(config)
@atexit.register
def last():
    for used in client, confer.Client(config):
        if used.chat("bye").text() != "You said: bye":
            os._exit(9)
""",
    ),
    "fork, and both processes end": (
        0,
        """
client = confer.Client(config)
stream = client.chat("/slow 1 100000")
next(stream)
child = os.fork()
if child:
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0:
        os._exit(9)
    next(stream)
""",
    ),
    "multiprocessing by fork": (
        0,
        """
def work():
    try:
        confer.Client(config)
    except confer.UsageError as error:
        sys.exit(error.status)
client = confer.Client(config)
stream = client.chat("/slow 1 100000")
next(stream)
process = multiprocessing.get_context("fork").Process(target=work)
process.start()
process.join()
if process.exitcode != confer.Status.FORKED:
    os._exit(9)
next(stream)
""",
    ),
}

# Imports what BEGIN has, from a module that it shares with the processes that it starts.
SPAWN = """
from begin import *
client = None

def work(prompt):
    global client
    client = client or confer.Client(config)
    return client.chat(prompt).text()

if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        if pool.map(work, ["one", "two"]) != ["You said: one", "You said: two"]:
            sys.exit(9)
    work("three")
"""

# A module that was imported before confer is cleared after it.
EARLY = """
client = stream = None

def use(confer, config):
    global client, stream
    client = confer.Client(config)
    stream = client.chat("/slow 1 100000")
    next(stream)
"""

#: Programs that race with the library's threads run several times.
REPEATED = {"everything dropped a moment before": 4, "connecting": 4}

LATE_HANDLER = """
import atexit, os
@atexit.register
def last():
    for use in (lambda: client.chat("x"), lambda: next(stream), lambda: confer.Client(config)):
        try:
            use()
        except confer.EndedError as error:
            if error.status is not confer.Status.CLOSED:
                os._exit(9)
        else:
            os._exit(9)
"""


class Ends(EnclaveTest):
    def setUp(self) -> None:
        enclave = self.enclave()
        self.environment = {
            **os.environ,
            "TOKEN": enclave.token,
            "URL": enclave.url,
            "POLICY": enclave.policy.json,
        }

    def ended(self, *arguments: str) -> tuple[int, str]:
        """Runs Python, and returns its exit code and what it wrote to its standard error."""
        program = subprocess.run(
            [sys.executable, "-X", "dev", *arguments],
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=600,
        )
        return program.returncode, program.stderr

    def test_process_may_end_at_any_time(self) -> None:
        for name, (code, program) in PROGRAMS.items():
            for _ in range(REPEATED.get(name, 1)):
                with self.subTest(name):
                    self.assertEqual(self.ended("-c", BEGIN + program), (code, ""))

    def test_handler_from_before_the_import_gets_errors(self) -> None:
        program = LATE_HANDLER + BEGIN + PROGRAMS["client, stream and watch in globals"][1]
        for log in ("", "config.log = None"):
            self.assertEqual(self.ended("-c", program.replace("client =", f"{log}\nclient =", 1)), (0, ""))

    def test_handler_from_before_the_import_waits_for_a_daemon_thread(self) -> None:
        before = "import atexit\natexit.register(lambda: worker.join())\n"
        program = """
client = confer.Client(config)
begun = threading.Event()
def work():
    try:
        while True:
            client.chat("x").text()
            begun.set()
    except confer.EndedError:
        pass
worker = threading.Thread(target=work, daemon=True)
worker.start()
begun.wait()
"""
        self.assertEqual(self.ended("-c", before + BEGIN + program), (0, ""))

    def test_client_of_an_early_module_is_closed(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "early.py").write_text(EARLY)
            program = f"import sys\nsys.path.insert(0, {folder!r})\nimport early\n{BEGIN}\nearly.use(confer, config)"
            self.assertEqual(self.ended("-c", program), (0, ""))

    def test_spawned_processes_have_their_own_clients(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "begin.py").write_text(BEGIN)
            program = Path(folder, "program.py")
            program.write_text(SPAWN)
            self.assertEqual(self.ended(str(program)), (0, ""))

    def test_exit_in_a_token_provider_is_the_cause(self) -> None:
        program = """
def leaves(reason):
    sys.exit(7)
config.token, config.token_provider = None, leaves
with confer.Client(config):
    pass
"""
        code, printed = self.ended("-c", BEGIN + program)
        self.assertEqual(code, 1)
        self.assertIn("\nSystemExit: 7\n", printed)
        last = "confer._errors.EndedError: TOKEN: the application gave no token: the token provider failed\n"
        self.assertTrue(printed.endswith(last), printed)

    @unittest.skipIf(sys.platform == "win32", "no signals")
    def test_interrupt_ends_the_process(self) -> None:
        program = """
signal.signal(signal.SIGINT, signal.default_int_handler)
client = confer.Client(config)
stream = client.chat("/silent")
next(stream)
def interrupt():
    while not stream._reading.locked():
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt).start()
next(stream)
"""
        code, printed = self.ended("-c", BEGIN + program)
        self.assertEqual((code, printed.splitlines()[-1]), (-signal.SIGINT, "KeyboardInterrupt"))
