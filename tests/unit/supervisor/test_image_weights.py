"""What images weigh, and share."""

from runtime.images.errors import StoreCorrupted
from runtime.images.model import Blob, Image, Layer
from supervisor import image_weights


class Store:
    """Layers of so many bytes, each with an archive of a tenth."""

    def __init__(self, **images):
        self._images = images

    def images(self):
        return [
            Image(name, (), 0, 7, {}, "amd64", "linux", tuple(layers), built_in=not layers)
            for name, layers in self._images.items()
        ]

    def layers_of(self, image):
        if "damaged" in image.diff_ids:
            raise StoreCorrupted("no layer.json")
        return [
            Layer(one, int(one[1:]), Blob(one, int(one[1:]) // 10, "") if one[0] != "x" else None)
            for one in image.diff_ids
        ]


def test_each_layer_counts_once():
    found = image_weights.weigh(Store(a=["s100", "a20"], b=["s100", "x30", "x30"], host=[]))
    assert found.images() == {"a", "b", "host"}
    assert found.total() == 110 + 22 + 30 + 7
    assert [found.of(one) for one in ("a", "b", "host", "gone")] == [132, 140, 7, 0]
    assert [found.shared(one) for one in ("a", "b", "host", "gone")] == [110, 110, 0, 0]
    assert found.shared_files("b") == 100
    assert found.archives("a") == 12


def test_what_goes_is_what_nobody_else_has():
    found = image_weights.weigh(Store(a=["s100", "a20"], b=["s100"], c=["s100", "x5"]))
    assert found.freed_with(["a"]) == 22
    assert found.freed_with(["a", "b"]) == 22
    assert found.freed_with(["a", "b", "c"]) == 137
    assert found.freed_with([]) == 0


def test_a_damaged_image_weighs_nothing():
    found = image_weights.weigh(Store(a=["a20"], bad=["a20", "damaged"]))
    assert (found.images(), found.total()) == ({"a"}, 22)
