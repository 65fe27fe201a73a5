"""The front: what a person types. Speaks HTTP to the engine's socket, knows nothing else of it."""

__version__ = "0.1.0"
