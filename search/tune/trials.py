"""Ray Tune, as every search here uses it: a trial is one `TrialWork`, a plain class free of Ray.

A trial costs Tune 20 ms to more than a second, so one trial is a block of networks or a whole tournament, never
one network. Trials of a kind share processes (`reuse_actors`), the dataset goes into the object store once, and
results go into our own tables: Tune keeps only what it needs to go on after a crash, under RESULTS/ray/NAME.
That state is a pickle of Tune's, so resume only from a results folder whose writers you trust.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from pyarrow import fs as arrow_fs
from ray import tune
from ray.util.placement_group import PlacementGroup, placement_group_table, remove_placement_group

from search.options import CommonOptions
from search.session.experiment import Experiment
from search.tune.checkpoints import is_whole, seal, tune_state_is_whole
from search.tune.listener import Listener
from search.tune.metrics import SearchMetrics
from structnet.data.dataset import Dataset
from structnet.data.packing import description, pack
from structnet.storage.atomic import is_local, write_whole
from structnet.storage.tables import open_folder
from structnet.trials.work import Shared, TrialWork
from tournament.workers.cluster import cap_gpu_memory

RETRIES = 3


class StoredArrays(Mapping[str, np.ndarray]):
    """Arrays that lie in the object store, once for every machine, and are had from there when they are asked for."""

    def __init__(self, handle: ray.ObjectRef) -> None:
        self.handle = handle

    def __getitem__(self, name: str) -> np.ndarray:
        return self._arrays()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays())

    def __len__(self) -> int:
        return len(self._arrays())

    def _arrays(self) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = ray.get(self.handle)
        return found


def shared_by(data: Dataset, options: CommonOptions, experiment: Experiment) -> Shared:
    """What the trials of an experiment share: the dataset goes into the object store once, and they read it there."""
    packed, plain = StoredArrays(ray.put(pack(data))), options.model_dump(mode="json")
    return Shared(packed, description(data), results_path(options), experiment.name, plain, options.device)


Factory = Callable[[dict[str, Any], Shared], TrialWork]


@dataclass(frozen=True)
class Failed:
    """A trial that Tune gave up on, after its retries."""

    config: dict[str, Any]
    error: str


def results_path(options: CommonOptions) -> str:
    """The results folder as any process finds it: workers have another working directory."""
    fs, root = open_folder(options.results)
    return str(Path(root).absolute()) if is_local(fs) else options.results


def ray_folder(results: str) -> tuple[Any, str]:
    """Where Ray keeps its state of a run: a file system of Arrow's, None for a folder of this machine, and the path.

    By itself Ray would open a URL with a client of Arrow's own, which knows fewer kinds of storage and takes neither
    the settings nor all the credentials with which the tables are written.
    """
    fs, root = open_folder(results)
    if is_local(fs):
        return None, f"{Path(root).absolute()}/ray"
    return arrow_fs.PyFileSystem(arrow_fs.FSSpecHandler(fs)), f"{root}/ray"


def run_trials(
    command: str,
    factory: Factory,
    configs: Sequence[dict[str, Any]],
    shared: Shared,
    options: CommonOptions,
    on_report: Callable[[dict[str, Any]], None],
    *,
    workers_inside: int = 0,
    part: str = "",
) -> list[Failed]:
    """Runs `factory(config, shared)` for every config, `options.workers` at a time, and returns what failed.

    command: names the processes in Ray's dashboard. on_report: told what every stretch reported. With
    `options.resume` the trials that are finished stay so and the others go on from their last stretch.
    workers_inside: actors that each trial starts itself; its placement group has a share for each of them.
    part: of a command that runs trials more than once, a folder of its own for what Tune keeps of this run.
    """
    # Of a trial that fails there is one line, from whoever asked for it, and a traceback in Tune's folder.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    trainable = _trainable(command, factory, configs, shared, _bundles(options, workers_inside))
    place = _place(shared.experiment, part)
    listener = Listener(
        on_report,
        SearchMetrics(shared.experiment, len(configs)),
        lambda: _check_store(options.results, shared.experiment),
    )

    def fit(options: CommonOptions) -> tune.ResultGrid:
        at_once = max(1, options.workers // max(1, workers_inside))
        return _tuner(trainable, len(configs), options, place, at_once, listener).fit()

    with listener.listening(), _without_leftovers(listener):
        results = fit(options)
        for _ in range(RETRIES):
            if not (_died_when_taken_up(results, listener) and can_restore(options, shared.experiment, part)):
                break
            listener.never_begun.clear()
            results = fit(options.model_copy(update={"resume": True}))
    return [
        Failed(configs[listener.indices[result.path]], str(result.error).strip().splitlines()[-1])
        for result in (results[number] for number in range(len(results)))
        if result.error is not None
    ]


@contextmanager
def _without_leftovers(listener: Listener) -> Iterator[None]:
    """A run that ends badly leaves nothing on Ray, and raises that for which the listener ended it, if it did.

    Tune leaves its actors and what they hold where they are, and in a notebook Ray lives on.
    """
    before = _placement_groups()
    try:
        yield
    except BaseException:
        for group in _placement_groups() - before:
            remove_placement_group(PlacementGroup(ray.PlacementGroupID.from_hex(group)))
        if listener.failure is not None:
            raise listener.failure from None
        raise


def _bundles(options: CommonOptions, workers_inside: int) -> list[dict[str, float]]:
    """What the placement group of a trial holds; the first bundle is for the trial itself."""
    share = {"CPU": options.cpus_per_worker, "GPU": options.gpus_per_worker}
    bundle = {kind: amount for kind, amount in share.items() if amount}
    # A trial that has workers of its own only waits for them.
    return [{}, *[bundle] * workers_inside] if workers_inside else [bundle]


def _died_when_taken_up(results: tune.ResultGrid, listener: Listener) -> bool:
    """Whether Tune gave up a trial whose process died while it took it up: then it does so with all its retries left.

    For Tune such a trial has not begun; going on from its state tries it again.
    """
    found = (results[number] for number in range(len(results)))
    dead = [result.path for result in found if isinstance(result.error, ray.exceptions.RayActorError)]
    return not listener.never_begun.isdisjoint(dead)


def can_restore(options: CommonOptions, experiment: str, part: str = "") -> bool:
    """Whether there is a state of Tune's to go on from that is whole, of an experiment or a part of it."""
    place = _place(experiment, part)
    files, folder = ray_folder(options.results)
    if not tune.Tuner.can_restore(f"{folder}/{place}", storage_filesystem=files):
        return False
    fs, root = open_folder(options.results)
    return tune_state_is_whole(fs, f"{root}/ray/{place}")


