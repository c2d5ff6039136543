"""What must be true of the files in deploy/compose: they take no more rights than the server needs, and plaintext is
published to this machine only."""

import re

import yaml

from kit import DEPLOY, IMAGE, Gone, Wrong, paths_in, port_of, problems_of, seconds, toml

FILES = ["compose.yaml", "compose.tls.yaml"]
# What deploy/certificates makes.
CERTIFICATES = {"ca.crt", "server.crt", "server.key", "client.crt", "client.key"}


def read(name):
    return {name: yaml.safe_load((DEPLOY / "compose" / name).read_text())}


class Service:
    def __init__(self, document):
        (self.service,) = document["services"].values()
        self.ports = [re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", port) for port in self.service["ports"]]
        self.mounts = {}
        for volume in self.service["volumes"]:
            source, target, *how = volume.split(":")
            self.mounts[target] = (source, "ro" in how)
        self.named = set(document.get("volumes", {}))

    def file(self, path):
        """Of this repository, as it is mounted at `path`; None of one that deploy/certificates makes."""
        for target, (source, _) in self.mounts.items():
            if path.startswith(target + "/") and source.startswith("./"):
                rest = path.removeprefix(target + "/")
                if rest.startswith("certificates/") and rest.removeprefix("certificates/") in CERTIFICATES:
                    return None
                file = DEPLOY / "compose" / source / rest
                if not file.is_file():
                    raise Wrong(f"{path}: there is no {file}")
                return file
        raise Wrong(f"{path} is not mounted")

    def settings(self):
        """What the server is told; None if the image's own arguments are in force."""
        command = self.service.get("command")
        if command is None:
            return None
        return toml(self.file(command[command.index("--config") + 1]).read_text())


def confined(compose):
    """Nothing but the volume is written to, and there are no privileges."""
    service = compose.service
    wanted = {"read_only": True, "cap_drop": ["ALL"], "security_opt": ["no-new-privileges:true"]}
    for key, value in wanted.items():
        if service.get(key) != value:
            yield f"{key} is {service.get(key)}, not {value}"
    for key in ("privileged", "cap_add", "user", "network_mode", "pid", "devices"):
        if key in service:
            yield f"{key} is set"


def data(compose):
    """The data are in a volume with a name, and only they can be written to."""
    source, _ = compose.mounts.get(IMAGE.data, (None, None))
    if source not in compose.named:
        yield f"{IMAGE.data} is not in a volume with a name"
    for target, (_, read_only) in compose.mounts.items():
        if target != IMAGE.data and not read_only:
            yield f"{target} can be written to"


def published(compose):
    """Plaintext goes to this machine only; what is published is listened on."""
    settings = compose.settings() or {"listen": ["0.0.0.0:50051"]}
    calls = port_of(settings["listen"][0])
    listens = {calls} | {port_of(settings[key]) for key in ("metrics_listen",) if key in settings}
    for port in compose.ports:
        number = port_of(port)
        if number not in listens or number not in IMAGE.ports:
            yield f"{port} leads nowhere"
        if not port.startswith("127.0.0.1:") and not (number == calls and "tls" in settings):
            yield f"{port} is plaintext, and published to everybody"


def settings(compose):
    """Every file that the settings name is there, and who calls must prove who he is."""
    told = compose.settings()
    if told is None:
        return
    for key, path in paths_in(told):
        if key == "data_dir":
            if path != IMAGE.data:
                yield f"the data are in {path}, and not in {IMAGE.data}"
        else:
            compose.file(path)
    if "tls" not in told or "policy" not in told.get("auth", {}) or "client_ca" not in told["tls"]:
        yield "who calls need not prove who he is"
    if seconds(told["drain"]) + 3 > seconds(compose.service["stop_grace_period"]):
        yield "it is killed before the drain has ended"


def health(compose):
    """The health check asks a port that answers in plaintext, and the stop gives the drain its time."""
    told = compose.settings()
    test = compose.service["healthcheck"]["test"]
    if test[:3] != ["CMD", "/usr/bin/jet-session", "healthcheck"]:
        yield f"the health check is {test}"
    asked = test[test.index("--server") + 1] if "--server" in test else None
    if asked != (told["health_listen"] if told else None):
        yield f"it asks {asked}"
    if seconds(compose.service["stop_grace_period"]) <= 10:
        yield "it is killed before the drain has ended"


RULES = [confined, data, published, settings, health]


def problems(document):
    return problems_of(RULES, Service(document))


SERVICE = "services.jet-session"


# Rule, what is wrong, file, path, value.
BROKEN = [
    ("confined", "a root that can be written to", "compose.yaml", f"{SERVICE}.read_only", Gone),
    ("confined", "capabilities", "compose.yaml", f"{SERVICE}.cap_drop", Gone),
    ("confined", "new privileges", "compose.tls.yaml", f"{SERVICE}.security_opt", Gone),
    ("confined", "privileged", "compose.tls.yaml", f"{SERVICE}.privileged", True),
    ("confined", "root", "compose.yaml", f"{SERVICE}.user", "0:0"),
    ("data", "a volume without a name", "compose.yaml", f"{SERVICE}.volumes", ["./data:/var/lib/jet-session"]),
    ("data", "settings that can be written to", "compose.tls.yaml", f"{SERVICE}.volumes.1", "./tls:/etc/jet-session"),
    ("published", "plaintext to everybody", "compose.yaml", f"{SERVICE}.ports", ["50051:50051"]),
    ("published", "metrics to everybody", "compose.tls.yaml", f"{SERVICE}.ports.1", "9464:9464"),
    ("published", "a port that nobody listens on", "compose.yaml", f"{SERVICE}.ports", ["127.0.0.1:80:80"]),
    ("settings", "the settings are not mounted", "compose.tls.yaml", f"{SERVICE}.volumes.1", "./tls:/etc/other:ro"),
    ("settings", "settings that are not there", "compose.tls.yaml", f"{SERVICE}.command.2", "/etc/jet-session/a.toml"),
    ("settings", "a stop as short as the drain", "compose.tls.yaml", f"{SERVICE}.stop_grace_period", "10s"),
    ("health", "the health check asks where TLS is", "compose.tls.yaml", f"{SERVICE}.healthcheck.test",
        ["CMD", "/usr/bin/jet-session", "healthcheck"]),
    ("health", "the health check wants a shell", "compose.yaml", f"{SERVICE}.healthcheck.test",
        ["CMD-SHELL", "jet-session healthcheck"]),
    ("health", "no time to drain", "compose.yaml", f"{SERVICE}.stop_grace_period", "5s"),
]
