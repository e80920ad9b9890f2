"""The runner: a fresh interpreter that runs the jobs of one computation, each in a process of its own.

Vocabulary: the *daemon* started the runner and talks to it in frames (`frames`) over the *control* socket. A
*child* is a process that the runner has forked; it gets *records* (jobs) from the runner over its *channel* and
sends *replies* (`replies`). With isolation "process" a child runs one job and ends; with "worker" it runs many.
*Idle* children are forked ahead of need. *Strangers* are processes below an ended child that have left its group.

    main        the loop: frames in, frames out, one epoll for everything
    pool        which child gets which job; results, deaths, cancellation
    offspring   a child as the runner sees it, and the fork
    spawning    children that are not forked: fresh interpreters; `spawned` is how these begin
    handover    what setup has made of global variables, for those
    child       a child as itself sees it: waits for jobs, runs them, answers
    call        one call of the function, and what it came to
    desk        where programs speak while they run; `tell` is the command by which they do
    namespace   the code bundle becomes a callable

The cost of a fork grows with the memory of the process that forks (about a third of a fork per imported
megabyte), so nothing here imports what it can do without: `bare` tells how.
"""
