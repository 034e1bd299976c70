"""Every structnet command of the README and of docs/ runs as it stands, on data of the same kind and for less long.

But for the pages that are followed to the letter elsewhere.

DATA holds images of MNIST's size in MNIST's files, and colour images in the layout of CIFAR-10. What makes a command
shorter is put behind its own options, which stay as the page has them.
"""

from __future__ import annotations

import os
import runpy
import shutil
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import numpy as np
import pandas as pd
import pytest
from helpers.data_files import image_rows, png, write_all_splits
from helpers.documented_data import enlarged, write_mnist
from helpers.pages import FOLLOWED
from safetensors.torch import save_file
from sklearn.datasets import load_digits, load_iris
from test_docs_commands import COMMANDS
from typer.testing import CliRunner

from search.cli import app

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_session")]

ONE = ["--workers", "1"]
DIGITS_OF_MAPS = ["--architecture", "1@8,3x3,3@8,4@4,10", "--density", "0.5", "--max-parameters", "150", *ONE]
LONGER = ["--epochs", "60", "--front", "4000,8000", "--shift", "1", *ONE]
BLOCK = ["--rng-seeds", "1", "--epochs", "1", *ONE]
SHORTER = {
    "grow": ["--epochs", "1", "--rounds", "1", "--candidates", "2", "--repeats", "1", *ONE],
    "train": ["--epochs", "1", *ONE],
    "validate": ["--epochs", "2", *ONE],
    "hunt": ["--architectures", "input-classes input-8-classes", "--densities", "0.1,0.2", *BLOCK],
    "ladder": ["--densities", "0.5,0.4,0.3,0.2", *BLOCK],
    "rescue": ["--rng-seeds", "2", "--epochs", "1", *ONE],
    "bootstrap": ["--rng-seeds", "2", "--epochs", "1", "--larger-epochs", "1", "--scale-epochs", "1", *ONE],
    "evolve": BLOCK,
    "topology": ["--weight-decays", "0", *BLOCK],
    "paths": ["--images", "300", "--width", "0.03", *BLOCK],
    "heads": ["--rng-seeds", "1", "--levels", "0.5", "--warm-up-steps", "30", "--steps", "20", *ONE],
    "study": ["--quick", *ONE],
    "bench links": ["--repeats", "1"],
    "bench tournament": ["--case", "overhead", *ONE],
    "bench hunt": ["--case", "cohort", "--repeats", "1"],
    "bench control": ["--quick"],
    "bench taps": ["--repeats", "1"],
}
# Texts that stand for something, tell where commands are found, or name an option or a command alone.
NO_COMMANDS = [["query"], ["evolve"], ["study", "NAME"], ["import", "--max-parameters", "4000"]]
NEEDS_A_CLUSTER = {"--address"}  # tests/test_cluster_head.py
# A network that the pages import.
NETS = """
from torch import nn

def small():
    return nn.Sequential(nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 10))
"""


def commands() -> Iterator[list[str]]:
    """Each command once, as the first page that has it does."""
    seen = []
    for page, words in COMMANDS:
        given = [word for word in words if word != "…"]
        if page in FOLLOWED or given[0].startswith("-"):
            continue
        if given not in seen and given not in NO_COMMANDS and not NEEDS_A_CLUSTER & set(given):
            seen.append(given)
            yield given


ALL = list(commands())


def write_cifar10(folder: Path, images: np.ndarray, labels: np.ndarray) -> None:
    # Channels that are all alike would be read as grey.
    colour = np.pad(images, ((0, 0), (2, 2), (2, 2)))[..., None] // np.array([1, 2, 3], np.uint8)
    parts = {"train": slice(0, 800), "validation": slice(800, 1100), "test": slice(1100, 1300)}
    rows = {
        name: image_rows(list(colour[part]), labels[part].tolist(), "img") for name, part in parts.items()
    }
    folder.mkdir()
    write_all_splits(folder, rows)


