"""The Docker Engine API, v1.24 to v1.50, over a unix socket."""
