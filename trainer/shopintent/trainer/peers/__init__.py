"""Other people's trainers, run beside ours for comparison, each in a process of its own.

Their packages live in an environment of their own (`make peers`), since they need numpy 1. Files
and lines of JSON go between the processes; modules named `*_engine` and `worker` run over there,
so they import nothing but numpy, torch and what they compare.
"""
