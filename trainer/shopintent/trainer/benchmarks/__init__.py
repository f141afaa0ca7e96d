"""Named benchmarks: one command each, on data that others have published results on."""
