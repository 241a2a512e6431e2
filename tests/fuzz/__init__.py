"""
Coverage-guided fuzzing of every parser: one target per parser in `targets`, run by `make fuzz`.
"""
