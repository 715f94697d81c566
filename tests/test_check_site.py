"""What make docs-check says of a site."""

import importlib.util
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).parents[1] / "docs" / "check_site.py"


@pytest.mark.parametrize(
    ("arguments", "seen", "fails", "said"),
    [
        ([], None, True, "no browser, so the pages were not shown: install playwright"),
        (["--no-browser"], None, False, "pages were not shown\nnothing is wrong"),
        ([], [], False, "nothing is wrong"),
        ([], ["index.html: an error"], True, "index.html: an error"),
    ],
)
def test_a_site_that_nobody_saw_is_not_right(
    arguments, seen, fails, said, tmp_path, monkeypatch, capsys
):
    spec = importlib.util.spec_from_file_location("check_site", FILE)
    check_site = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(check_site)
    (tmp_path / "index.html").write_text("<html></html>")
    monkeypatch.setattr(check_site, "visit", lambda site, out: seen)
    monkeypatch.setattr(sys, "argv", ["check_site.py", str(tmp_path), *arguments])
    with pytest.raises(SystemExit) as exit_:
        check_site.main()
    assert exit_.value.code == fails
    assert said in capsys.readouterr().out
