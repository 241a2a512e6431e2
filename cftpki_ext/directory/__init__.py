"""
A partner in a directory: searched for by its certificate, and its entry compared with what is demanded of it. Pure.
"""
