"""The process that follows an experiment, as the experiment has it: started, asked, and left to itself.

A tracker may be slow, away or broken, and a library may print, exit or take the memory that it likes. Beside the
experiment, in a process of lower priority for each, none of that is its matter, or that of the others.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import weakref
from contextlib import suppress
from typing import IO

from search.session.console import Console
from structnet.errors import one_line

PATIENCE = 30.0  # seconds that the end of an experiment waits for a tracker


class _Answers:
    """What the process has answered. count: of lines that it was sent. ended: whether no more will come."""

    def __init__(self) -> None:
        self.count, self.ended, self.wanted = 0, False, True
        self.changed = threading.Condition()


class Following:
    """Has a tracker follow an experiment, as long as this is there; says what it has to say."""

    def __init__(self, results: str, experiment: str, tracker: str) -> None:
        self._words, self._tracker = (results, experiment, tracker), tracker
        self._answers = _Answers()
        self._asked, self._patience = 0, PATIENCE
        self._lines: IO[str] | None = None

    def start(self) -> None:
        """Starts the process, unless it was started."""
        if self._lines is not None or self._answers.ended:
            return
        try:
            # Not with the modules of a folder that the user happens to be in; and Ctrl-C is for the experiment alone.
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "search.trackers", *self._words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                start_new_session=True,
            )
        except OSError as error:
            self._answers.ended = True
            _say_left(self._tracker, one_line(error))
            return
        assert process.stdin is not None
        self._lines = process.stdin
        weakref.finalize(self, _close, self._lines, self._answers)
        told = (process, self._tracker, self._answers)
        threading.Thread(target=_listen, args=told, name=f"tracker {self._tracker}", daemon=True).start()

    def ask(self) -> None:
        """Asks for all that is written; `wait` tells when the tracker has it."""
        if self._lines is None or self._answers.ended:
            return
        with suppress(OSError):  # of a process that has just ended, which is said
            self._lines.write("\n")
            self._lines.flush()
        self._asked += 1

    def wait(self) -> None:
        """Waits until the tracker has what was asked for; not for ever and not again, but it goes on after that."""
        answers = self._answers
        with answers.changed:
            done = answers.changed.wait_for(
                lambda: answers.ended or answers.count >= self._asked, self._patience
            )
        if not done and self._patience:
            Console().warn(
                f"Tracker {self._tracker} is not done after {self._patience:.0f} seconds: it gets the rest in the "
                "background"
            )
            self._patience = 0.0


def _listen(process: subprocess.Popen[str], tracker: str, answers: _Answers) -> None:
    """Says what the process prints for the user, until it ends; it should not do so unless its input has ended."""
    assert process.stdout is not None
    for line in process.stdout:
        if text := line.strip():
            Console().warn(text)
            continue
        with answers.changed:
            answers.count += 1
            answers.changed.notify_all()
    code = process.wait()
    if answers.wanted:
        _say_left(tracker, f"its process ended with {code}")
    with answers.changed:
        answers.ended = True
        answers.changed.notify_all()


def _close(lines: IO[str], answers: _Answers) -> None:
    """Ends the input of the process, which makes it end."""
    answers.wanted = False
    with suppress(OSError):
        lines.close()


def _say_left(tracker: str, reason: str) -> None:
    Console().warn(f"Tracker {tracker} is left ({reason}): the experiment goes on without it")
