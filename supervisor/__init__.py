"""The async daemon: lifecycle phases as tasks, stop escalation, state on disk, the Engine API."""
