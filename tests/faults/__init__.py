"""Programs that are killed, stopped, doubled, and run out of disk: what they leave, and where the same command ends.

Few faults in the suite; many with ``FAULTS=long``. What is promised stands in docs/reliability.md.
"""
