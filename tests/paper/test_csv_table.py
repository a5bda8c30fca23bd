"""Tables with their comment: what is written is read, and each row by the number of its line."""

import pytest

from nanorepro.errors import ConfigError
from nanorepro.paper import csv_table, evidence, observed


def test_what_is_written_is_read_whatever_the_command_was():
    rows = [["pair", "a,b"], ["0", "0.5"], ["1", ""]]
    text = csv_table.as_text("python -m nanorepro.figure 4 --out 'two\nlines, \"and a'", rows)
    assert list(csv_table.read(text)) == [(k, row) for k, row in enumerate(rows, 2)]


def test_an_error_names_the_line_of_the_file(tmp_path):
    text = "# by hand\npair,pd\n# more\n0,0.5\nx,0.5\n"
    with pytest.raises(ConfigError, match="line 5"):
        observed.from_csv(text, "a.csv", [])
    path = tmp_path / "a.csv"
    for wrong in ("0,x\n", "0,0.5,1\n", "0\n"):
        path.write_text("# by hand\npair,pd\n0,0.5\n" + wrong)
        with pytest.raises(ConfigError, match="line 4"):
            evidence.rows(path)


def test_a_table_without_rows_is_read(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(csv_table.as_text("by hand", []))
    assert evidence.rows(path) == []
