"""
How late a busy machine may be, for tests that tell "at the deadline" from "much later" by the clock.

What the product bounds is bounded by the wall clock, so a test has to look at one; but a process that waits for its
turn is late through no fault of its own. What a test tells apart must lie further apart than this. Work that must be
little is measured in CPU time (`time.process_time`), which others' work does not lengthen.
"""

LATE_S = 4.0
