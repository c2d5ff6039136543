"""What must be true of deploy/systemd: systemd understands the unit, finds it hardened, and the server can do its work
within it."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from kit import DEPLOY, Wrong, paths_in, problems_of, run, seconds, toml

NAME = "jet-session.service"
# In tenths, as `systemd-analyze security` counts from 0 (locked up) to 100. It is at 11; newer releases ask for more.
EXPOSURE_MAX = 20
START_SECONDS = 20
STOP_SECONDS = 20

# Each is in the unit as it stands here.
HARDENED = """
User=jet-session
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
PrivateUsers=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProcSubset=pid
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
StateDirectory=jet-session
StateDirectoryMode=0700
UMask=0077
""".split("\n")[1:-1]


def text():
    return (DEPLOY / "systemd" / NAME).read_text()


def lines(unit):
    return [line for line in unit.splitlines() if line and not line.startswith(("#", "["))]


def value(unit, key):
    found = [line.partition("=")[2] for line in lines(unit) if line.startswith(f"{key}=")]
    if len(found) != 1:
        raise Wrong(f"{len(found)} lines of {key}, expected one")
    return found[0]


# --- rules -----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def system(unit):
    """The root of a system that has the unit, and what it names. Yields it, and the unit's file in it."""
    with tempfile.TemporaryDirectory() as root:
        units = Path(root, "etc/systemd/system")
        units.mkdir(parents=True)
        for target in ("sysinit", "basic", "shutdown", "multi-user", "network-online"):
            (units / f"{target}.target").write_text("[Unit]\nDescription=stand-in\n")
        for program in ("usr/bin/jet-session", "bin/kill"):
            Path(root, program).parent.mkdir(parents=True)
            Path(root, program).touch(mode=0o755)
        (units / NAME).write_text(unit)
        yield root, units / NAME


def verify(unit):
    """systemd understands every line."""
    with system(unit) as (root, _):
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", f"--root={root}", NAME],
            capture_output=True,
            text=True,
            timeout=60,
        )
    # It passes over what it does not know with a warning.
    for line in (done.stdout + done.stderr).splitlines():
        yield line
    if done.returncode:
        yield f"systemd-analyze verify exited with {done.returncode}"


def exposure(unit):
    """systemd finds it hardened."""
    with system(unit) as (_, file):
        done = subprocess.run(
            ["systemd-analyze", "security", "--no-pager", "--offline=true", f"--threshold={EXPOSURE_MAX}", str(file)],
            capture_output=True,
            text=True,
            timeout=60,
        )
    if done.returncode:
        yield (done.stdout + done.stderr).strip().splitlines()[-1]


def hardened(unit):
    """Line by line, because no single one weighs enough above."""
    there = lines(unit)
    for line in HARDENED:
        if line not in there:
            yield f"{line} is missing"


def stops(unit):
    """It is stopped, restarted and told to reload as the server expects."""
    told = settings_text()
    if seconds(toml(told)["drain"]) + 5 > seconds(value(unit, "TimeoutStopSec")):
        yield "it is killed before the drain has ended"
    for key, wanted in [("KillSignal", "SIGTERM"), ("KillMode", "mixed"), ("Restart", "on-failure")]:
        if value(unit, key) != wanted:
            yield f"{key} is not {wanted}"
    if value(unit, "ExecReload") != "/bin/kill -HUP $MAINPID":
        yield "a reload is not a SIGHUP"


def places(unit):
    """What the settings name is where the unit lets the server read or write."""
    told = toml(settings_text())
    argument = value(unit, "ExecStart").split()[-1]
    if argument != settings_text().splitlines()[0].removeprefix("# "):
        yield f"{argument} is not where the settings say that they belong"
    if told["data_dir"] != f"/var/lib/{value(unit, 'StateDirectory')}":
        yield f"the data are in {told['data_dir']}, where nothing may be written"
    for address in told["listen"]:
        socket = Path(address.removeprefix("unix:"))
        if address.startswith("unix:") and socket.parent != Path("/run", value(unit, "RuntimeDirectory")):
            yield f"no socket can be made in {socket.parent}"
    for key, path in paths_in(told):
        if key != "data_dir" and not path.startswith("/etc/jet-session/"):
            yield f"{key} is in {path}"


def settings_text():
    return (DEPLOY / "systemd" / "jet-session.toml").read_text()


RULES = [verify, exposure, hardened, stops, places]


def problems(unit):
    return problems_of(RULES, unit)


def replaced(unit, old, new):
    if old not in unit:
        raise Wrong(f"this variant changes nothing: there is no '{old}'")
    return unit.replace(old, new)


