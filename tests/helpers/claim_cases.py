"""What tests share that have processes want one name at once: twenty of them, which begin at the same moment.

They are copies of one process, so that Python and its libraries are loaded once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

PROCESSES = 20
ROOT = str(Path(__file__).parents[2])
_BEGIN_AND_END = """
import json, os, sys, tempfile
from search.options import CommonOptions
from search.session import experiment
from structnet.errors import UserError
from structnet.storage.claims import release_all

results, name, resume, count = json.loads(sys.argv[1])
experiment.default_name = lambda command, about: f"{command}-of-this-second"
with tempfile.TemporaryDirectory() as place:
    # What the first row of a process loads is loaded once.
    first = experiment.Experiment("validate", CommonOptions(results=place, name="first"))
    first.start("", 0)
    release_all()
open_end, barrier = os.pipe()
children = []
for number in range(count):
    child = os.fork()
    if not child:
        os.close(barrier)
        os.read(open_end, 1)  # which ends when nobody is left to write
        try:
            options = CommonOptions(results=results, name=name, resume=resume)
            mine = experiment.Experiment("validate", options)
            mine.start("", number)
            mine.update("", accuracy=number / count)
            mine.end("", "finished")
            told = ["wrote", mine.name]
        except UserError as error:
            told = ["refused", str(error)]
        os.write(1, (json.dumps([number, *told]) + "\\n").encode())
        os.read(0, 1)  # until all have told
        release_all()
        os._exit(0)
    children.append(child)
os.close(barrier)
for child in children:
    os.waitpid(child, 0)
"""


def at_once(
    results: str, name: str, *, resume: bool = False, processes: int = PROCESSES, cwd: Path
) -> list[tuple[int, str, str]]:
    """What became of experiments that as many processes begin, write and end: number, `wrote` or `refused`, and what.

    Without a name all of them have the same default. Each keeps its name until all have told.
    """
    told = json.dumps([results, name, resume, processes])
    running = subprocess.Popen(
        [sys.executable, "-c", _BEGIN_AND_END, told],
        cwd=cwd,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": ROOT},
    )
    assert running.stdin is not None and running.stdout is not None
    with running:
        outcomes = [json.loads(running.stdout.readline()) for _ in range(processes)]
        running.stdin.close()
    assert running.returncode == 0
    return sorted((number, what, text) for number, what, text in outcomes)
