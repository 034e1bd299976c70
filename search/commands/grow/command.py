"""The options of `grow`."""

from __future__ import annotations

from search.options import EXPERIMENT, GROWTH, JOB, TRAINING, allocation, option
from search.training_options import BatchOptions
from structnet.actions import ACTIONS, offered

LATER = "".join(
    f"; from --heat-steps {action.least_steps} on {action.name}"
    for action in ACTIONS.values()
    if action.least_steps
)


class GrowOptions(BatchOptions):
    """The options of `grow`; lengths that are None are fitted to the data (grow.run.fitted_to)."""

    architecture: str | None = option(
        None,
        "The seed's groups, such as 784,100,10, or maps@side as in 1@28,8@14,16@7,10.",
        GROWTH,
        shown="five groups of maps for pictures of 16 pixels and more, else input,100,classes",
    )
    density: float | None = option(
        None, "Share of connections that exist in the seed.", GROWTH, shown="0.01, of maps 0.05"
    )
    allocation: str = allocation(GROWTH)
    epochs: int | None = option(
        None,
        "Length of the winning line.",
        TRAINING,
        shown="20, or as many as make 5,000 steps; by --budget what that pays for",
    )
    target_accuracy: float | None = option(
        None, "The smallest network that holds this on validation, such as 0.97.", JOB
    )
    target_loss: float | None = option(None, "The same for a cross-entropy in nats.", JOB)
    target_balanced_accuracy: float | None = option(
        None, "The same for the accuracy averaged over classes, where some are rare.", JOB
    )
    confident: bool = option(False, "It holds where its one-sided 95 % bound does.", JOB)
    max_parameters: int | None = option(None, "Bound on the network, not on the path.", JOB)
    max_bytes: int | None = option(
        None, "Bound on the bytes of the network, in float32 with its indices.", JOB, ge=1
    )
    max_macs: int | None = option(
        None, "Bound on the multiply-adds of an image through the network.", JOB, ge=1
    )
    front: str | None = option(None, "Sizes to pass on the way, such as 500,1000,2000.", JOB)
    knee: float | None = option(
        None,
        "Without any of these: the size from which on a doubling gains less than this share of the label's entropy.",
        JOB,
        shown="0.01",
    )
    rounds: int | None = option(
        None,
        "At most so many rounds.",
        GROWTH,
        shown="3; by a policy other than shape 12, with a job 1; 0 in a pyramid of maps",
    )
    round_steps: int | None = option(
        None, "Steps between two rounds.", GROWTH, shown="a 40th of the winning line, at most 100"
    )
    heat_steps: int | None = option(
        None, "Steps of a fork over all heats.", GROWTH, shown="those of two rounds"
    )
    candidates: int = option(16, "Forks in the first heat.", GROWTH)
    actions: str | None = option(
        None, "Growth actions offered, with commas.", GROWTH, shown=",".join(offered()) + LATER
    )
    trigger: str = option(
        "interval", "When to grow: interval, plateau, patience or gradient_variance.", GROWTH
    )
    policy: str | None = option(
        None,
        "shape, score, surplus, gain, random or control.",
        GROWTH,
        shown="shape; with --scales, --indefinite or --trigger score",
    )
    overshoot: int | None = option(
        None,
        "Most parameters on the way there.",
        GROWTH,
        shown="eight times the size, with a job three times; by other policies what the credits buy",
    )
    income: float = option(0.05, "Credits per 1,000 steps and dense parameter.", GROWTH)
    opening_credits: float | None = option(
        None,
        "Balance at the start.",
        GROWTH,
        shown="the seed's parameters, with a job those of the dense network",
    )
    refund: float = option(0.5, "Credits for a freed parameter.", GROWTH)
    fork_price: float | None = option(
        None,
        "Credits per 1,000 parameter-steps that forks train.",
        GROWTH,
        shown="so that deciding takes at most a fifth of the run",
    )
    price: float = option(0.005, "Bits per thousand parameters.", GROWTH)
    score_floor: int = option(32, "Parameters a score divides by at least.", GROWTH)
    information: str = option("decoder", "Estimator that decides: decoder or probe.", GROWTH)
    screening: str = option(
        "promise",
        "Who enters a round, by predicted gain or by what came of its kind: promise or thompson.",
        GROWTH,
    )
    scales: str | None = option(
        None,
        "Sides of the images in turn, such as 7,14,28: coarse ones first.",
        GROWTH,
        shown="full size only",
    )
    indefinite: bool = option(
        False,
        "Grow until --target-accuracy or --max-parameters, whatever --rounds says; then --epochs.",
        GROWTH,
    )
    audits: int = option(0, "Losers of a round left running, to learn what heats undervalue.", GROWTH)
    audit_factor: float = option(4.0, "For so many times the steps of the heats.", GROWTH)
    learning_rate: float | None = option(
        None,
        "Constant while growing, then annealed.",
        TRAINING,
        shown="0.11 by the mean norm of an image, at most 0.02",
    )
    weight_decay: float = option(0.0, "Share of a connection lost per step and unit of rate.", TRAINING)
    rates: str = option(
        "none",
        "While growing: none, age (what is established at a fifth) or freeze (then not at all).",
        TRAINING,
    )
    matures_after: int | None = option(
        None, "Steps until a parameter is established.", TRAINING, shown="three rounds with heats"
    )
    freezes_after: int | None = option(
        None, "Steps until a parameter is frozen.", TRAINING, shown="30 % of the winning line"
    )
    budget: str | None = option(
        None,
        "What the whole run may cost, and epochs follow from: parameter-steps such as 40M, or minutes such as 5min.",
        TRAINING,
        shown="what --epochs come to",
    )
    minutes: float | None = option(None, "Wall time at most.", TRAINING, changes_result=False, gt=0)
    opponents: bool = option(
        True,
        "RigL and a dense network train at the end, to compare with; with maps that takes twice as long again.",
        EXPERIMENT,
        changes_result=False,
    )
    repeats: int = option(1, "So many rng_seeds, with mean and spread.", EXPERIMENT, ge=1)
