"""What the page on evidence shows, one command after the other.

    python -m benchmarks.suite --data-dir DIR [--jobs 2] [--only compare orders]
    python -m benchmarks.suite --quick

Results go to benchmarks/results, and what is there already is not run again, so it can be stopped
and started at will. The quick form takes minutes, needs no files, and shows only that everything
runs: it learns two tasks of scikit-learn's digits for one epoch.
"""

import shlex
from pathlib import Path

from benchmarks.command import Parser, opened
from benchmarks.contestants import joint_is_known
from benchmarks.page import RESULTS, SECTIONS

COMMANDS = {name: command for name, (command, _) in SECTIONS.items()}
JOINT = "'HALRP, joint base'" if joint_is_known() else ""  # of a later version
IMAGES = f"--methods 'HALRP, defaults' 'HALRP, budget 0.02' {JOINT} 'separate networks' "
IMAGES += "'copies of the first' PackNet 'LoRA, rank 4'"
ORDERS = f"--methods 'HALRP, defaults' {JOINT} 'separate networks' PackNet 'LoRA, rank 4'"
PARTS = "--methods defaults 'factor_lr_scale 1' 'no averaging' 'full precision' 'four bits' "
PARTS += "'warm-up 1' 'alpha 0.99' 'fixed rank 2' 'fixed rank 8' 'budget 0.02' 'budget 0.05' "
PARTS += "'no pruning' 'importance: plain singular values' 'r and s held at 1'"
PLAN = [  # the kind of results, and the rest of the command
    ("compare", "letters --seeds 5"),
    ("compare", "tabular --seeds 5"),
    ("compare", "flights --tasks 7 --seeds 5"),
    ("compare", "exercises --seeds 5"),
    ("compare", "sentiment --seeds 5"),
    ("compare", f"five-datasets --seeds 5 {IMAGES}"),
    ("compare", f"permuted-mnist --tasks 5 --seeds 5 {IMAGES}"),
    ("compare", f"split-cifar10-16 --seeds 5 {IMAGES}"),
    ("compare", f"omniglot-rotation --tasks 10 --seeds 2 {IMAGES}"),
    ("compare", f"permuted-mnist-wsn-small --epochs 5 --batch-size 10 --seeds 2 {ORDERS}"),
    ("orders", f"letters --orders 13 {ORDERS}"),
    ("little_data", "letters --rows 10 20 40 100 400 --first 6 --seeds 5"),
    ("little_data", "flights --rows 60 200 600 --first 4 --seeds 5"),
    ("little_data", "exercises --rows 14 35 70 --first 5 --seeds 5"),
    ("little_data", "sentiment --rows 10 20 40 100 400 --first 2 --seeds 3"),
    ("ablations", f"letters --seeds 2 {PARTS}"),
    ("cost", "letters --rounds 3"),
    ("many_tasks", "--tasks 1000"),
]
SHORT = "digits --tasks 2 --epochs 1"
FEW = "--methods 'HALRP, defaults' 'separate networks'"
VARIANTS = "'budget 0.01' 'r and s held at 1' 'base: a tenth of the first task' 'separate networks'"
KINDS = "'joint training' fine-tuning LwF PackNet BatchEnsemble"
MORE = "'HALRP, published' 'replay, 50 rows' 'LoRA, rank 4'"
QUICK = [  # tests learn with the other methods and settings, one by one
    ("compare", f"{SHORT} --seeds 1 {FEW} {KINDS} {MORE}"),
    ("orders", f"{SHORT} --orders 2 {FEW}"),
    ("little_data", f"{SHORT} --seeds 1 --rows 30 60 {FEW}"),
    ("ablations", f"{SHORT} --seeds 1 --methods defaults {VARIANTS}"),
    ("cost", f"{SHORT} --rounds 1 --methods fine-tuning"),
    ("many_tasks", "--tasks 2 --base-rows 400 --epochs 2"),
]


def stream_of(name, words):
    """Return what the file of results of a command is called after."""
    return "digits" if name == "many_tasks" else words[0]


def main(arguments=None):
    parser = Parser("suite", __doc__, jobs=1).data()
    parser.add_argument(
        "--only", nargs="+", choices=COMMANDS, default=list(COMMANDS), help="only these questions"
    )
    parser.add_argument("--quick", action="store_true", help="minutes, no files needed")
    parser.add_argument("--results", type=Path, help="another folder; --quick writes none without")
    options = parser.parse_args(arguments)
    commands = QUICK if options.quick else PLAN
    chosen = [(name, shlex.split(words)) for name, words in commands if name in options.only]
    streams = {words[0] for name, words in chosen if name != "many_tasks"}
    for stream in sorted(streams):  # what is missing is missed at once
        opened(stream, options.data_dir, 0)
    folder = options.results or (None if options.quick else RESULTS)
    for name, words in chosen:
        stream = stream_of(name, words)
        print(f"\n{name}: {stream}", flush=True)
        given = [*words, *(["--json", str(folder / f"{name}-{stream}.json")] if folder else [])]
        if name not in ("cost", "many_tasks"):  # where methods take turns
            given += ["--jobs", str(options.jobs)]
        if name != "many_tasks":
            given += ["--data-dir", options.data_dir] if options.data_dir else []
        COMMANDS[name].main(given)


if __name__ == "__main__":
    main()
