"""What moving VMs is worth: requests that fit after a move or two, beside a greedy mover.

    python -m benchmarks.defrag                  # 7 mixes, loads .85 and 1.0, one to three moves
    python -m benchmarks.defrag --quick --output json
    python -m benchmarks.defrag exact            # the number of moves, beside an exhaustive search
    python -m benchmarks.defrag size             # plans for fifty things at once, to 4,000 GPUs

100 H100; a request that fits nowhere, but would if everything could be moved, is admitted where at
most so many moves make room for it. ``closed`` is how much of the way from MFI to free, unlimited
migration (repack) is gone, in accepted memory slices.
"""
