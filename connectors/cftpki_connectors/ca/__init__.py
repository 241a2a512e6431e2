"""
The HTTPS client of the enrollers, and what every table `[enroller.NAME]` has in common.
"""
