"""
Notices to people: by a webhook, by mail, to the system log.
"""
