"""System call filters: Docker's profiles become programs for seccomp(2).

The supervisor's side: the shim imports nothing of it, and gets finished programs.
"""
