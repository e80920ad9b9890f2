"""Plain TCP connections for dispy: the transport stands in `dispy_transport_tcp.transport`."""
