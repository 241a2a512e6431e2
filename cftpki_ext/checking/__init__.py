"""
Checking one chain: the decision, and the collection of the statements that it rests on.
"""
