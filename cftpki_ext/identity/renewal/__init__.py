"""
Renewal over time: when, by which enroller, with which hooks, and what operators see of it.
"""
