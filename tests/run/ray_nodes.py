"""A Ray cluster of two nodes of this machine, the second of which dies and comes back: `python ray_nodes.py`.

It prints its address, takes a line to kill the second node, and another to start it again; the end of its
standard input ends it.
"""

import sys

from ray.cluster_utils import Cluster

MEMORY = 90 << 20
FAR = {"num_cpus": 1, "num_gpus": 0, "resources": {"far": 1}, "object_store_memory": MEMORY}

cluster = Cluster(
    initialize_head=True,
    head_node_args={"num_cpus": 1, "num_gpus": 0, "object_store_memory": MEMORY, "include_dashboard": False},
)
try:
    node = cluster.add_node(**FAR)
    print(cluster.address, flush=True)
    sys.stdin.readline()
    cluster.remove_node(node, allow_graceful=False)
    sys.stdin.readline()
    cluster.add_node(**FAR)
    sys.stdin.read()
finally:
    cluster.shutdown()
