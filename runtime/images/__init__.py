"""Images: what is in the store, how a tar becomes one, and the built-in image `host`.

store               the front
contents, adding    what a store holds at one moment; how an image gets into it
catalogue           the list of images and names on disk
blobs, layers       what is known by its digest; what is unpacked
holding             layers in hand, that belong to no image yet
model               Image, Layer, RootfsLayers, what a delete did
configuration       the image configuration blob
lookup              which image a name or an id means
references          names as people write them, normalised as Docker does
removal             Docker's rules for `rmi`
errors              what is refused, with the HTTP status that fits
host, host_tree     the built-in image over this machine's /usr, and its generated /etc
changes, words      Dockerfile instructions that alter an image's configuration
unpacking           the parent's half of unpacking: start, finish, abort
unpacker            the child's half: confined first (confined_child, confinement), then parsing
tar_source          bytes in, kept, decompressed and hashed
extraction          tar entries become files; checked by entry_names, entry_numbers, attributes
long_paths          places deeper than PATH_MAX
checking            is the store what it should be? The parent's half
layer_checker       the child's half: a layer (comparison) and its archive (expectation)
trees               removing what archives made, however deep
durable             files that survive a power cut
"""