# Rule, what is wrong, old text, new text.
BROKEN = [
    ("verify", "an unknown key", "LimitCORE=0", "LimitCORES=0"),
    ("verify", "a value that is none", "ProtectSystem=strict", "ProtectSystem=very"),
    ("verify", "a system call that is none", "SystemCallErrorNumber=EPERM", "SystemCallErrorNumber=ENONE"),
    ("verify", "a program that is not there", "ExecStart=/usr/bin/", "ExecStart=/usr/local/bin/"),
    ("verify", "a section that is none", "[Install]", "[Installed]"),
    ("exposure", "no filter of system calls, and root", "SystemCallFilter=", "#"),
    ("stops", "a stop as short as the drain", "TimeoutStopSec=30", "TimeoutStopSec=10"),
    ("stops", "a signal that kills", "KillSignal=SIGTERM", "KillSignal=SIGKILL"),
    ("stops", "a reload that kills", "-HUP", "-USR1"),
    ("places", "settings elsewhere", "/etc/jet-session/jet-session.toml\n", "/etc/jet-session.toml\n"),
    ("places", "data elsewhere", "StateDirectory=jet-session", "StateDirectory=other"),
    ("places", "no place for a socket", "RuntimeDirectory=jet-session", "RuntimeDirectory=other"),
    *(("hardened", f"no {line}", f"\n{line}\n", "\n") for line in HARDENED),
]


# What is wrong, old text, new text: of these, what the server does tells.
TOO_NARROW = [
    ("a filter that forbids files", "=@system-service", "=@basic-io"),
    ("a filter that forbids threads", "~@privileged @resources", "~@privileged @resources @process"),
    ("that there are no addresses to listen on", "AF_INET AF_INET6 AF_UNIX", "AF_UNIX"),
]


# --- the user --------------------------------------------------------------------------------------------


def makes_user():
    """systemd-sysusers makes the user that the unit names, and no other."""
    with tempfile.TemporaryDirectory() as root:
        directory = Path(root, "usr/lib/sysusers.d")
        directory.mkdir(parents=True)
        Path(root, "etc").mkdir()
        shutil.copy(DEPLOY / "systemd" / "jet-session.sysusers", directory / "jet-session.conf")
        run("systemd-sysusers", f"--root={root}")
        users = [line.split(":")[0] for line in Path(root, "etc/passwd").read_text().splitlines()]
    if users != [value(text(), "User")]:
        raise Wrong(f"it makes {users}")


# --- the server within the unit --------------------------------------------------------------------------


def calls_of(group):
    """The system calls in a group such as @system-service."""
    calls = set()
    for line in run("systemd-analyze", "syscall-filter", group)[0].splitlines()[1:]:
        name = line.strip()
        if name.startswith("@"):
            calls |= calls_of(name)
        elif name and not name.startswith("#"):
            calls.add(name)
    return calls


def allowed_calls(unit):
    """What the unit's filter lets through. @default always is."""
    allowed = calls_of("@default")
    for line in lines(unit):
        if line.startswith("SystemCallFilter="):
            groups = line.partition("=")[2]
            named = set().union(*(calls_of(group) for group in groups.removeprefix("~").split()))
            allowed = allowed - named if groups.startswith("~") else allowed | named
    return allowed | calls_of("@default")


def traced(program):
    """Every system call of a server that starts, keeps a session, is asked for it, and drains."""
    with tempfile.TemporaryDirectory() as scratch:
        trace = Path(scratch, "trace")
        env = {name: value for name, value in os.environ.items() if not name.startswith("JET_SESSION_")}
        data = ["--data-dir", str(Path(scratch, "data"))]
        server = subprocess.Popen(
            ["strace", "-f", "-qq", "-o", str(trace), str(program), "serve", "--listen", "127.0.0.1:0", *data],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            first = server.stdout.readline()
            address = first.removeprefix("listening on ").strip()
            ask = [program, "--server", address]
            wait_for(lambda: run(*ask, "healthcheck", "--service", "instances/main", env=env))
            run(*ask, "session", "begin", env=env)
            run(*ask, "instance", "backup", "main", "--output", Path(scratch, "backup"), env=env)
            # Of the server itself: strace passes none on.
            (child,) = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
            os.kill(int(child), signal.SIGTERM)
            if server.wait(STOP_SECONDS):
                raise Wrong(f"the server exited with {server.returncode}")
        finally:
            if server.poll() is None:
                server.kill()
            server.wait()
            server.stdout.close()
        return trace.read_text()


def wait_for(succeeds):
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            return succeeds()
        except Wrong:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def works_within(unit, trace):
    """Nothing that the server does is forbidden by the unit."""
    called = re.findall(r"^\d+ +(?:<\.\.\. )?(\w+)(?:\(| resumed)", trace, re.M)
    if len(set(called)) < 20:
        raise Wrong(f"traced were only {sorted(set(called))}")
    forbidden = set(called) - allowed_calls(unit)
    if forbidden:
        raise Wrong(f"SystemCallFilter forbids {sorted(forbidden)}")
    families = set(re.findall(r"\bsocket\((AF_\w+)", trace)) - set(value(unit, "RestrictAddressFamilies").split())
    if families:
        raise Wrong(f"RestrictAddressFamilies forbids {sorted(families)}")
    for call in re.findall(r"\b(?:mmap|mprotect|pkey_mprotect)\(.*", trace):
        if "PROT_EXEC" in call and "PROT_WRITE" in call:
            raise Wrong(f"MemoryDenyWriteExecute forbids {call}")
