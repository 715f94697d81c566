"""The example in the README runs as written and prints what it says."""

import re
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def test_the_example_prints_what_it_says(capsys):
    code, *_ = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    promised = re.findall(r"^print\(.*?\)  # (.*)$", code, re.MULTILINE)
    assert len(promised) == 3
    exec(compile(code, "README.md", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    for line, comment in zip(printed, promised, strict=True):
        assert comment.startswith(line)


def test_the_commands_exist():
    makefile = (README.parent / "Makefile").read_text()
    for command in re.findall(r"^make ([\w-]+)", README.read_text(), re.MULTILINE):
        assert f"\n{command}:" in makefile
