"""The tree of refusals: each has a status that the Engine API knows, and is in the drawing."""

from supervisor import errors


def tree(of=errors.EngineError):
    for child in of.__subclasses__():
        yield child
        yield from tree(child)


def test_every_refusal_has_a_status_and_stands_in_the_drawing():
    found = [kind for kind in tree() if kind.__module__ == errors.__name__]
    assert len(found) >= 9
    for kind in found:
        assert kind.status in (400, 404, 409, 500, 501)
        assert kind.__name__ in errors.__doc__
        assert kind.__doc__
