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


def test_every_link_works_on_a_package_index():
    # It shows the README without the files beside it, so these go by their names.
    links = re.findall(r"\[[^]]+\]\(([^)]+)\)", README.read_text())
    assert links
    assert [target for target in links if not target.startswith("https://")] == []


def test_files_that_are_named_are_there():
    named = re.findall(r"`((?:docs|benchmarks)/[\w/-]+\.\w+|[A-Z]+(?:\.md)?)`", README.read_text())
    assert len(named) > 10
    assert [name for name in named if not (README.parent / name).is_file()] == []
