"""What must be true of what deploy/certificates makes."""

import stat
from pathlib import Path

from kit import DEPLOY, IMAGE, Wrong, run


def make(directory, *names):
    run(DEPLOY / "certificates", directory, *names)


def text(certificate):
    return run("openssl", "x509", "-in", certificate, "-noout", "-text")[0]


def verified(directory):
    """Both are of the authority, each for its purpose, and under the names that were asked for."""
    strict = ["openssl", "verify", "-x509_strict", "-CAfile", directory / "ca.crt"]
    for name in (["-verify_hostname", "localhost"], ["-verify_hostname", "jet-session"], ["-verify_ip", "10.0.0.1"]):
        run(*strict, "-purpose", "sslserver", *name, directory / "server.crt")
    run(*strict, "-purpose", "sslclient", directory / "client.crt")
    if "URI:spiffe://example.org/ns/operators/operator" not in text(directory / "client.crt"):
        raise Wrong("the client has no principal")


def not_interchangeable(directory):
    """A client is no server, and a server no client."""
    for purpose, name in [("sslserver", "client.crt"), ("sslclient", "server.crt")]:
        try:
            run("openssl", "verify", "-purpose", purpose, "-CAfile", directory / "ca.crt", directory / name)
        except Wrong:
            continue
        raise Wrong(f"{name} is good for {purpose}")


def kept_to_themselves(directory):
    """Nobody else reads a key, and the server's belongs to the user of the image."""
    for key in Path(directory).glob("*.key"):
        if stat.S_IMODE(key.stat().st_mode) != 0o600:
            raise Wrong(f"{key.name} has mode {stat.S_IMODE(key.stat().st_mode):o}")
    owner = (directory / "server.key").stat().st_uid
    if owner not in (IMAGE.user, Path(directory).stat().st_uid):
        raise Wrong(f"server.key belongs to {owner}")
    left = {file.name for file in Path(directory).iterdir()}
    if left != {"ca.crt", "ca.key", "server.crt", "server.key", "client.crt", "client.key"}:
        raise Wrong(f"there are {sorted(left)}")


def renewed(directory):
    """Made again, the authority is the same and the others are new ones of it."""
    before = {name: (directory / name).read_bytes() for name in ("ca.crt", "server.crt", "client.crt")}
    make(directory, "jet-session", "10.0.0.1")
    after = {name: (directory / name).read_bytes() for name in before}
    changed = sorted(name for name in before if before[name] != after[name])
    if changed != ["client.crt", "server.crt"]:
        raise Wrong(f"new are {changed}")
    verified(directory)
