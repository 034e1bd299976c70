"""Every column of every table is explained, and nothing else is."""

from __future__ import annotations

import re

import pytest

from structnet.storage.column_texts import COMMON, OWN
from structnet.storage.columns import TABLES, text_of
from structnet.storage.schemas import SCHEMAS

COLUMNS = [(table, column) for table, schema in SCHEMAS.items() for column in ["experiment", *schema.names]]
# What stands in a column, or is the name of an option.
VALUES = {"nothing_significant", "warm_up", "fine_tuning", "score_floor"}


def test_every_table_has_a_text_and_no_text_is_of_a_table_that_is_not_there() -> None:
    assert list(TABLES) == list(OWN) == list(SCHEMAS)


@pytest.mark.parametrize(("table", "column"), COLUMNS)
def test_every_column_has_a_text_of_plain_sentences(table: str, column: str) -> None:
    text = text_of(table, column)
    assert text == " ".join(text.split()) and text.endswith(".") and not set("`*<>") & set(text)
    # Another column that is named is one of this table.
    assert set(re.findall(r"\w+_\w+", text)) <= {*SCHEMAS[table].names, *VALUES}


def test_no_text_is_without_its_column() -> None:
    for table, texts in OWN.items():
        assert set(texts) <= set(SCHEMAS[table].names)
    assert set(COMMON) == {column for table, column in COLUMNS if column not in OWN[table]}


@pytest.mark.parametrize("column", ["epsilon", "trials"])
def test_what_is_no_column_has_no_text(column: str) -> None:
    with pytest.raises(KeyError, match=f"rounds has no column '{column}'"):
        text_of("rounds", column)
