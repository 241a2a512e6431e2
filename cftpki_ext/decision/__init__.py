"""
The decision: from a chain and statements about it to a verdict, by rules and policy. Pure.
"""
