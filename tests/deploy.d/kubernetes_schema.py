"""Do documents fit the schemas of Kubernetes?"""

import functools
import json

import jsonschema
import kubernetes_validate

# The oldest release with all that we use in its stable form (probes by gRPC), and the newest with a schema.
RELEASES = ["1.27", kubernetes_validate.latest_version()]

# Of the Prometheus operator, whose schemas nobody packs: the fields that we use, and no others.
SERVICE_MONITOR = {
    "type": "object",
    "additionalProperties": False,
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "properties": {
        "apiVersion": {"const": "monitoring.coreos.com/v1"},
        "kind": {"const": "ServiceMonitor"},
        "metadata": {"type": "object", "required": ["name"]},
        "spec": {
            "type": "object",
            "additionalProperties": False,
            "required": ["selector", "endpoints"],
            "properties": {
                "selector": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["matchLabels"],
                    "properties": {"matchLabels": {"type": "object", "additionalProperties": {"type": "string"}}},
                },
                "endpoints": {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "type": "object",
                        "additionalProperties": False,
                        "required": ["port"],
                        "properties": {
                            "port": {"type": "string"},
                            "path": {"type": "string", "pattern": "^/"},
                            "interval": {"type": "string", "pattern": "^[0-9]+s$"},
                            "scrapeTimeout": {"type": "string", "pattern": "^[0-9]+s$"},
                        },
                    },
                },
            },
        },
    },
}


def schema(documents):
    """Everything is of a kind that Kubernetes knows, and has the right fields of the right types and no others."""
    for name, document in documents.items():
        misfit = misfit_of(json.dumps(document))
        if misfit:
            yield f"{name}: {misfit}"


@functools.cache
def misfit_of(document):
    """What does not fit, of a document as JSON. Most variants change one of many, so answers are kept."""
    document = json.loads(document)
    try:
        if document["apiVersion"] == SERVICE_MONITOR["properties"]["apiVersion"]["const"]:
            jsonschema.validate(document, SERVICE_MONITOR)
        else:
            for release in RELEASES:
                kubernetes_validate.validate(document, release, strict=True)
    except jsonschema.ValidationError as error:
        return f"{'.'.join(map(str, error.absolute_path))}: {error.message}"
    except kubernetes_validate.SchemaNotFoundError as error:
        return error.message
    return None
