"""The graph that serves: what the trained network and heads say, in far fewer operations.

What is trained and what is fitted is written for training, and to be read. Here the same numbers
are worked out for one request of every behavior: constants are multiplied out, small steps are
gathered into large ones, and nothing is computed that no answer reads. Publishing compares both.
"""
