"""Contract suites: what every plugin of a kind must do.

Each ``check_*`` is a plain function, or an async function to be run by trio; it needs no test framework, and
raises `ContractViolation` (an AssertionError) that names the rule which is broken.
"""

from dispy_testing.contracts.allocators import check_allocator
from dispy_testing.contracts.commands import check_command
from dispy_testing.contracts.credentials import check_credentials
from dispy_testing.contracts.discoveries import check_discovery
from dispy_testing.contracts.executors import check_executor
from dispy_testing.contracts.fault_policies import check_fault_policy
from dispy_testing.contracts.rules import ContractViolation, check_identity
from dispy_testing.contracts.securities import check_security
from dispy_testing.contracts.transports import check_transport

__all__ = [
    "ContractViolation",
    "check_allocator",
    "check_command",
    "check_credentials",
    "check_discovery",
    "check_executor",
    "check_fault_policy",
    "check_identity",
    "check_security",
    "check_transport",
]
