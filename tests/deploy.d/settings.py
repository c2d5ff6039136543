"""Does the server accept the settings that deploy/ ships, as the user that it runs as there, and with the files that
they name where they name them?"""

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import certificates
import compose
import kubernetes
from kit import DEPLOY, IMAGE, Wrong, paths_in, toml

# What deploy/certificates makes, by the names that Kubernetes gives to what is in a Secret.
MADE = {"tls.crt": "server.crt", "tls.key": "server.key"}


class Settings:
    """A file of settings and those that it names, by the paths at which the server sees them."""

    def __init__(self, path, text, file, key_mode):
        self.path, self.text, self.key_mode = path, text, key_mode
        # None stands for one that deploy/certificates makes.
        told = toml(text)
        self.files = {named: file(named) for key, named in paths_in(told) if key != "data_dir"}
        # Where the server writes: its data, and sockets.
        sockets = [place.removeprefix("unix:") for place in told["listen"] if place.startswith("unix:")]
        self.written = [told["data_dir"], *(str(Path(socket).parent) for socket in sockets)]


def of_kubernetes(directory):
    """As in a pod: the key belongs to root and is readable by the group of the server."""
    cluster = kubernetes.Cluster(kubernetes.render(directory))
    path = cluster.container["args"][-1]
    return Settings(path, cluster.file(path), cluster.file, 0o440)


def of_compose():
    service = compose.Service(compose.read("compose.tls.yaml")["compose.tls.yaml"])
    path = service.service["command"][-1]

    def file(named):
        found = service.file(named)
        return found and found.read_text()

    return Settings(path, file(path), file, 0o600)


def of_systemd():
    def file(named):
        found = DEPLOY / "systemd" / Path(named).name
        return found.read_text() if found.exists() else None

    return Settings("/etc/jet-session/jet-session.toml", file("jet-session.toml"), file, 0o600)


def all_shipped():
    yield "kubernetes/base", of_kubernetes(kubernetes.BASE)
    yield "kubernetes/overlays/dev", of_kubernetes(kubernetes.DEV)
    yield "compose/tls", of_compose()
    yield "systemd", of_systemd()


@contextlib.contextmanager
def placed(settings, program):
    """All of it below a directory, which the paths in the settings begin with; yields who the server is,
    and a command that checks them."""
    with tempfile.TemporaryDirectory() as scratch:
        os.chmod(scratch, 0o755)
        made = Path(scratch, "made")
        certificates.make(made)
        # As root we can be who the server is; as anybody else we are ourselves.
        user = (IMAGE.user, IMAGE.group) if os.geteuid() == 0 else (os.getuid(), os.getgid())

        def put(path, text):
            place = Path(scratch + path)
            place.parent.mkdir(parents=True, exist_ok=True)
            if text is None:
                shutil.copy(made / MADE.get(place.name, place.name), place)
            else:
                place.write_text(text)
            if place.suffix == ".key":
                place.chmod(settings.key_mode)
                # Only root can give a file away; to anybody else it belongs already.
                if os.geteuid() == 0:
                    os.chown(place, *((0, user[1]) if settings.key_mode == 0o440 else user))

        for path, text in settings.files.items():
            put(path, text)
        text = re.sub(r'"(unix:)?/', rf'"\1{scratch}/', settings.text)
        # Here somebody else may have the port.
        put(settings.path, re.sub(r'^(\w*listen = .*):\d+"', r'\1:0"', text, flags=re.M))
        # The server may not be allowed to look into the directory of the build.
        own = shutil.copy(program, Path(scratch, "jet-session"))
        for directory, _, _ in os.walk(scratch):
            os.chmod(directory, 0o755)
        for path in settings.written:
            Path(scratch + path).mkdir(parents=True)
            os.chown(scratch + path, *user)
        yield user, [own, "config", "check", "--config", scratch + settings.path]


def check(settings, program):
    """What the server says; None if it accepts them."""
    with placed(settings, program) as ((user, group), command):
        env = {name: value for name, value in os.environ.items() if not name.startswith("JET_SESSION_")}
        who = {"user": user, "group": group, "extra_groups": []} if os.geteuid() == 0 else {}
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, cwd="/", **who)
    return (done.stderr + done.stdout) or f"exit code {done.returncode}" if done.returncode else None


def accepted(settings, program):
    said = check(settings, program)
    if said:
        raise Wrong(said)


def refused_for(settings, program, words):
    """It is refused, and the server says why with these words."""
    said = check(settings, program)
    if said is None:
        raise Wrong("it is accepted")
    if words not in said:
        raise Wrong(f"it does not say '{words}':\n{said}")


def spoiled(settings, old, new):
    if old not in settings.text:
        raise Wrong(f"this variant changes nothing: there is no '{old}'")
    settings.text = settings.text.replace(old, new)
    return settings


def spoiled_file(settings, suffix, old, new):
    (path,) = [path for path in settings.files if path.endswith(suffix)]
    if old not in settings.files[path]:
        raise Wrong(f"this variant changes nothing: there is no '{old}'")
    settings.files[path] = settings.files[path].replace(old, new)
    return settings


def key_for_all(settings):
    settings.key_mode = 0o444
    return settings


# What is wrong, how it comes about, what the server says.
REFUSED = [
    ("an unknown setting", lambda s: spoiled(s, "drain =", "dreen ="), "dreen"),
    ("a level of logging that is none", lambda s: spoiled(s, '"json"', '"xml"'), "xml"),
    ("a policy with an unknown role", lambda s: spoiled_file(s, "policy.toml", '["use"]', '["abuse"]'), "abuse"),
    ("a key that everybody can read", key_for_all, "tls.key"),
    ("a certificate that is not there", lambda s: spoiled(s, "tls/tls.crt", "tls/other.crt"), "other.crt"),
]
