"""Variants of deploy/kubernetes that must be refused: each row changes one thing, and names the rule that finds it."""

from kit import Gone

SET = "StatefulSet/jet-session"
POD = "spec.template.spec"
CONTAINER = f"{POD}.containers.0"
CONFIG = "ConfigMap/jet-session-config"
TOML = "data.jet-session~toml"
CLIENT = "Service/jet-session"
HEADLESS = "Service/jet-session-headless"
POLICY = "NetworkPolicy/jet-session"
BUDGET = "PodDisruptionBudget/jet-session"
ACCOUNT = "ServiceAccount/jet-session"
MONITOR = "ServiceMonitor/jet-session"


def text(old, new):
    """In place of a value: the old one with a part replaced."""
    return lambda value: value.replace(old, new)


def without(name):
    """In place of a list: the old one without what is called so."""
    return lambda items: [item for item in items if item["name"] != name]


def more(item):
    """In place of a list: the old one with one item more."""
    return lambda items: [*items, item]


# Rule, what is wrong, document, path (`~` stands for a dot in a key), value.
BROKEN = [
    ("schema", "a port is a word", SET, f"{CONTAINER}.ports.0.containerPort", "grpc"),
    ("schema", "an unknown field", SET, f"{POD}.securityContext.runAsNobody", True),
    ("schema", "a field at the wrong level", SET, f"{POD}.readOnlyRootFilesystem", True),
    ("schema", "a StatefulSet without a selector", SET, "spec.selector", Gone),
    ("schema", "replicas are text", SET, "spec.replicas", "1"),
    ("schema", "a release that is gone", BUDGET, "apiVersion", "policy/v1beta1"),
    ("schema", "a port that is null", CLIENT, "spec.ports.0.port", None),
    ("schema", "an unknown field of a ServiceMonitor", MONITOR, "spec.endpoints.0.scheme_", "https"),
    ("schema", "an interval that is none", MONITOR, "spec.endpoints.0.interval", "often"),
    ("selectors", "the pod has another label", SET, "spec.template.metadata.labels.app~kubernetes~io/name", "other"),
    ("selectors", "the Service chooses another pod", CLIENT, "spec.selector.app~kubernetes~io/name", "other"),
    ("selectors", "the headless Service chooses by more", HEADLESS, "spec.selector.tier", "back"),
    ("selectors", "the budget is about another pod", BUDGET, "spec.selector.matchLabels", {"app": "other"}),
    ("selectors", "the policy is about another pod", POLICY, "spec.podSelector.matchLabels", {"app": "other"}),
    ("one_server", "two replicas", SET, "spec.replicas", 2),
    ("one_server", "pods in order", SET, "spec.podManagementPolicy", "OrderedReady"),
    ("references", "the wrong governing Service", SET, "spec.serviceName", "jet-session"),
    ("references", "a ServiceAccount that is not there", SET, f"{POD}.serviceAccountName", "default"),
    ("references", "a ConfigMap that is not there", SET, f"{POD}.volumes.1.configMap.name", "other"),
    ("references", "a Secret that nobody makes", SET, f"{POD}.volumes.2.secret.secretName", "other"),
    ("services", "a Service leads nowhere", CLIENT, "spec.ports.0.targetPort", "http"),
    ("services", "a Service has another number", CLIENT, "spec.ports.0.port", 443),
    ("services", "a Service does not say gRPC", CLIENT, "spec.ports.0.appProtocol", Gone),
    ("services", "clients see the metrics", CLIENT, "spec.ports",
        more({"name": "metrics", "port": 9464, "targetPort": "metrics"})),
    ("probes", "no startup probe", SET, f"{CONTAINER}.startupProbe", Gone),
    ("probes", "readiness asks the port for calls", SET, f"{CONTAINER}.readinessProbe.grpc.port", 50051),
    ("probes", "liveness ends with the drain", SET, f"{CONTAINER}.livenessProbe.grpc.service", ""),
    ("probes", "readiness by TCP", SET, f"{CONTAINER}.readinessProbe", {"tcpSocket": {"port": 50051}}),
    ("ports", "the settings listen elsewhere", CONFIG, TOML, text(":50052", ":50053")),
    ("ports", "the pod has another port", SET, f"{CONTAINER}.ports.2.containerPort", 9090),
    ("settings", "the settings are not mounted", SET, f"{CONTAINER}.args.2", "/etc/jet-session.toml"),
    ("settings", "the settings have another name", CONFIG, "data", {"settings.toml": ""}),
    ("settings", "the settings are not TOML", CONFIG, TOML, text("[tls]", "[tls")),
    ("settings", "a key that is not in the Secret", CONFIG, TOML, text("tls.key", "server.key")),
    ("settings", "the data go to the root", CONFIG, TOML, text("/var/lib/jet-session/data", "/data")),
    ("settings", "the data go to a Secret", CONFIG, TOML, text("/var/lib/jet-session/data", "/etc/jet-session/tls/x")),
    ("settings", "TLS, and insecure as well", CONFIG, TOML, text("[log]", "insecure = true\n[log]")),
    ("settings", "no TLS", CONFIG, TOML, text("[tls]", "[other]")),
    ("settings", "clients without certificates", CONFIG, TOML, text('"require"', '"optional"')),
    ("settings", "no policy", CONFIG, TOML, text("policy =", "other =")),
    ("settings", "the drain is as long as the grace", CONFIG, TOML, text('"10s"', '"30s"')),
    ("settings", "the grace is as short as the drain", SET, f"{POD}.terminationGracePeriodSeconds", 10),
    ("mounts", "a volume that is not mounted", SET, f"{CONTAINER}.volumeMounts", without("client-ca")),
    ("mounts", "a mount without a volume", SET, f"{POD}.volumes", without("client-ca")),
    ("mounts", "a Secret that can be written to", SET, f"{CONTAINER}.volumeMounts.3.readOnly", Gone),
    ("mounts", "a certificate by subPath", SET, f"{CONTAINER}.volumeMounts.3.subPath", "tls.crt"),
    ("mounts", "a key that everybody reads", SET, f"{POD}.volumes.2.secret.defaultMode", 0o444),
    ("mounts", "a key with the default mode", SET, f"{POD}.volumes.2.secret.defaultMode", Gone),
    ("mounts", "a directory of the node", SET, f"{POD}.volumes.0.hostPath", {"path": "/etc"}),
    ("restricted", "root", SET, f"{POD}.securityContext.runAsUser", 0),
    ("restricted", "perhaps root", SET, f"{POD}.securityContext.runAsNonRoot", Gone),
    ("restricted", "root in the container", SET, f"{CONTAINER}.securityContext.runAsUser", 0),
    ("restricted", "no seccomp", SET, f"{POD}.securityContext.seccompProfile", Gone),
    ("restricted", "seccomp off", SET, f"{POD}.securityContext.seccompProfile.type", "Unconfined"),
    ("restricted", "no group for the volume", SET, f"{POD}.securityContext.fsGroup", Gone),
    ("restricted", "a root that can be written to", SET, f"{CONTAINER}.securityContext.readOnlyRootFilesystem", False),
    ("restricted", "escalation", SET, f"{CONTAINER}.securityContext.allowPrivilegeEscalation", Gone),
    ("restricted", "capabilities kept", SET, f"{CONTAINER}.securityContext.capabilities", Gone),
    ("restricted", "a capability added", SET, f"{CONTAINER}.securityContext.capabilities.add", ["NET_ADMIN"]),
    ("restricted", "a token in the pod", SET, f"{POD}.automountServiceAccountToken", True),
    ("restricted", "a token by the account", ACCOUNT, "automountServiceAccountToken", Gone),
    ("restricted", "variables of Services", SET, f"{POD}.enableServiceLinks", Gone),
    ("restricted", "the node's network", SET, f"{POD}.hostNetwork", True),
    ("restricted", "a second container without limits to what it may", SET, f"{POD}.containers",
        more({"name": "shell", "image": "shell:1", "imagePullPolicy": "IfNotPresent"})),
    ("resources", "no requests", SET, f"{CONTAINER}.resources.requests", Gone),
    ("resources", "no limit of memory", SET, f"{CONTAINER}.resources.limits.memory", Gone),
    ("resources", "requests above the limit", SET, f"{CONTAINER}.resources.requests.memory", "1Gi"),
    ("image", "no tag", SET, f"{CONTAINER}.image", "jet-session"),
    ("image", "the latest", SET, f"{CONTAINER}.image", "jet-session:latest"),
    ("image", "pulled at every start", SET, f"{CONTAINER}.imagePullPolicy", "Always"),
    ("network", "egress is not spoken of", POLICY, "spec.policyTypes", ["Ingress"]),
    ("network", "it may call everybody", POLICY, "spec.egress", [{}]),
    ("network", "everybody may call", POLICY, "spec.ingress.0.from", Gone),
    ("network", "a rule without ports", POLICY, "spec.ingress.1.ports", Gone),
    ("network", "probes are denied", POLICY, "spec.ingress.2.ports.0.port", 50051),
    ("disruption", "always available", BUDGET, "spec", {"minAvailable": 1, "selector": {
        "matchLabels": {"app.kubernetes.io/name": "jet-session"}}}),
    ("storage", "no claim", SET, "spec.volumeClaimTemplates", Gone),
    ("storage", "a claim of many", SET, "spec.volumeClaimTemplates.0.spec.accessModes", ["ReadWriteMany"]),
    ("monitor", "both Services are read", MONITOR, "spec.selector.matchLabels",
        {"app.kubernetes.io/name": "jet-session"}),
    ("monitor", "a port that is none", MONITOR, "spec.endpoints.0.port", "http"),
]
