"""The README: tables as the catalogue and the results have them, code that runs."""

import re

import pytest

from tests import readme

TEXT = readme.README.read_text() if readme.README.exists() else ""


def test_tables_are_up_to_date():
    assert readme.generated(TEXT) == TEXT, "run `make readme`"


def test_the_two_commands_come_first():
    code = re.search(r"```\w*\n(.*?)```", TEXT, flags=re.S)[1]
    assert [line.split("#")[0].strip() for line in code.splitlines()] == ["make demo", "make test"]


@pytest.mark.slow
@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", TEXT, flags=re.S))
def test_code_runs(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})


def test_no_host_of_a_registry_and_no_path_of_a_machine():
    assert not re.search(r"pypi\.|/root/|/work/|/tmp/", TEXT)
