"""The benchmarks: one script a question, ours beside each installed peer and a floor in C.

`python -m bench` runs all of them quickly, `python -m bench --full` at length, and
`python -m bench.start` (many, memory, stop, recover, log_throughput, logs_read, follow, ps,
idle_cpu, cli_start) answers one question. What is measured is kept as JSON in bench/results.
"""
