"""A Ray cluster of this machine, in a process of its own: says its address, and loses its working node when it is told.

stdin   a line: the node that works is killed, and another one comes
stdout  the address, and `lost` when it is done
"""

import sys

from ray.cluster_utils import Cluster


def main() -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    working = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    print(cluster.address, flush=True)
    for _ in sys.stdin:
        cluster.remove_node(working, allow_graceful=False)
        working = cluster.add_node(num_cpus=1)
        print("lost", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()
