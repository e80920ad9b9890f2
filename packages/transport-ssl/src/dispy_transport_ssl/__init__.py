"""TLS for dispy: the way to secure a stream stands in `dispy_transport_ssl.security`."""
