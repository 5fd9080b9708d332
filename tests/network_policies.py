"""Who reaches whom by the NetworkPolicies of some objects, as a network plug-in that enforces them decides."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

from manifests import Object, clusters, of_kind, ray_jobs, title

HERE = "fmnist"


@dataclass(frozen=True)
class End:
    """One end of a connection.

    Attributes:
        name: says what it is.
        labels: of a pod.
        namespace: of a pod; empty for a machine outside of the cluster.
        address: of such a machine, or of a pod whose address matters.
        cluster: the name of the RayCluster, RayJob or RayCronJob that a pod belongs to; empty for others.
    """

    name: str
    labels: dict[str, str] = field(default_factory=dict)
    namespace: str = ""
    address: str = ""
    cluster: str = ""


def ends(objects: tuple[Object, ...]) -> list[End]:
    """Every pod of the objects, with the labels that KubeRay or Kubernetes adds to those of its template."""
    found = []
    for owner, cluster in clusters(objects):
        name = owner.partition(" ")[2]
        # A RayJob's cluster has the job's name and a random end.
        of_ray = {"ray.io/cluster": name if owner.startswith("RayCluster") else f"{name}-x7k2p"}
        for kind, group in (("head", cluster["headGroupSpec"]), *(("worker", g) for g in cluster["workerGroupSpecs"])):
            labels = group["template"]["metadata"]["labels"] | of_ray | {"ray.io/node-type": kind}
            found.append(End(f"{owner}, {kind}", labels, HERE, cluster=name))
    for owner, job in ray_jobs(objects):
        labels = job["submitterPodTemplate"]["metadata"]["labels"]
        found.append(End(f"{owner}, submitter", labels, HERE, cluster=owner.partition(" ")[2]))
    for one in of_kind(objects, "StatefulSet") + of_kind(objects, "Job"):
        found.append(End(title(one), one["spec"]["template"]["metadata"]["labels"], HERE))
    return found


def reaches(objects: tuple[Object, ...], source: End, target: End, port: int, protocol: str = "TCP") -> bool:
    """Whether the policies let a connection from one end to the other through."""
    return _open(objects, "egress", "to", source, target, port, protocol) and _open(
        objects, "ingress", "from", target, source, port, protocol
    )


def _open(
    objects: tuple[Object, ...], direction: str, key: str, end: End, other: End, port: int, protocol: str
) -> bool:
    """Whether one end's policies of a direction let the other one through; no such policy lets everybody through."""
    if end.namespace != HERE:
        return True
    policies = [
        policy["spec"]
        for policy in of_kind(objects, "NetworkPolicy")
        if direction.capitalize() in policy["spec"]["policyTypes"]
        and selects(policy["spec"]["podSelector"], end.labels)
    ]
    rules = [rule for policy in policies for rule in policy.get(direction, [])]
    return not policies or any(
        any(_is_peer(peer, other) for peer in rule[key])
        and ("ports" not in rule or any(_is_port(each, port, protocol) for each in rule["ports"]))
        for rule in rules
    )


def _is_port(allowed: Object, port: int, protocol: str) -> bool:
    return bool(allowed["port"] == port and allowed.get("protocol", "TCP") == protocol)


def _is_peer(peer: Object, end: End) -> bool:
    if "ipBlock" in peer:
        if not end.address:
            return False
        address = ipaddress.ip_address(end.address)
        inside = [address in ipaddress.ip_network(block) for block in peer["ipBlock"].get("except", [])]
        return address in ipaddress.ip_network(peer["ipBlock"]["cidr"]) and not any(inside)
    if "namespaceSelector" in peer:
        if not selects(peer["namespaceSelector"], {"kubernetes.io/metadata.name": end.namespace}):
            return False
    elif end.namespace != HERE:
        return False
    return bool(end.namespace) and selects(peer.get("podSelector", {}), end.labels)


def selects(selector: Object, labels: dict[str, str]) -> bool:
    """Whether a label selector of Kubernetes selects what has the labels."""
    assert selector.keys() <= {"matchLabels", "matchExpressions"}
    for key, value in selector.get("matchLabels", {}).items():
        if labels.get(key) != value:
            return False
    for rule in selector.get("matchExpressions", []):
        value = labels.get(rule["key"])
        held = {
            "In": value in rule.get("values", []),
            "NotIn": value not in rule.get("values", []),
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }
        if not held[rule["operator"]]:
            return False
    return True
