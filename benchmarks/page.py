"""The page of the documentation that shows the results: docs/evidence.md and its pictures.

    python -m benchmarks.page

Everything on the page comes from the files in benchmarks/results. What is said about them is in
benchmarks/findings.md.
"""

import json
import re
from collections import Counter
from pathlib import Path

import matplotlib.pyplot as plt

from benchmarks import (
    ablations,
    compare,
    cost,
    goals,
    little_data,
    many_tasks,
    orders,
    pictures,
    store,
    tables,
)
from benchmarks.command import Parser
from benchmarks.goals import RESULTS
from benchmarks.tables import spread

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"


def stored(kind, results=RESULTS):
    """Return stream -> file content of all results of a kind."""
    files = sorted(results.glob(f"{kind}-*.json"))
    return {path.stem.removeprefix(f"{kind}-"): json.loads(path.read_text()) for path in files}


def about(content):
    """Return what was run."""
    said = content["about"]
    machines = Counter(run["on"] for run in content["runs"] if "on" in run)
    every = len(content["runs"])
    on = "".join(f" {n} of {every} runs on {one}." for one, n in machines.items())
    commits = Counter(run.get("code") or "an unknown commit" for run in content["runs"])
    on += " Runs of " + ", ".join(f"{one} ({n})" for one, n in commits.items()) + "."
    if "epochs" in said and not said.get("averaged"):
        on += " No method averages weights or takes statistics anew."
    if said.get("score") == "AUC":
        on += " Scores are AUC, not accuracies."
    rows = f", with the {said['predicted']} predicted" if "predicted" in said else ""
    versions = ", ".join(f"{name} {value}" for name, value in content["versions"].items())
    return (
        f"`{content['command']}`: {said['tasks']} tasks, {said['epochs']} epochs, batches of "
        f"{said['batch_size']}, Adam {said['lr']:g}{rows}. {versions}.{on}"
    )


SECTIONS = {
    "compare": (compare, pictures.comparison),
    "orders": (orders, pictures.robustness),
    "little_data": (little_data, pictures.shares),
    "ablations": (ablations, pictures.changes),
    "cost": (cost, pictures.costs),
    "many_tasks": (many_tasks, pictures.scale),
}


def section(kind, results, folder):
    """Return the tables of a kind of results, one for each stream, and draw their pictures."""
    command, draw = SECTIONS[kind]
    parts = []
    for stream, content in stored(kind, results).items():
        found = command.found(content["runs"])
        name = f"{kind}-{stream}.svg"
        if folder:
            figure = draw(found, stream)
            figure.savefig(folder / name, metadata={"Date": None})
            plt.close(figure)
        parts.append(
            f"### {stream}\n\n{command.table(found)}\n\n"
            f"![{kind.replace('_', ' ')}: {stream}](_static/evidence/{name})\n\n"
            f"{about(content)}\n"
        )
    return "\n".join(parts)


def overview(results=RESULTS):
    """Return the accuracy of all methods on all streams that they learned, in per cent."""
    found = {
        stream: compare.found(content["runs"])
        for stream, content in stored("compare", results).items()
    }
    methods = dict.fromkeys(name for one in found.values() for name in one)
    rows = [
        [name, *(spread(one[name]["ACC"], 1) if name in one else "" for one in found.values())]
        for name in methods
    ]
    return tables.table(["", *found], rows)


def on_disk(results=RESULTS):
    """Return the table of stores on disk, and what was run."""
    path = results / "store.json"
    if not path.exists():
        return ""
    content = json.loads(path.read_text())
    versions = ", ".join(f"{name} {value}" for name, value in content["versions"].items())
    machine = content["runs"][0].get("on")
    return f"{store.table(content['runs'])}\n\n`{content['command']}`. {versions}. On {machine}."


def build(results=RESULTS, folder=None):
    """Return the text of the page; draw its pictures if a folder for them is given."""
    if folder:
        plt.switch_backend("agg")
        plt.rcParams.update({"svg.hashsalt": "evidence", "svg.fonttype": "path"})
        folder.mkdir(parents=True, exist_ok=True)
    text = (HERE / "findings.md").read_text()
    for kind in SECTIONS:
        text = text.replace(f"<!-- {kind} -->", section(kind, results, folder))
    text = text.replace("<!-- overview -->", overview(results))
    text = text.replace("<!-- goals -->", goals.table(results))
    text = text.replace("<!-- store -->", on_disk(results))
    text = re.sub(r"## [^\n]+\n+(?=## )", "", text)  # what has neither words nor results
    return text


def main(arguments=None):
    Parser("page", __doc__).parse_args(arguments)
    (DOCS / "evidence.md").write_text(build(folder=DOCS / "_static" / "evidence"))


if __name__ == "__main__":
    main()
