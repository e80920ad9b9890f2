"""How the owner of a node that runs asks it something: a socket in its folder, and lines of JSON.

place     where the socket is, and who is at its other end
server    the node's side: one answer for each line
operator  what can be asked for: status, cpus, drain, stop
client    the other side: finds the nodes of this user, and asks
command   ``dispy node status``, ``cpus``, ``drain``, ``stop``
"""
