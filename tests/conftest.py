"""What holds for every test."""

from hypothesis import settings

# A busy machine is no fault of what is tested: performance is proven by ratios, in benchmarks/.
settings.register_profile("tangram", deadline=None)
settings.load_profile("tangram")
