"""Runs the queue: starts what fits, notes how it ends, and takes over what a runner that died has left.

The state of the queue is in its store, and whether a process lives is told by its lock (see `processes`), so a
runner may be killed at any moment. The next one finds each entry that the store calls running either alive, and
waits for it, or gone. How it ended cannot be known then, so it waits again and is resumed: a command that had
finished says so and ends at once.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

from search.commands.queue.processes import identity, is_locked, take_lock
from search.commands.queue.schedule import fits_at_all, to_start
from search.commands.queue.store import Entry, Store, folder_of, open_store
from structnet.errors import UserError, one_line

POLL_SECONDS = 0.2
# -P: a folder `search` where the command was given is not ours.
PROGRAM = (sys.executable, "-P", "-m", "search.cli")
_TAIL_BYTES = 4096


@dataclass(frozen=True)
class Machine:
    """What entries may use together: cpus, whole gpus (None for all there are), and so many entries at once."""

    cpus: float
    gpus: int | None = None
    parallel: int = 1


class Runner:
    """Runs the entries of one queue, as the only runner of it.

    results: as given on the line; watch: wait for more when all is done; say: is told each start and end;
    program: what runs the arguments of an entry.
    """

    def __init__(
        self,
        results: str,
        machine: Machine,
        *,
        watch: bool = False,
        say: Callable[[str], None] = print,
        program: Sequence[str] = PROGRAM,
    ) -> None:
        self.results, self.machine, self.watch, self.say = results, machine, watch, say
        self.program = tuple(program)
        self.store: Store = open_store(results, create=True)
        self.folder = folder_of(results) / "queue"
        self.ends: Counter[str] = Counter()
        self.stopping = False
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._told: set[int] = set()
        self._adopted: set[int] = set()
        self._beyond_reach: set[int] = set()

    def run(self) -> bool:
        """Runs until nothing is left to start or to wait for; whether it was not stopped before by Ctrl-C.

        Ctrl-C and SIGTERM stop what runs, and put it back to wait. A second Ctrl-C does not wait for that: what
        still runs then is left to the next runner. Raises UserError if the queue has a runner already.
        """
        with self._only_runner(), self._signals():
            while self._step():
                time.sleep(POLL_SECONDS)
        return not self.stopping

    def _step(self) -> bool:
        """Looks once at what has ended, what is to be stopped and what can start; whether anything is left."""
        for number, process in list(self._children.items()):
            code = process.poll()
            if code is not None:
                del self._children[number]
                self._ended(number, code)
        entries = self.store.entries("waiting", "running")
        running = [entry for entry in entries if entry.status == "running"]
        for entry in running:
            alive = entry.id in self._children or self._look_after(entry)
            if alive and (self.stopping or entry.wanted):
                self._interrupt(entry)
        if self.stopping:
            return any(entry.id not in self._beyond_reach for entry in running)
        started = self._start_some(entries, running)
        return bool(running or started or self.watch)

    def _look_after(self, entry: Entry) -> bool:
        """Whether what another runner has started still lives. Once it has ended, it waits for its turn again."""
        alive = self._alive(entry)
        if not alive:
            self._told.discard(entry.id)
            after = self.store.ended(entry.id, None, None, otherwise="waiting")
            self.say(f"{_title(entry)} was started by a runner that is gone, and has ended: {after.status}")
        elif entry.id not in self._adopted:
            self._adopted.add(entry.id)
            self.say(f"{_title(entry)} still runs, started by a runner that is gone: waiting for it")
        return alive

    def _ended(self, number: int, code: int) -> None:
        self._told.discard(number)
        error = None if code == 0 else self._reason(number, code)
        entry = self.store.ended(number, code, error, otherwise="waiting" if self.stopping else "failed")
        self.ends[entry.status] += 1
        assert entry.started_at is not None and entry.ended_at is not None
        took = entry.ended_at - entry.started_at
        self.say(
            f"{_title(entry)} is {entry.status} after {took}" + (f": {entry.error}" if entry.error else "")
        )

    def _reason(self, number: int, code: int) -> str:
        """One line on why it failed: the last one that it wrote, or the signal that killed it."""
        if code < 0:
            return f"killed by signal {-code} ({signal.strsignal(-code)})"
        with self._file(number, "log").open("rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - _TAIL_BYTES))
            lines = log.read().decode(errors="replace").split("\n$ ")[-1].splitlines()[1:]
        written = [line.strip() for line in lines if line.strip()]
        return written[-1].removeprefix("structnet: ")[:300] if written else f"exit code {code}"

    def _alive(self, entry: Entry) -> bool:
        """Whether the process of a running entry, which may be a former runner's, lives.

        The lock tells; the process is asked for as well, for who deletes the lock's file while it is held.
        """
        return self._reachable(entry) or is_locked(self._file(entry.id, "lock"))

    def _reachable(self, entry: Entry) -> bool:
        """Whether its process lives and is known, so that a signal reaches it and nobody else."""
        same = entry.pid is not None and identity(entry.pid) == entry.process is not None
        return entry.id in self._children or same

    def _interrupt(self, entry: Entry) -> None:
        """Has the process end by itself, by the Ctrl-C that every command understands; once is enough."""
        if entry.id in self._told:
            return
        self._told.add(entry.id)
        if entry.id in self._children:
            self._children[entry.id].send_signal(signal.SIGINT)
        elif entry.pid is not None and self._reachable(entry):
            with suppress(ProcessLookupError):
                os.kill(entry.pid, signal.SIGINT)
        else:
            self._beyond_reach.add(entry.id)
            self.say(f"{_title(entry)} cannot be stopped, its process is not known: it goes on to its end")
            return
        self.say(f"{_title(entry)} is being stopped")

    def _start_some(self, entries: list[Entry], running: list[Entry]) -> int:
        """Starts what fits beside what runs; how many."""
        waiting = {entry.id: entry for entry in entries if entry.status == "waiting"}
        if not waiting or self.store.paused:
            return 0
        starts = to_start(
            [entry.demand for entry in waiting.values()],
            [entry.demand for entry in running],
            cpus=self.machine.cpus,
            gpus=self._gpus(entries),
            parallel=self.machine.parallel,
        )
        return sum(self._start(number, devices) for number, devices in starts.items())

    def _start(self, number: int, devices: tuple[int, ...]) -> bool:
        """Starts an entry in a process of its own; False if it is no longer to be started."""
        lock = take_lock(self._file(number, "lock"))
        if lock is None:
            return False
        try:
            entry = self.store.start(number, devices)
            if entry is None:
                return False
            process = self._launch(entry, lock)
        except OSError as error:
            self.store.ended(number, None, one_line(error))
            self.ends["failed"] += 1
            self.say(f"entry {number} cannot be started: {one_line(error)}")
            return True
        finally:
            os.close(lock)  # the process has its copy
        self._children[number] = process
        self.store.launched(number, process.pid, identity(process.pid))
        again = f", attempt {entry.attempts}" if entry.attempts > 1 else ""
        self.say(f"{_title(entry)} starts{again}; its log is {self._file(number, 'log')}")
        return True

    def _launch(self, entry: Entry, lock: int) -> subprocess.Popen[bytes]:
        words = self._words(entry)
        with self._file(entry.id, "log").open("ab") as log:
            log.write(f"\n$ {shlex.join(['structnet', *words])}\n".encode())
            log.flush()
            return subprocess.Popen(
                [*self.program, *words],
                cwd=entry.folder,
                env=_environment(entry),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[lock],
                # Of a terminal's own, Ctrl-C and hang-up reach the runner alone, which passes on what is due.
                start_new_session=True,
            )

    def _words(self, entry: Entry) -> list[str]:
        """The arguments of the process. What was started before is resumed, also if nothing came of it."""
        here = Path(entry.folder) == Path.cwd()
        results = self.results if here else str(folder_of(self.results))
        resume = ["--resume"] if entry.attempts > 1 else []
        command, *rest = entry.arguments
        return [command, "--name", entry.name, "--results", results, *resume, *rest]

    def _file(self, number: int, kind: str) -> Path:
        return self.folder / f"{number}.{kind}"

    def _gpus(self, entries: list[Entry]) -> int:
        """How many there are; not looked for, which takes seconds, as long as no entry needs any."""
        if self.machine.gpus is None and any(entry.gpus for entry in entries):
            import torch

            self.machine = replace(self.machine, gpus=torch.cuda.device_count())
        return self.machine.gpus or 0

    def unfit(self) -> list[Entry]:
        """The entries that wait, but need more than there is."""
        waiting = self.store.entries("waiting")
        cpus, gpus = self.machine.cpus, self._gpus(waiting)
        return [entry for entry in waiting if not fits_at_all(entry.demand, cpus=cpus, gpus=gpus)]

    @contextmanager
    def _only_runner(self) -> Iterator[None]:
        file = self.folder / "runner.lock"
        lock = take_lock(file)
        if lock is None:
            raise UserError(
                f"the queue in {self.results!r} has a runner already (process {file.read_text() or 'unknown'}): it "
                "also runs what is added now"
            )
        try:
            os.ftruncate(lock, 0)
            os.write(lock, str(os.getpid()).encode())
            yield
        finally:
            os.close(lock)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Turns the first Ctrl-C into a wish that is looked at between two steps, when all is in order.

        Also where Ctrl-C was to be ignored, as in a shell's background: the processes would ignore it too.
        """

        def stop(number: int, frame: FrameType | None) -> None:
            if self.stopping:
                raise KeyboardInterrupt
            self.stopping = True

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _title(entry: Entry) -> str:
    return f"{entry.id} {entry.command} {entry.name}"


def _environment(entry: Entry) -> dict[str, str]:
    """That of this process, with this very structnet, the devices of the entry, and lines written as they come."""
    root = str(Path(__file__).parents[3])
    path = os.environ.get("PYTHONPATH")
    changed = {"PYTHONPATH": f"{root}{os.pathsep}{path}" if path else root, "PYTHONUNBUFFERED": "1"}
    if entry.devices:
        names = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        here = [
            names[device] if device < len(names) and names[device] else str(device)
            for device in entry.devices
        ]
        changed["CUDA_VISIBLE_DEVICES"] = ",".join(here)
    return {**os.environ, **changed}
