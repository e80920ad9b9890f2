"""For dispy's own tests and those of its plugins.

contracts   what every transport, executor, fault policy and command must do, as plain functions
memory      a transport without a network, whose delays, breaks and partitions a test controls
simulation  whole clusters in virtual time, decided by a seed, while things go wrong
strategies  Hypothesis strategies for messages
"""
