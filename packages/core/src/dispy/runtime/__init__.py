"""The drivers: trio around the engines, sockets, threads.

`link` serves one connection; `dialer` keeps links to the nodes that somebody wants; `embedded` starts a node on
this machine; `driver` carries out what the scheduler engine decides; `thread` runs it all beside the program.
"""
