"""Finds nodes on local networks: `dispy_discovery_udp.discovery` is the plugin, `engine` what decides."""
