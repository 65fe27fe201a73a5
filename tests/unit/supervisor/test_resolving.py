"""/etc/hosts and resolv.conf with what was asked for."""

import pytest

from supervisor.resolving import Resolving, hosts, resolv_conf

MACHINES = (
    b"# made by hand\ndomain wood\nnameserver 10.0.0.1\nnameserver 10.0.0.2\noptions rotate\n"
)


def test_hosts_come_below_the_others():
    asked = Resolving(extra_hosts=("db:10.0.0.5", "six:fe80::1", "out:host-gateway"))
    added = b"10.0.0.5\tdb\nfe80::1\tsix\n127.0.0.1\tout\n"
    assert hosts(b"127.0.0.1\tlocalhost\n", asked) == b"127.0.0.1\tlocalhost\n" + added
    assert hosts(b"1.1.1.1 no-end", asked) == b"1.1.1.1 no-end\n" + added
    assert hosts(b"", asked) == added
    assert hosts(b"1.1.1.1 no-end", Resolving()) == b"1.1.1.1 no-end"


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        (Resolving(), MACHINES),
        (
            Resolving(servers=("1.1.1.1", "::1")),
            b"# made by hand\ndomain wood\noptions rotate\nnameserver 1.1.1.1\nnameserver ::1\n",
        ),
        (
            Resolving(search=("a.wood", "b"), options=("ndots:2", "rotate")),
            b"# made by hand\nnameserver 10.0.0.1\nnameserver 10.0.0.2\nsearch a.wood b\n"
            b"options ndots:2 rotate\n",
        ),
        (
            Resolving(search=(".",)),
            b"# made by hand\nnameserver 10.0.0.1\nnameserver 10.0.0.2\noptions rotate\n",
        ),
    ],
)
def test_lines_are_replaced_of_which_something_was_asked(asked, text):
    assert resolv_conf(MACHINES, asked) == text
