"""
The exit's ten phases as decisions: request and session in, steps to take out. Pure.
"""
