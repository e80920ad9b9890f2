"""dispy: run one function or program many times over your own machines.

cluster = dispy.JobCluster(compute)
job = cluster.submit(x)
result = job()
"""

__version__ = "5.0.0a1"

from dispy import config
from dispy.cluster import JobCluster
from dispy.job import DispyJob
from dispy.logger import logger
from dispy.model import OPEN
from dispy.nodes import NodeAllocate
from dispy.status import ClusterStatus, DispyNode, DispyNodeAvailInfo

__all__ = [
    "OPEN",
    "ClusterStatus",
    "DispyJob",
    "DispyNode",
    "DispyNodeAvailInfo",
    "JobCluster",
    "NodeAllocate",
    "__version__",
    "config",
    "logger",
]