def write_own_data(folder: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """Tables and folders of pictures, as DATA and MAPS name them."""
    flowers = load_iris(as_frame=True)
    flowers.data.assign(species=flowers.target).to_csv(folder / "rows.csv", index=False)
    columns = np.random.default_rng(0).lognormal(size=(600, 5))
    label = (columns[:, 0] > columns[:, 1]).astype(int)
    pd.DataFrame(columns).add_prefix("c").assign(label=label).to_csv(folder / "skewed.csv", index=False)
    for name in ("photos", "pictures"):
        for number, (image, digit) in enumerate(zip(images[:300], labels[:300])):
            path = folder / name / str(digit) / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(image))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, ray_session: None) -> Path:
    """A folder with data, and with results of an experiment NAME."""
    folder = tmp_path_factory.mktemp("documented")
    digits = load_digits()
    images = enlarged(digits.images)
    write_mnist(folder / "DATA", images, digits.target)
    write_cifar10(folder / "DATA" / "cifar10", images, digits.target)
    shutil.copytree(folder / "DATA" / "cifar10", folder / "images")
    write_own_data(folder, images, digits.target)
    pixels = ",".join(f"p{number}" for number in range(784))
    (folder / "book.txt").write_text("It was a quiet morning, and nothing was said. " * 400)
    (folder / "nets.py").write_text(NETS)
    nets = runpy.run_path(str(folder / "nets.py"))
    save_file(nets["small"]().state_dict(), folder / "small.safetensors")
    (folder / "new.csv").write_text(f"{pixels}\n{','.join('0' * 784)}\n")
    before = Path.cwd()
    os.chdir(folder)
    try:
        # Long enough for the targets that the pages ask of it.
        run(["grow", "--dataset", "mnist", "--data-dir", "DATA", "--name", "NAME", *LONGER])
        run(["grow", "--name", "digits", *DIGITS_OF_MAPS])
        snapshot = newest_snapshot(folder, "digits")
        run(["export", snapshot, "--to", "torch", "--output", ".", "--name", "digits"])
    finally:
        os.chdir(before)
    return folder


def run(words: list[str]) -> str:
    done = CliRunner().invoke(app, words, env={"COLUMNS": "200"})
    said = done.output + "".join(f"\n{done.exception!r}" if done.exception else "")
    assert done.exit_code == 0, f"{' '.join(words)}\n{said}"
    return done.output


def newest_snapshot(folder: Path, experiment: str) -> str:
    """Below the folder, without its ending."""
    found = sorted((folder / "results" / "snapshots" / experiment).glob("round-*.json"))[-1]
    return str(found.relative_to(folder).with_suffix(""))


def shortened(words: list[str], folder: Path) -> list[str]:
    """The command with names that exist, and what makes it shorter; of `queue add` the command that it adds."""
    snapshot = newest_snapshot(folder, "NAME")
    named = [
        str(folder / "results") if "s3://" in word else word.replace("round-0009", Path(snapshot).name)
        for word in words
    ]
    named = [{"SNAPSHOT": snapshot}.get(word, word) for word in named]
    if named[:2] == ["study", "tables"]:
        named = ["wine" if word == "NAME" else word for word in named]
    if "--name" in named:
        named[named.index("--name") + 1] = f"e{crc32(' '.join(words).encode())}"  # NAME is there already
    inner = named[named.index("--") + 1 :] if "--" in named else named
    extra = SHORTER.get(" ".join(inner[:2]), SHORTER.get(inner[0], []))
    return named + ([] if named[1:2] == ["list"] else extra)


def test_the_pages_name_what_is_run() -> None:
    assert len(ALL) > 40
    assert {words[0] for words in ALL} >= {
        *(name.split()[0] for name in SHORTER),
        "predict",
        "export",
        "queue",
        "status",
    }


@pytest.mark.parametrize("words", ALL, ids=lambda words: " ".join(words)[:70])
def test_a_documented_command_runs(words: list[str], place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    said = run(shortened(words, place))
    assert said.strip() or words[0] == "query"
