"""Confinement of jobs, as the node's owner wants it: each kind is an executor that changes the plan of another.

    confinement  the ones that were asked for, in their order; checked and tried out when the node starts
    user         jobs run as another user
    cgroup       jobs together get no more than so much memory and so many processes
    bubblewrap   jobs see a read-only system, and none of the owner's files
    accounts     what is known of a user
    enter        the step from the node to a confined process

A *plan* is how a runner is started (`dispy.interfaces.ExecutorPlan`). Control group and user are fields of it,
since they are entered from outside to inside in this order, whatever order they were asked for in; the sandbox is
a longer command.
"""
