"""The kernel side: synchronous, standard library only, no event loop, no logging."""
