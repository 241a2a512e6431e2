"""
The guarded HTTP client of the status sources: permission, addresses, pools, breakers, caps.
"""
