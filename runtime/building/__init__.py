"""What a build does with files: in helper processes that reach nothing but what they need."""
