"""`structnet train`: one network on several workers, with Ray Train's TorchTrainer.

A worker computes the gradient of its part of every batch, and one all-reduce averages them
(structnet.training.data_parallel): the network that comes out is the one that a single process would train, but for
the order in which floats are added.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from search.commands.train.command import TrainOptions
from search.session.augmentation import augmented
from search.session.batch_size import batch_size_now, with_batch_size
from search.session.console import Console
from search.session.experiment import Experiment
from search.session.run import (
    architecture_of,
    check_maps,
    load_data,
    on_ray,
    print_outcome,
    recorded,
    shape_of,
    unfinished,
)
from search.session.waiting import HowFar
from structnet.errors import LACK_OF_MEMORY, UserError, WorkFailed, one_line

if TYPE_CHECKING:
    from search.commands.train.worker import Plan
    from structnet.data.dataset import Dataset
    from structnet.network.network import StructNet
    from structnet.network.state import TrainState

RETRIES = 3
GLANCE_SECONDS = 1.0


def run(options: TrainOptions) -> None:
    """Runs the command."""
    from structnet.network.state import TrainState
    from structnet.training.data_parallel import check_blocks, check_share
    from structnet.training.recipe import fitted_l1
    from tournament.settings import fitted_lengths

    data, console = load_data(options), Console()
    options = augmented(options, data)
    network = start_network(options, data)
    shape = network.topology.architecture
    options = with_batch_size(options, data, architecture=shape, parts=options.workers)
    batch_size, _, _ = fitted_lengths(len(data.train), options.epochs, options.batch_size)
    if options.batch_size is None:
        batch_size += -batch_size % options.workers
    l1 = fitted_l1(shape) if options.l1 is None else options.l1
    options = options.model_copy(update={"batch_size": batch_size, "l1": l1})
    check_share(batch_size_now(options), options.workers)
    if network.statistics is not None:
        check_blocks(batch_size_now(options), options.workers)
    experiment = unfinished("train", options, console, data)
    if experiment is None:
        return
    console.say(f"Training {network.describe()} on {data.name}: {shape_of(data)}")
    console.say(
        f"{options.epochs} epochs, {batch_size_now(options)} images a step over {options.workers} workers; experiment "
        f"{experiment.name}"
    )
    with on_ray(options), recorded(experiment, console, rng_seed=options.rng_seed):
        plan = plan_of(options, experiment)
        start = TrainState.fresh(network)
        while True:
            try:
                _train(plan, start, data, options, experiment, console)
                break
            except MemoryRanOut as lack:
                options = with_smaller_batches(options, experiment, lack, console)
                plan = plan_of(options, experiment)
        _finish(plan, data, experiment, console)
    sql = f"select epoch, train_loss, loss, accuracy from epochs where experiment = '{experiment.name}' order by epoch"
    print_outcome(experiment, sql, console)


class MemoryRanOut(WorkFailed):
    """A worker could not hold its part of a batch, on the retries too."""


def with_smaller_batches(
    options: TrainOptions, experiment: Experiment, lack: MemoryRanOut, console: Console
) -> TrainOptions:
    """The options with batches half as large from the first epoch on that is not written, which is recorded.

    Raises `lack` where the size of the batches was not left to us, or each worker has one image already.
    """
    from structnet.storage.snapshot import list_snapshots

    kept = list_snapshots(f"{options.results}/snapshots/{experiment.name}")
    epoch = int(kept[-1].rpartition("-")[2]) + 1 if kept else 1
    batch = batch_size_now(options)
    half = batch // 2 - batch // 2 % options.workers
    if options.batch_size_asked is None or half < options.workers:
        raise lack
    console.say(f"A worker ran out of memory: from epoch {epoch} on {half} images a step")
    smaller = options.smaller_batches | {f"epoch {epoch}": half}
    experiment.amend("", smaller_batches=smaller)
    experiment.update("")
    return options.model_copy(update={"smaller_batches": smaller})


def start_network(options: TrainOptions, data: Dataset) -> StructNet:
    """The network of the snapshot, or a sparse one; raises UserError if it does not fit the data."""
    from structnet.network.network import StructNet
    from structnet.storage.snapshot import check_preprocessing, load_snapshot

    if options.snapshot is None:
        shape = architecture_of(options.architecture, data)
        check_maps(shape, options)
        return StructNet(
            shape,
            options.density,
            rng_seed=options.rng_seed,
            allocation=options.allocation,
            ensure_paths=True,
        )
    found = load_snapshot(options.snapshot)
    check_preprocessing(found, data)
    network = found.state.network
    shape = network.topology.architecture
    check_maps(shape, options)
    if (shape.inputs, shape[-1]) != (data.input_units, data.classes):
        raise UserError(
            f"snapshot '{options.snapshot}' has {shape.inputs} inputs and {shape[-1]} outputs, but {data.name} has "
            f"{data.input_units} and {data.classes}: take the dataset it was grown on"
        )
    return network


def plan_of(options: TrainOptions, experiment: Experiment) -> Plan:
    """What the workers are told."""
    from search.commands.train.worker import Plan
    from search.tune.trials import results_path
    from structnet.training.recipe import recipe_of

    results = results_path(options)
    sizes = {**dict(options), "batch_size": batch_size_now(options)}
    recipe = recipe_of(sizes, rng_seed=options.rng_seed, weight_decay=options.weight_decay)
    folder = f"{results}/snapshots/{experiment.name}"
    return Plan(
        options.epochs,
        options.learning_rate,
        recipe,
        results,
        experiment.name,
        folder,
        options.device,
        options.gpus_per_worker,
    )


def _train(
    plan: Plan,
    start: TrainState,
    data: Dataset,
    options: TrainOptions,
    experiment: Experiment,
    console: Console,
) -> None:
    """Runs Ray Train in a thread, so that Ctrl-C is ours, and shows the epochs as they are written."""
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    from search.commands.train.worker import train_loop
    from search.tune.trials import ray_folder
    from structnet.data.packing import description, pack

    loop = partial(train_loop, plan, [ray.put(start.to_arrays())], [ray.put(pack(data))], description(data))
    gpus = options.gpus_per_worker
    files, folder = ray_folder(plan.results)
    trainer = TorchTrainer(
        loop,
        scaling_config=ScalingConfig(
            num_workers=options.workers,
            use_gpu=gpus > 0,
            resources_per_worker={"CPU": options.cpus_per_worker} | ({"GPU": gpus} if gpus else {}),
        ),
        run_config=RunConfig(
            name=experiment.name,
            storage_path=folder,
            storage_filesystem=files,
            failure_config=FailureConfig(max_failures=RETRIES),
        ),
    )
    failures: list[Exception] = []

    def fit() -> None:
        try:
            trainer.fit()
        except Exception as error:  # whatever it is, the main thread says it
            failures.append(error)

    thread = threading.Thread(target=fit, daemon=True)
    thread.start()
    shown = len(_rows(experiment))
    with HowFar(console, plan.epochs, "epochs", shown) as progress:
        while thread.is_alive():
            thread.join(GLANCE_SECONDS)
            shown = _show(experiment, shown, progress)
    if failures:
        cause = _cause(failures[0])
        raise (MemoryRanOut if LACK_OF_MEMORY in cause else WorkFailed)(f"training failed: {cause}")


def _cause(error: Exception) -> str:
    """One line: of Ray Train's error the last line of what a worker said, without its traceback.

    Of the first, or of one that ran out of memory: the others then say no more than that they have lost it.
    """
    workers = getattr(error, "worker_failures", None)
    if not workers:
        return one_line(error)
    failures = [workers[rank] for rank in sorted(workers)]
    for failure in failures:
        if LACK_OF_MEMORY in type(failure).__name__:  # which is no part of what it says
            return one_line(failure)
    return str(failures[0]).strip().splitlines()[-1][:300]


def _rows(experiment: Experiment) -> list[dict[str, Any]]:
    from structnet.storage.tables import read_table

    rows = read_table(experiment.options.results, "epochs", experiment.name).to_pylist()
    return sorted(rows, key=lambda row: row["epoch"])


def _show(experiment: Experiment, shown: int, progress: HowFar) -> int:
    """Prints the epochs after the first `shown`, with a heartbeat; how many there are now."""
    rows = _rows(experiment)
    for row in rows[shown:]:
        progress.at(
            row["epoch"],
            f"epoch {row['epoch']}  training loss {row['train_loss']:.4f}  validation {row['accuracy']:.2%}  "
            f"{row['seconds']:.1f} s",
        )
    if len(rows) > shown:
        experiment.update("", accuracy=rows[-1]["accuracy"], parameters=rows[-1]["parameters"])
    return len(rows)


def _finish(plan: Plan, data: Dataset, experiment: Experiment, console: Console) -> None:
    """Measures the last snapshot on validation and test, and ends the experiment."""
    from search.commands.train.worker import newest_state
    from structnet.training.evaluation import evaluate

    state = newest_state(plan.folder)
    if state is None:
        raise WorkFailed(f"no snapshot in {plan.folder} can be read")
    found, test = evaluate(state.network, data.validation), evaluate(state.network, data.test)
    snapshot = f"{plan.folder}/epoch-{plan.epochs:05d}"
    # All that the optimizer made: where batches were halved, more than the step of the last epoch says.
    steps = state.optimizer.step
    rows = _rows(experiment)
    experiment.end(
        "",
        "finished",
        seconds=sum(row["seconds"] for row in rows),
        parameters=state.network.parameter_count,
        connections=state.network.connection_count,
        steps=steps,
        steps_all=steps,
        parameter_steps=steps * state.network.parameter_count,
        parameter_steps_all=steps * state.network.parameter_count,
        accuracy=found.accuracy,
        test_accuracy=test.accuracy,
        test_loss=test.loss,
        snapshot=snapshot,
    )
    console.say(
        f"Trained: {state.network.describe()}; validation {found.accuracy:.2%}, test {test.accuracy:.2%}"
    )
    console.say(f"Snapshot: {snapshot}.safetensors")