def _place(experiment: str, part: str) -> str:
    """Where Tune keeps what it needs, below Ray's folder."""
    return f"{experiment}/{part}" if part else experiment


def _check_store(results: str, experiment: str) -> None:
    """Raises StoreFailed if nothing can be written for as long as a part is tried: then no retry of a trial helps."""
    fs, root = open_folder(results)
    path = f"{root}/ray/{experiment}/writable"
    write_whole(fs, {path: b"yes"})
    fs.rm_file(path)


def _placement_groups() -> set[str]:
    """Those of this driver that hold or wait for something: their ids end in that of its job."""
    job = ray.get_runtime_context().get_job_id()
    table = placement_group_table()
    return {group for group in table if group.endswith(job) and table[group]["state"] != "REMOVED"}


def _tuner(
    trainable: Any, trials: int, options: CommonOptions, place: str, at_once: int, listener: Listener
) -> tune.Tuner:
    files, folder = ray_folder(options.results)
    home = f"{folder}/{place}"
    storage, name = home.rsplit("/", 1)
    # What cannot be restored is begun anew; whoever is trained again comes to the same rows.
    if options.resume and can_restore(options, place):
        return tune.Tuner.restore(
            home,
            trainable=trainable,
            resume_unfinished=True,
            resume_errored=True,
            storage_filesystem=files,
        )
    return tune.Tuner(
        trainable,
        param_space={"index": tune.grid_search(list(range(trials)))},
        tune_config=tune.TuneConfig(max_concurrent_trials=at_once, reuse_actors=True),
        run_config=tune.RunConfig(
            name=name,
            storage_path=storage,
            storage_filesystem=files,
            failure_config=tune.FailureConfig(max_failures=RETRIES),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=3, checkpoint_frequency=1),
            callbacks=[listener, *_loggers(options)],
            verbose=0,
        ),
    )


def _loggers(options: CommonOptions) -> list[tune.Callback]:
    """What Tune itself notes of its trials, where that is to be kept: our own tables need none of it."""
    if not getattr(options, "keep_tune", False):
        return []
    return [tune.logger.JsonLoggerCallback(), tune.logger.CSVLoggerCallback()]


class _WorkTrainable(tune.Trainable):
    """Tune's view of a TrialWork. A process takes up one after the other."""

    command: str
    name = ""  # of the trial; there before `setup`, as Ray asks for the representation of one that fails there too

    def setup(  # type: ignore[override]
        self,
        config: dict[str, Any],
        factory: Factory,
        configs: list[dict[str, Any]],
        shared: Shared,
    ) -> None:
        torch.set_num_threads(1)
        cap_gpu_memory(shared.device, shared.options.get("gpus_per_worker", 0))
        self.make, self.configs, self.shared = factory, configs, shared
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        chosen = self.configs[new_config["index"]]
        self.name = chosen.get("name", "")
        self.work = self.make(chosen, self.shared)
        # Between two calls Ray makes the title of the process from the name of the class, and asks for nothing else.
        # While one runs, and on the dashboard's page of actors, the name stays that of the command or the first trial.
        type(self).__name__ = type(self).__qualname__ = repr(self)
        return True

    def step(self) -> dict[str, Any]:
        report = self.work.step()
        return {"report": report, "done": report["done"]}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        self.work.save(Path(checkpoint_dir))
        seal(Path(checkpoint_dir))

    def load_checkpoint(self, checkpoint: Any) -> None:
        # From one that was cut short, or changed, the trial begins anew.
        if is_whole(Path(checkpoint)):
            self.work.load(Path(checkpoint))

    def __repr__(self) -> str:
        return f"{self.command}:{self.name}"


def _trainable(
    command: str,
    factory: Factory,
    configs: Sequence[dict[str, Any]],
    shared: Shared,
    bundles: list[dict[str, float]],
) -> Any:
    """The class of the trials of one run, by whose name Tune and Ray's dashboard know the command."""
    named = type(command, (_WorkTrainable,), {"__module__": __name__, "command": command})
    known = tune.with_parameters(named, factory=factory, configs=list(configs), shared=shared)
    trainable = tune.with_resources(known, tune.PlacementGroupFactory(bundles))
    trainable.__qualname__ = command
    return trainable
