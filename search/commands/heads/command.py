"""The options of `heads`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from search.options import GRID, TRAINING, CommonOptions, keep_tune, option, rng_seeds
from structnet.data.datasets import defaults_of

MODEL = "Model"


class HeadsOptions(CommonOptions):
    """The options of `heads`."""

    strategies: str = option(
        "none,one_shot:gradient,one_shot:entropy,one_shot:combined,one_shot:saliency,one_shot:random,"
        "gradual:saliency,tournament",
        "Some of none, the control; one_shot or gradual with a score, such as one_shot:gradient; tournament.",
        GRID,
        shown="none, one_shot with every score, gradual:saliency, tournament",
    )
    levels: str = option("0.25,0.5", "Shares of the heads to remove.", GRID)
    rng_seeds: int = rng_seeds(3, ge=1)
    floor: int = option(1, "Heads that every layer keeps.", GRID, ge=1)
    stages: int = option(2, "Times at which gradual and tournament remove heads.", GRID, ge=1)
    heat_steps: int | None = option(
        None, "Steps of a fork in a heat of the tournament.", GRID, shown="a 150th of --steps", ge=1
    )
    workers_each: int = option(
        0, "Workers for the forks of each tournament.", GRID, shown="0: they run in its trial", ge=0
    )
    limit: int = option(1000, "Refuse more networks.", GRID, changes_result=False, ge=1)
    text: str | None = option(None, "A text file, whose characters the model learns.", MODEL)
    length: int = option(64, "Characters of a window of the text.", MODEL)
    model: str = option(
        "",
        "A language model of Hugging Face, a name or a folder, with --text.",
        MODEL,
        shown="one of our own",
    )
    layers: int = option(4, "Of the model of our own.", MODEL)
    heads: int = option(4, "Of each layer.", MODEL)
    token_width: int = option(32, "Of a token; heads share it.", MODEL)
    patch_size: int | None = option(
        None, "Side of a patch of an image.", MODEL, shown="a quarter of the image's"
    )
    images: int | None = option(None, "The first so many training images.", TRAINING, shown="all")
    batch_size: int = option(
        32, "Images or windows per step.", TRAINING, ge=1, shown="32; 64 of many images, 4 with --model"
    )
    learning_rate: float = option(
        2e-3, "After the warm-up annealed to a tenth.", TRAINING, gt=0, shown="2e-3; 1.5e-4 with --model"
    )
    warm_up_steps: int = option(
        600,
        "At most, until the loss has stabilised.",
        TRAINING,
        ge=30,
        shown="600; 2000 of many images, 300 with --model",
    )
    steps: int = option(
        300,
        "After the warm-up, with all that a strategy tries out.",
        TRAINING,
        ge=1,
        shown="300; 1500 of many images, 200 with --model",
    )
    evaluation_steps: int = option(
        50,
        "Between two looks at validation data.",
        TRAINING,
        ge=10,
        shown="50; 250 of many images, 20 with --model",
    )
    touched_rate: float = option(
        1.0,
        "Times the learning rate, of attention that lost heads.",
        TRAINING,
        gt=0,
        shown="1; 3 with --model",
    )
    ramp: int = option(20, "Steps in which a head that comes back reaches its full effect.", TRAINING, ge=1)
    keep_tune: bool = keep_tune()


# A model that learned before moves slowly; on thousands of images there is more to learn than on digits.
OF_HUGGING_FACE: dict[str, Any] = {
    "learning_rate": 1.5e-4,
    "touched_rate": 3.0,
    "batch_size": 4,
    "length": 128,
    "warm_up_steps": 300,
    "steps": 200,
    "evaluation_steps": 20,
    "ramp": 100,
}
OF_MANY_IMAGES: dict[str, Any] = {
    "batch_size": 64,
    "warm_up_steps": 2000,
    "steps": 1500,
    "evaluation_steps": 250,
}


def defaults(told: Mapping[str, Any]) -> Mapping[str, Any]:
    """Those that go with what the model is and what it learns from."""
    dataset = str(told.get("dataset", CommonOptions.model_fields["dataset"].default))
    if told.get("model"):
        return OF_HUGGING_FACE
    if told.get("text") or dataset == "digits":
        return defaults_of(dataset, "heads")
    return OF_MANY_IMAGES
