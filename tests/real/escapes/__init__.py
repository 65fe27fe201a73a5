"""The field's known escapes, by name: what a hostile payload tries, and where it succeeds."""
