"""What the gateway costs, measured beside what people would use otherwise.

``python -m tests.bench --help`` tells how to run it. A part is in a file of its own: it opens the
servers it needs and names its subjects, which are then measured in turn, round after round.
"""
