"""
Telling people what goes wrong without a monitoring system.

`standing` and `heard` say what holds, from the service's state and from its events; `book` decides what is due for one
receiver; both are pure. `driver` sends it.
"""
