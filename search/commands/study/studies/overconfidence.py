"""Why does the loss on unseen images rise while accuracy goes on rising, as sparse networks evolve for long?

A network of SET (structnet.growth.evolution) is looked at on validation images at epochs that double, with weight decay
and without. What is measured there: accuracy and cross-entropy in nats; how much of it lies on the answers that are
wrong, and on the hundredth of the images that cost most; and what is left of it at a fitted temperature
(structnet.measure.calibration), which repairs how sure a network is and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from search.commands.study.comparison import SPREAD
from search.commands.study.study import Finding, Measurement, Place, Row, Scale, Study, Task, verdict
from search.commands.study.tasks import batch_size_for, has_few_inputs, tasks_of
from search.report import charts
from search.report.charts import Axis, Chart
from structnet.data.dataset import Dataset, Split
from structnet.growth.evolution import Evolution, evolve, seed_of_evolution
from structnet.measure.calibration import tempered_likelihoods
from structnet.measure.statistics import ConfidenceInterval, mean_and_spread, paired_lead
from structnet.network.network import StructNet
from structnet.network.state import TrainState
from structnet.seeds import stream
from structnet.training.batches import steps_per_epoch
from structnet.training.evaluation import evaluate
from structnet.training.loop import train_steps
from structnet.training.recipe import COUPLED, Recipe
from structnet.training.schedules import constant

NO_DECAY, DECAYED = "no decay", "decay 1e-3"
ARMS = {NO_DECAY: {"weight_decay": 0.0}, DECAYED: {"weight_decay": 1e-3}}
DEAREST = 0.01  # of the images
SHOWN = ("accuracy", "loss", "tempered", "on_wrong", "on_dearest")


def tasks(data: Dataset, scale: Scale) -> list[Task]:
    few = has_few_inputs(data)
    return tasks_of(
        ARMS,
        scale,
        architecture=[data.input_units, *((64, 32) if few else (512, 128)), data.classes],
        epsilon=3.0 if few else 11.0,
        epochs=(32 if few else 2) if scale.quick else 512,
        batch_size=batch_size_for(data),
        learning_rate=0.05 if few else 0.01,
    )


def measure(task: Task, data: Dataset, place: Place) -> list[Measurement]:
    """The quantities of SHOWN after 1, 2, 4 … epochs; the item is the epoch."""
    options, evolution = task.options, Evolution()
    recipe = Recipe(
        options["batch_size"],
        rng_seed=task.rng_seed,
        momentum=0.5,
        decay=COUPLED,
        weight_decay=options["weight_decay"],
    )
    seed = seed_of_evolution(options["architecture"], options["epsilon"], evolution, task.rng_seed)
    state, found = TrainState.fresh(seed), []
    per_epoch = steps_per_epoch(len(data.train), recipe.batch_size)
    for epoch in range(1, options["epochs"] + 1):
        train_steps(state, data.train, recipe, per_epoch, constant(options["learning_rate"]))
        if math.log2(epoch).is_integer():
            seen = _looked_at(state.network, data.validation)
            found += [Measurement(quantity, value, epoch) for quantity, value in seen.items()]
        state = evolve(state, evolution, stream(task.rng_seed, "evolution", state.step)).state
    return found


def _looked_at(network: StructNet, split: Split) -> dict[str, float]:
    """Of the mean cross-entropy in nats, on_wrong and on_dearest are shares of it."""
    judged = evaluate(network, split, with_logits=True)
    assert judged.logits is not None
    losses = -judged.log2_likelihood * math.log(2)
    labels = split.labels.cpu()
    wrong = (judged.logits.argmax(dim=0) != labels).numpy()
    dearest = np.sort(losses)[-max(1, round(DEAREST * len(losses))) :]
    tempered = -tempered_likelihoods(judged.logits, labels).mean() * math.log(2)
    return {
        "accuracy": judged.accuracy,
        "loss": float(losses.mean()),
        "tempered": float(tempered),
        "on_wrong": float(losses[wrong].sum() / losses.sum()),
        "on_dearest": float(dearest.sum() / losses.sum()),
    }


def judge(rows: Sequence[Row]) -> Finding:
    """Yes if accuracy and loss surely rise without decay from the least loss to the end, and not at a temperature.

    In part if the loss surely rises, and not at a temperature, but accuracy is not shown to rise. The least loss is
    that of the mean over rng_seeds.
    """
    epochs = _epochs(rows)
    losses = {epoch: mean_and_spread([*_at(rows, NO_DECAY, "loss", epoch).values()])[0] for epoch in epochs}
    least, last = min(losses, key=lambda epoch: losses[epoch]), epochs[-1]
    rise = {quantity: _rise(rows, quantity, least, last) for quantity in SHOWN}
    sentences = [
        f"Without decay the loss is least after epoch {least}; from there to epoch {last} it changes by "
        f"{rise['loss'].shown(digits=4)} nats, accuracy by {rise['accuracy'].shown(scale=100)} points.",
        f"At a fitted temperature the loss changes by {rise['tempered'].shown(digits=4)}.",
        f"The share of the loss that lies on wrong answers changes by {rise['on_wrong'].shown(scale=100)} points, that "
        f"on the dearest hundredth of the images by {rise['on_dearest'].shown(scale=100)}.",
    ]
    table = [
        (
            "weight decay",
            "epoch",
            "accuracy, %",
            "loss",
            "at a temperature",
            "on wrong, %",
            "on 1 % of images, %",
        )
    ]
    for arm in ARMS:
        for epoch in epochs:
            mean = {
                name: mean_and_spread([*_at(rows, arm, name, epoch).values()] or [math.nan])[0]
                for name in SHOWN
            }
            table.append(
                (
                    arm,
                    str(epoch),
                    f"{100 * mean['accuracy']:.2f}",
                    f"{mean['loss']:.4f}",
                    f"{mean['tempered']:.4f}",
                    f"{100 * mean['on_wrong']:.0f}",
                    f"{100 * mean['on_dearest']:.0f}",
                )
            )
    too_sure = rise["loss"].is_above_zero and not rise["tempered"].is_above_zero
    holds = verdict(yes=too_sure and rise["accuracy"].is_above_zero, in_part=too_sure)
    return Finding(holds, tuple(sentences), tuple(table))


def _epochs(rows: Sequence[Row]) -> list[int]:
    """Those that were looked at."""
    return sorted({row.item for row in rows if row.quantity == "loss"})


def _at(rows: Sequence[Row], arm: str, quantity: str, epoch: int) -> dict[int, float]:
    """rng_seed -> value."""
    wanted = (arm, quantity, epoch)
    return {row.rng_seed: row.value for row in rows if (row.arm, row.quantity, row.item) == wanted}


def _rise(rows: Sequence[Row], quantity: str, first: int, last: int) -> ConfidenceInterval:
    lead = paired_lead(_at(rows, NO_DECAY, quantity, last), _at(rows, NO_DECAY, quantity, first))
    assert lead is not None
    return lead


def draw(rows: Sequence[Row]) -> Chart:
    """Loss and loss at a temperature against the epoch, for each arm."""
    found = []
    for arm in ARMS:
        for quantity, name in (("loss", arm), ("tempered", f"{arm}, at a fitted temperature")):
            for epoch in _epochs(rows):
                if values := [*_at(rows, arm, quantity, epoch).values()]:
                    mean, spread = mean_and_spread(values)
                    found.append({"arm": name, "epoch": epoch, "loss": mean, "spread": spread})
    x, y = Axis("epoch", "Epochs", log=True), Axis("loss", "Validation loss, nats", log=True)
    return charts.errors(found, x, y, "spread", "arm", more=[Axis("spread", "standard deviation")])


STUDY = Study(
    name="overconfidence",
    question="Why does the loss on unseen images rise while accuracy rises, as a sparse network evolves for long?",
    claim="networks go on learning, and only get too sure: at a fitted temperature the loss does not rise",
    dataset="mnist",
    tasks=tasks,
    measure=measure,
    judge=judge,
    draw=draw,
    seen="Loss on unseen images, as it is and at a fitted temperature",
    reading=SPREAD,
)
