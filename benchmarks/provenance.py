"""Where results come from: the command, the code, the libraries and the machine."""

import platform
import re
import subprocess
from pathlib import Path

import numpy as np
import sklearn
import skorch
import torch

import sklearn_halrp


def without_places(words):
    """Return the words of a command without the places of files on this machine.

    >>> without_places(["benchmarks.compare", "letters", "--data-dir", "/home/me/data"])
    ['benchmarks.compare', 'letters', '--data-dir', 'DIR']
    """
    places = {"--data-dir": lambda word: "DIR", "--results": lambda word: "DIR"}
    places["--json"] = lambda word: f"benchmarks/results/{Path(word).name}"
    before = [None, *words[:-1]]
    return [places.get(one, str)(word) for one, word in zip(before, words, strict=True)]


def revision():
    """Return the commit of this code, with a + if it was changed since; None outside of git."""
    here = Path(__file__).parent
    git = ["git", "-C", str(here.parent)]
    code = ["sklearn_halrp", "benchmarks", ":!benchmarks/results"]
    try:
        commit = subprocess.check_output([*git, "rev-parse", "--short=10", "HEAD"], text=True)
        changed = subprocess.check_output([*git, "status", "--porcelain", "--", *code])
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.strip() + ("+" if changed else "")


def processor():
    """Return what this machine computes with: its processor, and the instructions torch uses."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    known = dict(re.split(r"\s*:\s*", line, maxsplit=1) for line in lines if ":" in line)
    name = known.get("model name") or platform.processor() or platform.machine()
    family = ", ".join(known[key] for key in ("cpu family", "model") if key in known)
    return f"{name} ({family}), {torch.backends.cpu.get_cpu_capability()}"


def versions():
    """Return the versions of what computes."""
    modules = (torch, sklearn, skorch, np, sklearn_halrp)
    found = {module.__name__: module.__version__ for module in modules}
    return {"python": platform.python_version(), **found}
