"""`stats`: what a sample says, and how it is shown."""

import json

import pytest

from mdocker import stats_rows


def cpu(used, machine, cpus=2):
    return {"cpu_usage": {"total_usage": used}, "system_cpu_usage": machine, "online_cpus": cpus}


NOTHING = {"cpu_usage": {"total_usage": 0}}


def sample(name="bird", used=(100, 150), memory=None, state="running", **more):
    return {
        "id": "a" * 64,
        "name": f"/{name}",
        "State": state,
        "precpu_stats": cpu(used[0], 1000),
        "cpu_stats": cpu(used[1], 1200),
        "memory_stats": memory or {"usage": 3 << 20, "limit": 8 << 20, "stats": {}},
        "pids_stats": {"current": 4},
        "blkio_stats": {"io_service_bytes_recursive": None},
        **more,
    }


def stopped(name="dead"):
    return sample(name, state="exited", cpu_stats=NOTHING, precpu_stats=NOTHING, pids_stats={}) | {
        "memory_stats": {}
    }


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (
            sample(),
            {"CPUPerc": "50.00%", "MemUsage": "3MiB / 8MiB", "MemPerc": "37.50%", "PIDs": "4",
             "NetIO": "--", "BlockIO": "--", "Name": "bird", "ID": "a" * 12},
        ),
        (sample(used=(150, 100)), {"CPUPerc": "0.00%"}),
        (sample(precpu_stats=NOTHING), {"CPUPerc": "--"}),
        (stopped(), {"CPUPerc": "--", "MemUsage": "--", "MemPerc": "--", "PIDs": "--"}),
        (
            sample(memory={"usage": 5000, "limit": 10000, "stats": {"inactive_file": 1000}}),
            {"MemUsage": "3.906KiB / 9.766KiB", "MemPerc": "40.00%"},
        ),
        (
            sample(memory={"usage": 5000, "limit": 0, "stats": {"total_inactive_file": 4000,
                                                                "inactive_file": 1}}),
            {"MemUsage": "1000B / 0B", "MemPerc": "0.00%"},
        ),
        (
            sample(networks={"eth0": {"rx_bytes": 1500, "tx_bytes": 1}, "x": {"rx_bytes": 5}}),
            {"NetIO": "1.5kB / 1B"},
        ),
        (
            sample(blkio_stats={"io_service_bytes_recursive": [
                {"op": "read", "value": 123456}, {"op": "Write", "value": 7},
                {"op": "Total", "value": 9}]}),
            {"BlockIO": "123kB / 7B"},
        ),
    ],
)  # fmt: skip
def test_what_a_sample_says(given, shown):
    row = stats_rows.row(given, no_trunc=False)
    assert {name: row[name] for name in shown} == shown
    assert set(row) == set(stats_rows.HEADINGS)


def test_bars_are_full_at_a_hundred():
    drawn = [stats_rows.bar(value, blocks=True) for value in (None, 0, 1.3, 50, 99.9, 250)]
    assert drawn == ["", "", "▏", "█" * 5, "█" * 10, "█" * 10]
    assert stats_rows.bar(55, blocks=False) == "#####"
    colours = [stats_rows.load_colour(value) for value in (None, 59, 60, 85)]
    assert colours == ["32", "32", "33", "31"]


def test_the_picture_is_in_columns_and_its_colours_have_no_width():
    samples = [sample(), stopped()]
    plain = stats_rows.pictured(samples, no_trunc=False, blocks=True, colour=False, width=130)
    lines = plain.splitlines()
    assert lines[1].index("50.00% █████") == lines[0].index("CPU %") + 2
    assert "dead (exited)" in lines[2]
    painted = stats_rows.pictured(samples, no_trunc=False, blocks=True, colour=True, width=130)
    assert "\x1b[32m" in painted
    assert [line.rstrip() for line in uncoloured(painted).splitlines()] == lines


def test_the_picture_is_without_bars_where_they_would_push_columns_out_of_sight():
    given = {"no_trunc": False, "blocks": True, "colour": False}
    wide = stats_rows.pictured([sample()], **given, width=130)
    needed = max(map(len, wide.splitlines()))
    assert stats_rows.pictured([sample()], **given, width=needed) == wide
    narrow = stats_rows.pictured([sample()], **given, width=needed - 1)
    assert "█" not in narrow
    assert max(map(len, narrow.splitlines())) < needed - 10
    assert [line.split()[-1] for line in narrow.splitlines()] == ["PIDS", "4"]
    narrower = stats_rows.pictured([sample()], **given, width=20)
    assert max(map(len, narrower.splitlines())) < max(map(len, narrow.splitlines())) - 10


def uncoloured(text):
    import re

    return re.sub(r"\x1b\[\d+m", "", text)


def test_once(engine, mdocker):
    engine.json("GET", "/mdocker/stats", [sample(), stopped()])
    result = mdocker("stats", "--no-stream", "--all", "bird", "dead")
    assert result.code == 0
    assert [line.split()[1] for line in result.out.splitlines()[1:]] == ["bird", "dead"]
    assert engine.requests[-1][2] == {"names": "bird,dead", "all": "1", "stream": "0"}
    result = mdocker("stats", "--no-stream", "--format", "{{.Name}} {{.CPUPerc}}")
    assert result.out == "bird 50.00%\ndead --\n"
    result = mdocker("stats", "--no-stream", "--format", "json")
    assert [json.loads(line)["PIDs"] for line in result.out.splitlines()] == ["4", "--"]
    engine.refuse("GET", "/mdocker/stats", 404, "No such container: ghost")
    assert mdocker("stats", "ghost") == (1, "", "mdocker: No such container: ghost\n")


def test_round_after_round_and_over_a_death_of_the_engine(engine, mdocker):
    asked = []

    def rounds(call):
        asked.append(1)
        call.begin("application/json")
        line = json.dumps([sample(f"round{len(asked)}")]).encode() + b"\n"
        call.chunk(line[:9])
        call.chunk(line[9:] + line)
        if len(asked) > 1:
            call.finish_chunks()
        call.close_connection = True

    engine.on("GET", "/mdocker/stats", rounds)
    result = mdocker("stats", "--format", "{{.Name}}")
    assert result.code == 0, result.err
    assert result.out.split() == ["round1", "round1", "round2", "round2"]
    asked.clear()
    result = mdocker("stats")
    assert result.out.count("\n\nCONTAINER ID") == 3
