"""
What the service tells of itself to monitoring: what it counts, how its sources stand, and who serves it.
"""
