"""Images between the store and registries: pull and push."""
