"""The client side of registries (OCI distribution specification): what pull and push ask of one."""
