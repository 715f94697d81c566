"""What pyproject.toml says of the package, and what is in the files that others install."""

import ast
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.metadata import Metadata
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import sklearn_halrp
from tests.test_readme import assert_promised, first_example

ROOT = Path(__file__).parent.parent
PACKAGE = Path(sklearn_halrp.__file__).parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT, GROUPS = PYPROJECT["project"], PYPROJECT["dependency-groups"]
EXTRAS = {"accelerate", "demo", "distributed", "export", "plot", "safe", "table", "text"}
NAME = "sklearn_halrp"


def named(requirements):
    """The packages that requirements name, but for this one and for groups that are included."""
    names = {canonicalize_name(Requirement(r).name) for r in requirements if isinstance(r, str)}
    return names - {"sklearn-halrp"}


def required():
    """The packages of all dependencies, extras and groups."""
    lists = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values(), *GROUPS.values()]
    return set().union(*map(named, lists))


def test_types_are_shipped():
    assert (PACKAGE / "py.typed").is_file()


def test_every_public_module_is_typed_in_full():
    mypy = PYPROJECT["tool"]["mypy"]
    assert mypy["disallow_untyped_defs"]
    assert mypy["files"] == [NAME]
    lax = [o["module"] for o in mypy["overrides"] if not o.get("disallow_untyped_defs", True)]
    assert lax == [f"{NAME}._phase"]


def test_extras_are_for_users_and_groups_for_developers():
    assert set(PROJECT["optional-dependencies"]) == EXTRAS
    assert set(GROUPS) == {"dev", "docs", "docs-check", "test"}
    asked = re.findall(r"--group ([\w-]+)", (ROOT / "Makefile").read_text())
    assert set(asked) <= set(GROUPS)


def test_every_requirement_is_pinned():
    pins = re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert required() - set(map(canonicalize_name, pins)) == set()


def test_what_is_imported_at_once_is_a_dependency():
    imported = set()
    for file in PACKAGE.glob("*.py"):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module.split(".")[0])
    distributions = packages_distributions()
    others = imported - sys.stdlib_module_names - {NAME}
    needed = {canonicalize_name(distributions[module][0]) for module in others}
    assert needed == named(PROJECT["dependencies"])


def run(*command, cwd):
    """What a command prints; it must succeed."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def tracked():
    """What git knows of the clone."""
    if not (ROOT / ".git").exists():
        pytest.skip("only a clone can tell which files there are")
    files = run("git", "ls-files", "-z", cwd=ROOT).split("\0")
    return {file for file in files if (ROOT / file).is_file()}


@pytest.fixture(scope="module")
def built(tracked, tmp_path_factory):
    """The source distribution, and the wheel that is built from it."""
    # In a copy: what earlier builds left in the clone would come along.
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("dist")
    for file in tracked:
        (copy / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, copy / file)
    run(sys.executable, "-m", "build", "--outdir", out, copy, cwd=out)
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return sdist, wheel


@pytest.mark.slow
def test_the_source_distribution_holds_what_a_clone_holds(built, tracked):
    with tarfile.open(built[0]) as archive:
        paths = [Path(member.name) for member in archive if member.isfile()]
    assert {path.parts[0] for path in paths} == {f"{NAME}-{sklearn_halrp.__version__}"}
    files = {path.relative_to(path.parts[0]).as_posix() for path in paths}
    written = {file for file in files if file.startswith(f"{NAME}.egg-info/")}
    assert files - written - {"PKG-INFO", "setup.cfg"} == tracked - {".gitignore"}


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(built, tracked):
    with zipfile.ZipFile(built[1]) as archive:
        files = set(archive.namelist())
    about = {file for file in files if file.startswith(f"{NAME}-{sklearn_halrp.__version__}.dist-")}
    assert files - about == {file for file in tracked if file.startswith(f"{NAME}/")}
    assert f"{NAME}/py.typed" in files
    assert any(file.endswith("/LICENSE") for file in about)


@pytest.mark.slow
def test_the_metadata_are_valid_and_for_users(built):
    with tarfile.open(built[0]) as archive:
        (member,) = (m for m in archive if m.name.count("/") == 1 and m.name.endswith("/PKG-INFO"))
        of_sdist = archive.extractfile(member).read()
    with zipfile.ZipFile(built[1]) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        of_wheel = archive.read(name)
    for text in (of_sdist, of_wheel):
        about = Metadata.from_email(text, validate=True)
        assert (about.name, str(about.version)) == ("sklearn-halrp", sklearn_halrp.__version__)
        assert about.license_expression == "BSD-3-Clause"
        assert about.author == "The sklearn_halrp developers"
        assert set(about.provides_extra) == EXTRAS
        extras = PROJECT["optional-dependencies"].values()
        lists = [PROJECT["dependencies"], *extras]
        assert named(map(str, about.requires_dist)) == set().union(*map(named, lists))
        assert about.description_content_type == "text/markdown"
        assert about.description.strip() == (ROOT / "README.md").read_text().strip()


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """The Python of a bare virtual environment with the wheel, and beside it what it needs."""
    folder = tmp_path_factory.mktemp("bare")
    python = folder / "bin" / "python"
    run(sys.executable, "-m", "venv", folder, cwd=folder)
    run(python, "-m", "pip", "install", "--no-index", "--no-deps", built[1], cwd=folder)
    # This environment's torch and all that, but not its editable sklearn_halrp: Python looks for
    # .pth files, which lead to that, in a virtual environment's own folder only.
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own = Path(run(python, "-c", where, cwd=folder).strip())
    shared = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (own / "shared.pth").write_text("\n".join(sorted(shared)))
    return python


@pytest.mark.slow
def test_the_installed_wheel_does_what_the_readme_promises(installed, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    code = f"{first_example()}\nimport {NAME}\nprint({NAME}.__file__)"
    folder = installed.parent.parent
    *printed, place = run(installed, "-I", "-c", code, cwd=folder).splitlines()
    assert_promised("\n".join(printed))
    assert Path(place).is_relative_to(folder)


@pytest.mark.slow
def test_a_type_checker_knows_the_installed_wheel(installed, tmp_path):
    (tmp_path / "use.py").write_text(
        "from sklearn_halrp.metrics import average_accuracy\n"
        "reveal_type(average_accuracy([[1.0]]))\n"
    )
    mypy = [sys.executable, "-m", "mypy", "--python-executable", installed, "use.py"]
    printed = run(*mypy, "--follow-imports=silent", cwd=tmp_path)
    assert re.search(r'Revealed type is "(builtins\.)?float"', printed), printed
