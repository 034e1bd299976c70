"""`structnet predict`: what it prints, and the file it writes."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from search.commands.predict.run import check_output, print_predictions, write_predictions
from structnet.errors import UserError

PLAIN = pa.table(
    {"row": [0, 1, 2], "prediction": ["cat", "dog", "cat"], "probability": [0.7310586, 0.88, 0.88]}
)


def test_the_first_rows_are_printed_and_the_accuracy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    labelled = PLAIN.append_column("label", [["cat"] * 3]).append_column("correct", [[True, False, True]])
    print_predictions(labelled, rows=2)
    shown = capsys.readouterr().out
    assert "0.731" in shown
    assert "and 1 more rows" in shown
    assert "accuracy 0.6667: 2 of 3 correct" in shown


def test_without_labels_there_is_no_accuracy(capsys: pytest.CaptureFixture) -> None:
    print_predictions(PLAIN)
    assert "accuracy" not in capsys.readouterr().out


def test_writing(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    output = str(tmp_path / "out.parquet")
    write_predictions(PLAIN, output)
    assert pyarrow.parquet.read_table(output).equals(PLAIN)
    assert f"wrote 3 predictions to {output}" in capsys.readouterr().out
    table = str(tmp_path / "out.csv")
    write_predictions(PLAIN, table)
    assert pyarrow.csv.read_csv(table).equals(PLAIN)
    with pytest.raises(UserError, match=r"must end in \.csv or \.parquet"):
        check_output(str(tmp_path / "out.txt"))
    with pytest.raises(UserError, match="cannot be written"):
        write_predictions(PLAIN, str(tmp_path / "missing" / "out.parquet"))
