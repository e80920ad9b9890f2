"""A secret that participants share, a key or a passphrase, turned into the credentials that they show each other."""
