"""What must be true of the documents in deploy/kubernetes: they fit each other, the image and the settings in them, and
take no more rights than the server needs.

Each rule is a function from the cluster to the problems that it finds. `kubernetes_broken` shows of each that it finds
some."""

import re
from decimal import Decimal

from kit import IMAGE, paths_in, port_of, problems_of, seconds
from kubernetes import Cluster, fits
from kubernetes_schema import schema

# Of terminationGracePeriodSeconds, beyond the drain.
GRACE_SECONDS = 5


def selectors(cluster):
    """What chooses the pod by its labels does choose it."""
    if not fits(cluster.workload["selector"], cluster.labels):
        yield "the StatefulSet does not choose its own pod"
    for kind, key in [("Service", "selector"), ("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")]:
        for document in cluster.all(kind):
            if not fits(document["spec"][key], cluster.labels):
                yield f"{kind} {document['metadata']['name']} does not choose the pod"


def one_server(cluster):
    """One volume has one server, whose pod is replaced also when it never became ready."""
    if cluster.workload["replicas"] != 1:
        yield f"{cluster.workload['replicas']} replicas"
    if cluster.workload["podManagementPolicy"] != "Parallel":
        yield "a pod that never becomes ready would not be replaced"


def references(cluster):
    """What is named is there."""
    headless = {s["metadata"]["name"] for s in cluster.all("Service") if s["spec"].get("clusterIP") == "None"}
    if cluster.workload["serviceName"] not in headless:
        yield f"serviceName '{cluster.workload['serviceName']}' is no headless Service"
    accounts = {account["metadata"]["name"] for account in cluster.all("ServiceAccount")}
    if cluster.pod.get("serviceAccountName") not in accounts:
        yield f"there is no ServiceAccount '{cluster.pod.get('serviceAccountName')}'"
    for volume in cluster.pod.get("volumes", []):
        cluster.keys(volume)


def services(cluster):
    """Services lead to named ports of the pod, under the same number, and clients find gRPC."""
    for service in cluster.all("Service"):
        name = service["metadata"]["name"]
        for port in service["spec"]["ports"]:
            if cluster.ports.get(port["targetPort"]) != port["port"]:
                yield f"{name} leads from {port['port']} to {port['targetPort']}, which the pod does not have there"
            if port["name"] == "grpc" and port.get("appProtocol") != "grpc":
                yield f"{name} does not say that port {port['port']} is gRPC"
    exposed = [p["name"] for p in cluster.documents["Service/jet-session"]["spec"]["ports"]]
    if exposed != ["grpc"]:
        yield f"clients see the ports {exposed}"


def probes(cluster):
    """Every probe asks the health port, each for the right service."""
    for probe, service in [("startupProbe", ""), ("readinessProbe", ""), ("livenessProbe", "liveness")]:
        asked = cluster.container.get(probe, {}).get("grpc")
        if asked is None:
            yield f"there is no {probe} by gRPC"
        elif (asked["port"], asked.get("service", "")) != (cluster.ports.get("health"), service):
            yield f"{probe} asks port {asked['port']} for '{asked.get('service', '')}'"


def ports(cluster):
    """The settings listen where the pod has its ports, and the image exposes them."""
    settings = cluster.settings()
    listens = {
        "grpc": port_of(settings["listen"][0]),
        "health": port_of(settings["health_listen"]),
        "metrics": port_of(settings["metrics_listen"]),
    }
    if listens != cluster.ports:
        yield f"the server listens on {listens}, the pod has {cluster.ports}"
    if sorted(cluster.ports.values()) != sorted(IMAGE.ports):
        yield f"the image exposes {IMAGE.ports}, the pod has {cluster.ports}"


def settings(cluster):
    """Every file that the settings name is mounted, data go to the volume, and there is a policy."""
    told = cluster.settings()
    for key, path in paths_in(told):
        if key == "data_dir":
            mount, _ = cluster.mount_of(path)
            if cluster.keys(cluster.volume(mount["name"])) is not None or mount.get("readOnly"):
                yield f"data_dir {path} cannot be written to"
            if mount["mountPath"] != IMAGE.data:
                yield f"the image has its volume at {IMAGE.data}, the pod at {mount['mountPath']}"
        else:
            cluster.file(path)
    if "policy" not in told.get("auth", {}):
        yield "there is no policy"
    if told.get("insecure", False) == ("tls" in told):
        yield "it is neither TLS nor plainly insecure, or both"
    if "tls" in told and not ("client_ca" in told["tls"] and told["tls"].get("client_auth", "require") == "require"):
        yield "clients need not prove who they are"
    if seconds(told["drain"]) + GRACE_SECONDS > cluster.pod["terminationGracePeriodSeconds"]:
        yield "the kubelet kills before the drain has ended"


def mounts(cluster):
    """Every volume is mounted, by directory, and only the data can be written to."""
    mounted = {mount["name"]: mount for mount in cluster.container["volumeMounts"]}
    volumes = cluster.volumes()
    if mounted.keys() != volumes.keys():
        yield f"mounted are {sorted(mounted)}, there are {sorted(volumes)}"
    for name, mount in mounted.items():
        if "subPath" in mount:
            yield f"'{name}' is mounted by subPath, and does not change when what is in it does"
        if name != "data" and not mount.get("readOnly"):
            yield f"'{name}' can be written to"
    for name, volume in volumes.items():
        if "hostPath" in volume:
            yield f"'{name}' is a directory of the node"
        # Readable by the owner and by fsGroup, which the kubelet adds in any case.
        if "secret" in volume and volume["secret"].get("defaultMode") != 0o440:
            yield f"the Secret in '{name}' is not for its owner and group alone"


