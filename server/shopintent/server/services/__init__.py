"""Proto in, proto out: one file for each proto service."""
