"""A client for tests on several machines: prints what becomes of nodes, and runs a job for each line that it reads.

python client.py NODES [OPTIONS]    (both as JSON)
"""

from __future__ import annotations

import json
import sys
import time

import dispy


def compute(n):
    return n + 1


def changed(status, node, job):
    if job is None:
        names = {dispy.DispyNode.Initialized: "usable", dispy.DispyNode.Closed: "lost"}
        if status in names:
            print(
                f"node {node.name} {names[status]} at {node.ip_addr} after {time.monotonic() - began:.2f} s"
            )


if __name__ == "__main__":
    nodes, options = json.loads(sys.argv[1]), json.loads(sys.argv[2]) if sys.argv[2:] else {}
    began = time.monotonic()
    cluster = dispy.JobCluster(compute, nodes=nodes, cluster_status=changed, reentrant=True, **options)
    print("looking")
    for line in sys.stdin:
        if line.strip() == "explain":
            print(cluster.explain())
            print("explained")
        elif line.startswith("allocate "):
            cluster.allocate_node(line.split()[1])
        else:
            asked = time.monotonic()
            job = cluster.submit(int(line))
            print(f"result {job()} from {job.ip_addr} after {time.monotonic() - asked:.2f} s")