def restricted(cluster):
    """The pod is nobody, may do nothing, and is told nothing: the `restricted` standard of Kubernetes, and more."""
    pod, context = cluster.pod, cluster.pod.get("securityContext", {})
    wanted = {"runAsNonRoot": True, "runAsUser": IMAGE.user, "runAsGroup": IMAGE.group, "fsGroup": IMAGE.group}
    wanted |= {"fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": {"type": "RuntimeDefault"}}
    for key, value in wanted.items():
        if context.get(key) != value:
            yield f"{key} is {context.get(key)}, not {value}"
    for key in ("automountServiceAccountToken", "enableServiceLinks"):
        if pod.get(key) is not False:
            yield f"{key} is not off"
    for account in cluster.all("ServiceAccount"):
        if account.get("automountServiceAccountToken") is not False:
            yield "the ServiceAccount mounts its token"
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(key):
            yield f"{key} is on"
    for container in cluster.containers():
        own, name = container.get("securityContext", {}), container["name"]
        if own.get("readOnlyRootFilesystem") is not True:
            yield f"the root of '{name}' can be written to"
        if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
            yield f"'{name}' may become more than it is"
        if own.get("capabilities") != {"drop": ["ALL"]}:
            yield f"'{name}' has capabilities"
        for key in ("runAsNonRoot", "runAsUser", "runAsGroup", "seccompProfile"):
            if key in own and own[key] != wanted[key]:
                yield f"'{name}' has a {key} of its own"


def resources(cluster):
    """Every container says what it needs and what it may take, memory above all."""
    for container in cluster.containers():
        said, name = container.get("resources", {}), container["name"]
        for of in ("requests", "limits"):
            for what in ("cpu", "memory"):
                if what not in said.get(of, {}):
                    yield f"'{name}' has no {of} of {what}"
        for what in said.get("requests", {}).keys() & said.get("limits", {}).keys():
            if quantity(said["requests"][what]) > quantity(said["limits"][what]):
                yield f"'{name}' requests more {what} than it may have"


def image(cluster):
    """A tag that says which, and is not fetched anew under a running system."""
    for container in cluster.containers():
        name, _, tag = container["image"].rpartition(":")
        if not name or tag == "latest":
            yield f"'{container['image']}' does not say which"
        if container.get("imagePullPolicy") != "IfNotPresent":
            yield f"imagePullPolicy is {container.get('imagePullPolicy')}"


def network(cluster):
    """Denied is what is not said: in both directions, with a rule for each port of the pod, and open to everybody
    only the one for health."""
    spec = cluster.one("NetworkPolicy")["spec"]
    if sorted(spec.get("policyTypes", [])) != ["Egress", "Ingress"]:
        yield f"policyTypes are {spec.get('policyTypes')}"
    if spec.get("egress"):
        yield "it may call others"
    allowed = set()
    for rule in spec.get("ingress", []):
        numbers = {port.get("port") for port in rule.get("ports", [])}
        if not numbers:
            yield "a rule opens every port"
        if not rule.get("from") and numbers != {cluster.ports["health"]}:
            yield f"{sorted(numbers)} are open to everybody"
        allowed |= numbers
    if allowed != set(cluster.ports.values()):
        yield f"allowed are {sorted(allowed)}, the pod has {sorted(cluster.ports.values())}"


def disruption(cluster):
    """A node with the pod on it can be drained."""
    spec = cluster.one("PodDisruptionBudget")["spec"]
    if spec.get("maxUnavailable") in (None, 0, "0%"):
        yield "no drain of its node would ever end"


def storage(cluster):
    """The data are in one claim, which one node has at a time."""
    claims = cluster.workload.get("volumeClaimTemplates", [])
    if [claim["metadata"]["name"] for claim in claims] != ["data"]:
        yield "the data have no volume of their own"
    for claim in claims:
        if claim["spec"]["accessModes"] not in (["ReadWriteOnce"], ["ReadWriteOncePod"]):
            yield f"access modes {claim['spec']['accessModes']}"


def monitor(cluster):
    """A ServiceMonitor, where there is one, reads the metrics of one Service, at a port that it has."""
    for document in cluster.all("ServiceMonitor"):
        chosen = [s for s in cluster.all("Service") if fits(document["spec"]["selector"], s["metadata"]["labels"])]
        if len(chosen) != 1:
            yield f"{len(chosen)} Services are chosen"
        names = {port["name"] for service in chosen for port in service["spec"]["ports"]}
        for endpoint in document["spec"]["endpoints"]:
            if endpoint["port"] not in names or endpoint["port"] != "metrics":
                yield f"there are no metrics at the port '{endpoint['port']}'"


RULES = [
    selectors,
    one_server,
    references,
    services,
    probes,
    ports,
    settings,
    mounts,
    restricted,
    resources,
    image,
    network,
    disruption,
    storage,
    monitor,
]


def problems(documents):
    """All of them; of documents that do not fit the schemas only that, because rules may not understand the others."""
    return problems_of([schema], documents) or problems_of(RULES, Cluster(documents))


def quantity(text):
    """Of cpu or memory, in one unit."""
    units = {"": 1, "m": Decimal("0.001"), "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
    number, unit = re.fullmatch(r"([\d.]+)([a-zA-Z]*)", str(text)).groups()
    return Decimal(number) * units[unit]
