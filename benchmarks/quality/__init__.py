"""How many VMs each policy places: the policies compared, on simulated demand.

    python -m benchmarks.quality run        # resumes; --shard 1/4 runs a quarter
    python -m benchmarks.quality run --trace FILE   # also a recorded trace, which stays where it is
    python -m benchmarks.quality report     # claims, tables and plots from what is stored

Results are stored first (``benchmarks/results/quality``); everything said about them is made from
there.
"""
