"""A Ray cluster of this machine, in a process of its own: says its address, and loses a working node when it is told.

stdin   a line: a node that works is killed, and another one comes, unless it is lost --for-good
stdout  the address, and `lost` when it is done
"""

import argparse
import sys

from ray.cluster_utils import Cluster


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--nodes", type=int, default=1, help="that work, with one core each")
    parser.add_argument("--for-good", action="store_true", help="no other node comes for one that was lost")
    asked = parser.parse_args()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    working = [cluster.add_node(num_cpus=1) for _ in range(asked.nodes)]
    cluster.wait_for_nodes()
    print(cluster.address, flush=True)
    for _ in sys.stdin:
        cluster.remove_node(working.pop(), allow_graceful=False)
        if not asked.for_good:
            working.append(cluster.add_node(num_cpus=1))
        print("lost", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()
