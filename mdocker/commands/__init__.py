"""One function for each command; nothing here is imported before it is typed."""
