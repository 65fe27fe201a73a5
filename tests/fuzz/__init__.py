"""Fuzzers of what strangers can say to the engine: `make fuzz`. No part of the suite: they run for
minutes, and what they find becomes a test of its own in tests/unit or tests/real."""
