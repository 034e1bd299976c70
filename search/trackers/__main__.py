"""The process beside an experiment that tells a tracker what is new in its tables.

    python -m search.trackers RESULTS EXPERIMENT TRACKER

It looks twice a minute, whenever it is sent a line, and when its input ends, as it does with whoever started it; then
it ends too. It answers every line with an empty one; any other line that it prints is for the user.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress

from search.trackers.following import Follower
from search.trackers.notes import alone
from search.trackers.registry import adapter_of, folder_of, is_folder
from structnet.errors import one_line

SECONDS = 30.0  # between two looks, as between heartbeats
LAST_SECONDS = 300  # for the last look, for which nobody waits
NICENESS = 10  # the experiment goes first

Say = Callable[[str], None]


class Telling:
    """Tells the tracker until that fails: which is said, and it is left alone from then on."""

    def __init__(self, tracker: str, results: str, experiment: str, say: Say) -> None:
        self.tracker, self.results, self.experiment, self.say = tracker, results, experiment, say
        self.follower: Follower | None = None
        self.is_left = self.said_full = False

    def look(self, *, is_asked: bool = False, is_last: bool = False) -> None:
        """Tells what is new. is_asked: whether all that was written has to be there now."""
        if self.is_left:
            return
        try:
            if self.follower is None:
                adapter = adapter_of(self.tracker, self.results, self.experiment)
                self.follower = Follower(self.results, self.experiment, self.tracker, adapter)
            self.follower.follow()
            if is_last:
                self.follower.close()
        except Exception as error:
            self.is_left = True
            self.say(f"Tracker {self.tracker} is left ({one_line(error)}): the experiment goes on without it")
            return
        if self.follower.is_full and not self.said_full:
            self.said_full = True
            self.say(
                f"Tracker {self.tracker} has {self.follower.at_most} runs: the rest of {self.experiment} is in the "
                "tables alone"
            )
        if is_asked and self.follower.unread:
            self.say(f"Tracker {self.tracker} lacks what cannot be read: {self.follower.unread}")


def main(results: str, experiment: str, tracker: str) -> None:
    """Follows the experiment until the input ends. One that was killed, and is resumed, has the last look of before."""
    say = _only_answers()
    with suppress(OSError):
        os.nice(NICENESS)
    with ExitStack() as inside:
        if is_folder(results):
            inside.enter_context(alone(folder_of(tracker, results) / f"{experiment}.lock"))
        _follow(Telling(tracker, results, experiment, say), say)
        # A thread of some library that is still on its way out would abort a process that ends as others do.
        os._exit(0)


def _follow(telling: Telling, say: Say) -> None:
    asked = 0
    while True:
        telling.look(is_asked=asked > 0)
        for _ in range(asked):
            say("")
        lines = _input_within(SECONDS)
        if lines == b"":
            break
        asked = 0 if lines is None else lines.count(b"\n")
    signal.alarm(LAST_SECONDS)
    telling.look(is_asked=True, is_last=True)


def _only_answers() -> Say:
    """Prints a line; what libraries print is lost."""
    answers, nothing = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)

    def say(line: str) -> None:
        # Nobody may be there to hear it.
        with suppress(OSError):
            os.write(answers, f"{line}\n".encode())

    return say


def _input_within(seconds: float) -> bytes | None:
    """What came; nothing at all if the input has ended, and None if it has not come."""
    ready, _, _ = select.select([0], [], [], seconds)
    return os.read(0, 4096) if ready else None


if __name__ == "__main__":
    main(*sys.argv[1:])
