"""The example in the README runs as written and prints what it says."""

import re
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def first_example():
    """The first example in the README."""
    code, *_ = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    return code


def assert_promised(printed):
    """Compare what the first example printed with its comments."""
    promised = re.findall(r"^print\(.*?\)  # (.*)$", first_example(), re.MULTILINE)
    assert len(promised) == 3
    for line, comment in zip(printed.splitlines(), promised, strict=True):
        assert comment.startswith(line)


def test_the_example_prints_what_it_says(capsys):
    exec(compile(first_example(), "README.md", "exec"), {})
    assert_promised(capsys.readouterr().out)


def test_the_commands_exist():
    makefile = (README.parent / "Makefile").read_text()
    for command in re.findall(r"^make ([\w-]+)", README.read_text(), re.MULTILINE):
        assert f"\n{command}:" in makefile


def test_links_name_the_file_that_they_lead_to():
    # A package index shows the README without the files beside it, so that these links are dead.
    links = re.findall(r"\[([^]]+)\]\(([^)]+)\)", README.read_text())
    files = [(text, target) for text, target in links if "://" not in target]
    assert files
    assert [target for text, target in files if text != target] == []
    assert [target for _, target in files if not (README.parent / target).is_file()] == []
