"""The environment variables that a runner and its jobs get.

Without confinement, jobs can do what the node's user can, and get the variables that the user has, as the libraries
that they use may expect. Confined jobs get those of a list: of the rest nobody knows which are secrets.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from dispy.errors import UsageError
from dispy.interfaces import ExecutorPlan

OWN_PREFIX = "DISPY_"
"""How all variables begin that dispy reads, secrets among them: jobs get none but those that their runner needs."""

LANGUAGE_PREFIX = "LC_"

_PASSED = """
PATH HOME USER LOGNAME SHELL LANG LANGUAGE TZ
LD_LIBRARY_PATH VIRTUAL_ENV CONDA_PREFIX SSL_CERT_FILE SSL_CERT_DIR
PYTHONPATH PYTHONHOME PYTHONPLATLIBDIR PYTHONSAFEPATH PYTHONNOUSERSITE PYTHONUSERBASE PYTHONPYCACHEPREFIX
PYTHONDONTWRITEBYTECODE PYTHONOPTIMIZE PYTHONUNBUFFERED PYTHONUTF8 PYTHONIOENCODING PYTHONHASHSEED
PYTHONWARNINGS PYTHONFAULTHANDLER PYTHONMALLOC MALLOC_ARENA_MAX
OMP_NUM_THREADS MKL_NUM_THREADS OPENBLAS_NUM_THREADS BLIS_NUM_THREADS NUMEXPR_NUM_THREADS
CUDA_HOME CUDA_PATH CUDA_DEVICE_ORDER CUDA_VISIBLE_DEVICES NVIDIA_VISIBLE_DEVICES NVIDIA_DRIVER_CAPABILITIES
ROCR_VISIBLE_DEVICES HIP_VISIBLE_DEVICES ZE_AFFINITY_MASK
"""

PASSED = frozenset(_PASSED.split())
"""What confined jobs get of the node's variables, besides those that begin with `LANGUAGE_PREFIX`: what tells where
programs and Python's modules are, the language, and which processors to use; see docs/command-line.md."""


def runner_environment(
    inherited: Mapping[str, str],
    plan: ExecutorPlan,
    own: Mapping[str, str],
    let_through: Collection[str] | None = None,
) -> dict[str, str]:
    """Make the environment of a runner.

    Args:
        inherited: what the node has.
        plan: how it is run; its variables win over those of the node.
        own: what the node tells the runner; wins over everything.
        let_through: names of what confined jobs get besides `PASSED`; None: they are not confined, and get all.
    """
    kept = {name: value for name, value in inherited.items() if not name.startswith(OWN_PREFIX)}
    if let_through is not None or plan.user:  # much of the rest is wrong for another user
        passed = PASSED.union(let_through or ())
        kept = {
            name: value for name, value in kept.items() if name in passed or name.startswith(LANGUAGE_PREFIX)
        }
    return {**kept, **plan.environment, **own}


def check_names(names: Collection[str]) -> frozenset[str]:
    """Return the names of variables that the node's owner lets through to confined jobs.

    Raises:
        UsageError: one is none, or is dispy's own, and may hold the key.
    """
    for name in names:
        if not name or "=" in name or "\0" in name:
            raise UsageError(f"--env {name!r} is no name of a variable; write --env NAME, without a value")
        if name.startswith(OWN_PREFIX):
            raise UsageError(f"--env {name} is dispy's own variable, which jobs never get; leave it out")
    return frozenset(names)
