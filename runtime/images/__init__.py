"""Images: what is in the store, how a tar becomes one, and the built-in image `host`.

errors       what is refused, with the HTTP status that fits
references   names as people write them, normalised as Docker does
changes      Dockerfile instructions that alter an image's configuration
model        Image, RootfsLayers, what a delete did
store        the front: ImageStore
catalogue    the list of images and tags on disk (repositories.json)
removal      Docker's rules for `rmi`, pure
host         the built-in image: a generated /etc and tree over this machine's /usr
importing    the parent's half of an import: start, finish, abort
unpacker     the child's half: chroot first, then parse
tar_source   bytes in, decompressed and hashed
extraction   tar entries become files
confinement  chroot, capabilities, limits of the child
durable      files that survive a power cut
"""
