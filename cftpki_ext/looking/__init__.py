"""
What is known, gathered from the stores, the configuration and the running service: for commands and for the console alike.

Reads only, prints nothing; a service that runs is not disturbed.
"""
