"""What all parts of tests/deploy need: where things are, running programs, broken variants, a line per check."""

import contextlib
import copy
import os
import re
import subprocess
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
DEPLOY = ROOT / "deploy"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()

COMMAND_SECONDS = 60


class Wrong(Exception):
    """Something is not as it should be. The message is for whoever has to mend it."""


class Report:
    """A line for each check, and their number."""

    def __init__(self):
        self.passed = self.failed = 0

    @contextlib.contextmanager
    def __call__(self, name):
        try:
            yield
        except Exception as error:
            self.failed += 1
            print(f"FAILED  {name}: {error if isinstance(error, Wrong) else repr(error)}", flush=True)
        else:
            self.passed += 1
            print(f"ok      {name}", flush=True)

    def summary(self):
        print(f"{self.passed} passed, {self.failed} failed")
        return 1 if self.failed else 0


def run(*command, cwd=ROOT, env=None):
    """What the command prints on stdout and stderr. It must exit with 0."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        timeout=COMMAND_SECONDS,
    )
    if done.returncode:
        raise Wrong(f"{Path(str(command[0])).name} exited with {done.returncode}:\n{done.stderr}{done.stdout}")
    return done.stdout, done.stderr


def none(problems):
    """There must be no problem."""
    if problems:
        raise Wrong("\n        ".join(["", *problems]))


# --- what other files say --------------------------------------------------------------------------------


class Image:
    """What the Dockerfile says of the image."""

    def __init__(self):
        text = (ROOT / "Dockerfile").read_text()
        self.user, self.group = map(int, re.search(r"^USER (\d+):(\d+)$", text, re.M).groups())
        self.ports = [int(port) for port in re.search(r"^EXPOSE (.+)$", text, re.M)[1].split()]
        self.data = re.search(r"^VOLUME (\S+)$", text, re.M)[1]


IMAGE = Image()


def seconds(duration):
    """Of `10`, `"10s"` or `"1m"`."""
    units = {"": 1, "s": 1, "m": 60}
    number, unit = re.fullmatch(r"(\d+)([sm]?)", str(duration)).groups()
    return int(number) * units[unit]


def port_of(address):
    return int(address.rpartition(":")[2])


def paths_in(settings):
    """The absolute paths in parsed settings, except of sockets, with the key of each."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from ((f"{key}.{inner}", path) for inner, path in paths_in(value))
        elif isinstance(value, str) and value.startswith("/"):
            yield key, value


def toml(text):
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Wrong(f"not TOML: {error}") from error


def load_yaml(text):
    return [document for document in yaml.safe_load_all(text) if document is not None]


# --- variants that must fail -----------------------------------------------------------------------------


class Gone:
    """In place of a value: the key is taken away."""


def changed(documents, name, path, value):
    """A copy of `documents`, a dict by name, in which `path` (dotted) of one has another value. A function is asked
    for it with the old one."""
    documents = copy.deepcopy(documents)
    at, *steps = documents[name], *path.split(".")
    steps = [int(step) if step.isdigit() else step.replace("~", ".") for step in steps]
    for step in steps[:-1]:
        at = at[step]
    before = copy.deepcopy(at)
    if value is Gone:
        del at[steps[-1]]
    else:
        at[steps[-1]] = value(at[steps[-1]]) if callable(value) else value
    if at == before:
        raise Wrong("this variant changes nothing")
    return documents


def refused(problems, rule):
    """One of the problems is of this rule."""
    if not any(problem.startswith(f"{rule}: ") for problem in problems):
        raise Wrong(f"no problem with '{rule}' is found; the problems: {problems or 'none'}")


def problems_of(rules, subject):
    """All that `rules`, functions, say of `subject`, each with the name of its rule."""
    found = []
    for rule in rules:
        try:
            found += [f"{rule.__name__}: {problem}" for problem in rule(subject)]
        except Wrong as wrong:
            found.append(f"{rule.__name__}: {wrong}")
    return found
