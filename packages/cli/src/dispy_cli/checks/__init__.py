"""What ``dispy doctor`` looks at; each check gives findings, changes nothing, and raises nothing.

finding       what a check gives: how bad it is, what it is, and what to do
installation  versions, plugins, other programs of the same name
keys          who may take part, and where the key is from
folders       whether others can get at keys and state
network       addresses, the port, nodes that were named, firewalls
confinement   whether jobs can be confined here
"""
