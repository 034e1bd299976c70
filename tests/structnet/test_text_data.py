"""A text file as windows of characters: splits, numbers, and files that are no text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.head_cases import TEXT

from structnet.data.dataset import Dataset
from structnet.data.packing import description, pack, unpack
from structnet.data.text import UNKNOWN, load_text, load_tokens
from structnet.errors import UserError
from structnet.heads.building import decoder_of
from structnet.heads.sampling import continued, samples_of
from structnet.heads.training import judge
from structnet.heads.transformer import Form, Transformer

WORDS = "abcd efgh " * 100


def written(folder: Path, content: str | bytes) -> str:
    path = folder / "text.txt"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def said(numbers: Sequence[int], data: Dataset) -> str:
    return decoder_of({"model": ""}, data)(numbers)


def test_labels_are_the_characters_behind(tmp_path: Path) -> None:
    data = load_text(written(tmp_path, WORDS), 4)
    assert data.class_names == (UNKNOWN, " ", *"abcdefgh") and data.classes == 10
    assert [len(split) for split in (data.train, data.validation, data.test)] == [199, 24, 24]
    first, then = data.train.stored[0].tolist(), data.train.labels[0].tolist()
    assert (said(first, data), said(then, data)) == ("abcd", "bcd ")
    assert said(data.train.stored[1].tolist(), data) == " efg"
    assert said(data.test.stored[0].tolist(), data) == "abcd"


def test_what_training_does_not_have_is_unknown(tmp_path: Path) -> None:
    data = load_text(written(tmp_path, WORDS[:950] + "Z" + WORDS[951:]), 4)
    assert "Z" not in data.class_names
    assert 0 in data.test.labels and 0 not in data.train.stored


def test_it_goes_to_workers_as_images_do(tmp_path: Path) -> None:
    data = load_text(written(tmp_path, WORDS), 4)
    other = Dataset(**description(data), **unpack(pack(data)))
    assert torch.equal(other.test.labels, data.test.labels) and other.fingerprint == data.fingerprint


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (bytes([0xFF, 0xFE, 0x41]) * 400, "byte 0 is no UTF-8"),
        ("abc\0" * 400, "character 3 is a zero byte"),
        ("short", "has 5 characters or tokens, but windows of 4 need at least 810"),
    ],
)
def test_what_is_no_text_is_one_line(content: str | bytes, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said) as refused:
        load_text(written(tmp_path, content), 4)
    assert "\n" not in str(refused.value)


def test_windows_of_one_character_have_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="length is 1, but must be at least 2"):
        load_text(written(tmp_path, WORDS), 1)


def test_tokens_are_numbers_of_the_model(tmp_path: Path) -> None:
    data = load_tokens(written(tmp_path, WORDS * 6), 5, lambda text: [len(word) for word in text.split()], 11)
    assert data.classes == 11 and data.class_names == () and set(data.train.stored.unique().tolist()) == {4}


def test_a_model_of_texts_is_judged_by_character(tmp_path: Path) -> None:
    data = load_text(written(tmp_path, WORDS), 4)
    model = Transformer(Form((4,), data.classes, layers=1, heads=2, width=8))
    found = judge(model, data.test, block=7)
    with torch.no_grad():
        logits = model.logits(data.test.stored.long())
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), data.test.labels.long().flatten())
    assert found.loss == pytest.approx(float(expected), rel=1e-5)
    assert found.accuracy == pytest.approx(float((logits.argmax(-1) == data.test.labels).float().mean()))
    assert len(found.log2_likelihood) == len(data.test)


def test_a_character_does_not_see_those_behind_it() -> None:
    model = Transformer(TEXT).eval()
    texts = torch.randint(0, 7, (3, 10))
    changed = texts.clone()
    changed[:, 6] = (changed[:, 6] + 1) % 7
    one, other = model.logits(texts), model.logits(changed)
    assert torch.equal(one[:, :6], other[:, :6]) and not torch.equal(one[:, 6:], other[:, 6:])


def test_samples_are_drawn_from_the_likeliest(tmp_path: Path) -> None:
    """Of a model that always says the same three, with shares 0.9, 0.09 and 0.01, the third never comes."""

    class Always:
        module = torch.nn.Identity()

        def logits(self, inputs: torch.Tensor) -> torch.Tensor:
            # The temperature sharpens what is given here back to these shares.
            shares = torch.tensor([0.9, 0.09, 0.01]).log() * 0.8
            return shares.expand(1, inputs.shape[1], 3)

    drawn = continued(Always(), torch.tensor([0]), 400, np.random.default_rng(0))  # type: ignore[arg-type]
    counts = torch.bincount(drawn, minlength=3)
    assert counts[2] == 0 and 15 < counts[1] < 60
    data = load_text(written(tmp_path, WORDS * 2), 8)
    model = Transformer(Form((8,), data.classes, layers=1, heads=2, width=8))
    one, again = (samples_of(model, data, 0, decoder_of({"model": ""}, data)) for _ in range(2))
    assert one == again and "…" in one
