"""What the page on evidence shows, one command after the other; with_avalanche is run by itself.

    python -m benchmarks.suite --data-dir DIR [--jobs 2] [--only compare orders]
    python -m benchmarks.suite --quick

The commands are those that the files in benchmarks/results name. Results go there, and what is
there already is not run again, so it can be stopped and started at will. The quick form takes
minutes, needs no files, and shows only that everything runs: it learns two tasks of scikit-learn's
digits for one epoch.
"""

import shlex
from pathlib import Path

from benchmarks.command import Parser, opened
from benchmarks.page import RESULTS, SECTIONS, stored

COMMANDS = {name: command for name, (command, _) in SECTIONS.items()}
SHORT = "digits --tasks 2 --epochs 1"
FEW = "--methods 'HALRP, defaults' 'separate networks'"
VARIANTS = "'budget 0.01' 'r and s held at 1' 'base: a tenth of the first task' 'separate networks'"
KINDS = "'joint training' fine-tuning EWC LwF PackNet BatchEnsemble"
MORE = "'HALRP, published' 'replay, 50 rows' 'LoRA, rank 4'"
QUICK = [  # tests learn with the other methods and settings, one by one
    ("compare", f"{SHORT} --seeds 1 {FEW} {KINDS} {MORE}"),
    ("orders", f"{SHORT} --orders 2 {FEW}"),
    ("little_data", f"{SHORT} --seeds 1 {FEW}"),
    ("ablations", f"{SHORT} --seeds 1 --methods defaults {VARIANTS}"),
    ("theorem", f"{SHORT} --seeds 1"),
    ("cost", f"{SHORT} --rounds 1 --methods fine-tuning"),
    ("many_tasks", "--tasks 2 --base-rows 400 --epochs 2"),
]


def shown(results=RESULTS):
    """Return the commands that the files name, without what says where, and how many at once."""
    commands = []
    for command in COMMANDS:
        for content in stored(command, results).values():
            words = iter(shlex.split(content["command"])[3:])
            places = ("--data-dir", "--json", "--jobs")
            kept = [word for word in words if word not in places or not next(words)]
            commands.append((command, shlex.join(kept)))
    return commands


def main(arguments=None):
    parser = Parser("suite", __doc__, jobs=1).data()
    parser.add_argument(
        "--only", nargs="+", choices=COMMANDS, default=list(COMMANDS), help="only these questions"
    )
    parser.add_argument("--quick", action="store_true", help="minutes, no files needed")
    parser.add_argument("--results", type=Path, help="another folder; --quick writes none without")
    options = parser.parse_args(arguments)
    commands = QUICK if options.quick else shown()
    chosen = [(name, shlex.split(words)) for name, words in commands if name in options.only]
    streams = {words[0] for name, words in chosen if name != "many_tasks"}
    for stream in sorted(streams):  # what is missing is missed at once
        opened(stream, options.data_dir, 0)
    folder = options.results or (None if options.quick else RESULTS)
    for name, words in chosen:
        stream = "digits" if name == "many_tasks" else words[0]
        print(f"\n{name}: {stream}", flush=True)
        given = [*words, *(["--json", str(folder / f"{name}-{stream}.json")] if folder else [])]
        if name not in ("cost", "many_tasks"):  # where methods take turns
            given += ["--jobs", str(options.jobs)]
        if name != "many_tasks":
            given += ["--data-dir", options.data_dir] if options.data_dir else []
        COMMANDS[name].main(given)


if __name__ == "__main__":
    main()
