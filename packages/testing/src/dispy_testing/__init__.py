"""For dispy's own tests and those of its plugins.

contracts   what every transport, executor, fault policy and command must do, as plain functions
memory      a transport without a network, whose delays, breaks and partitions a test controls
strategies  Hypothesis strategies for messages
"""
