"""
One node among the others of a cluster: whether it is heard, and what it hears.
"""
