"""
The machine below us: files with their permissions, programs we start, logs, PEM.
"""
