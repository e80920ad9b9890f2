"""The protocol without I/O: bytes to messages and back."""
