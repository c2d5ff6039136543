"""The documents in deploy/kubernetes: rendering them, and looking things up in them."""

import re
import shutil
import subprocess

from kit import DEPLOY, Wrong, load_yaml, toml

BASE = DEPLOY / "kubernetes" / "base"
MONITORING = DEPLOY / "kubernetes" / "monitoring"
DEV = DEPLOY / "kubernetes" / "overlays" / "dev"

# What the operator makes: see deploy/README.md. Each with its keys.
MADE_BY_OPERATOR = {
    "Secret/jet-session-tls": {"tls.crt", "tls.key"},
    "ConfigMap/jet-session-client-ca": {"ca.crt"},
}


# --- rendering -------------------------------------------------------------------------------------------


def render(directory):
    """The documents of a kustomization by kind and name."""
    kubectl = shutil.which("kubectl")
    if not kubectl:
        raise Wrong("there is no kubectl; `tests/run --only tools` installs it")
    done = subprocess.run([kubectl, "kustomize", str(directory)], capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise Wrong(f"kubectl kustomize exited with {done.returncode}:\n{done.stderr}")
    documents = {}
    for document in load_yaml(done.stdout):
        if "kind" not in document:
            raise Wrong(f"a document without a kind: {document}")
        name = document["metadata"]["name"]
        if document["kind"] == "ConfigMap":
            # Without the hash of what is in it, which differs between releases of kustomize.
            name = re.sub(r"-[a-z0-9]{10}$", "", name)
        documents[f"{document['kind']}/{name}"] = document
    return documents


def kubectl_version():
    # What stands around the number differs between releases.
    text = subprocess.run(["kubectl", "version", "--client"], capture_output=True, text=True, timeout=60).stdout
    return re.search(r"v\d+\.\d+\.\d+", text)[0]


# --- looking things up -----------------------------------------------------------------------------------


class Cluster:
    """Documents that are applied together."""

    def __init__(self, documents):
        self.documents = documents
        workload = self.one("StatefulSet")
        self.workload, template = workload["spec"], workload["spec"]["template"]
        self.labels = template["metadata"]["labels"]
        self.pod = template["spec"]
        self.container = self.pod["containers"][0]
        self.ports = {port["name"]: port["containerPort"] for port in self.container["ports"]}

    def all(self, kind):
        return [document for name, document in self.documents.items() if name.startswith(f"{kind}/")]

    def one(self, kind):
        found = self.all(kind)
        if len(found) != 1:
            raise Wrong(f"{len(found)} of kind {kind}, expected one")
        return found[0]

    def containers(self):
        return [*self.pod.get("initContainers", []), *self.pod["containers"]]

    def keys(self, volume):
        """The files in a volume; None if it holds whatever the server writes."""
        source = volume.get("configMap") or volume.get("secret")
        if source is None:
            return None
        kind, name = ("ConfigMap", source["name"]) if "configMap" in volume else ("Secret", source["secretName"])
        if f"{kind}/{name}" in MADE_BY_OPERATOR:
            return MADE_BY_OPERATOR[f"{kind}/{name}"]
        for document in self.all(kind):
            if document["metadata"]["name"] == name:
                return set(document["data"])
        raise Wrong(f"there is no {kind} '{name}'")

    def volumes(self):
        """By name: those of the pod, and the claims."""
        volumes = {volume["name"]: volume for volume in self.pod.get("volumes", [])}
        claims = {claim["metadata"]["name"]: claim for claim in self.workload.get("volumeClaimTemplates", [])}
        return volumes | claims

    def volume(self, name):
        volumes = self.volumes()
        if name not in volumes:
            raise Wrong(f"there is no volume '{name}'")
        return volumes[name]

    def mount_of(self, path):
        """The mount that a path lies in, and the rest of the path."""
        for mount in self.container["volumeMounts"]:
            if path.startswith(mount["mountPath"] + "/"):
                return mount, path.removeprefix(mount["mountPath"] + "/")
        raise Wrong(f"{path} is in no volume")

    def file(self, path):
        """The text of a file that a rendered ConfigMap brings; None of one that the operator makes."""
        mount, rest = self.mount_of(path)
        volume = self.volume(mount["name"])
        if rest not in (self.keys(volume) or ()):
            raise Wrong(f"{path} is not in the volume '{mount['name']}'")
        for document in self.all("ConfigMap"):
            if document["metadata"]["name"] == volume.get("configMap", {}).get("name"):
                return document["data"][rest]
        return None

    def settings(self):
        arguments = self.container["args"]
        return toml(self.file(arguments[arguments.index("--config") + 1]))


def fits(selector, labels):
    """A Service's selector is the labels themselves, others have matchLabels. One that is empty takes everything."""
    wanted = selector.get("matchLabels", selector)
    return bool(wanted) and wanted.items() <= labels.items()
